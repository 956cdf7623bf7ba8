//! Linux: futex, thread and process ids, and the hook after fork.

#[cfg(not(loom))]
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
    time::Duration,
};

#[cfg(not(loom))]
use crate::primitives::FutexWake;
#[cfg(not(loom))]
use rustix::{
    fs::{self, MemfdFlags},
    io::Errno,
    mm::{self, MapFlags, ProtFlags},
    thread::futex::{self, Flags, Timespec},
};

/// Sleeps while `word`, which no other process sees, is `expected`, at most `timeout`.
#[cfg(not(loom))]
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> FutexWake {
    wait_on(word, Flags::PRIVATE, expected, timeout)
}

/// As [`futex_wait`], for a word that other processes may see.
#[cfg(not(loom))]
pub(crate) fn shared_futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> FutexWake {
    wait_on(word, Flags::empty(), expected, timeout)
}

#[cfg(not(loom))]
fn wait_on(word: &AtomicU32, flags: Flags, expected: u32, timeout: Option<Duration>) -> FutexWake {
    // A time beyond what the kernel counts (292 years) is no limit at all.
    let limit = timeout.and_then(|t| Timespec::try_from(t).ok());
    match futex::wait(word, flags, expected, limit.as_ref()) {
        Err(Errno::TIMEDOUT) => FutexWake::TimedOut,
        Err(Errno::INTR) => FutexWake::Interrupted,
        // EAGAIN: the word had changed already. Nothing else can be wrong with a valid word.
        Ok(()) | Err(_) => FutexWake::Look,
    }
}

#[cfg(not(loom))]
pub(crate) fn futex_wake_one(word: &AtomicU32) {
    // It fails only for an invalid address, which a reference is not.
    let _ = futex::wake(word, Flags::PRIVATE, 1);
}

/// Wakes whoever sleeps on a word that other processes may see.
#[cfg(not(loom))]
pub(crate) fn shared_futex_wake(word: &AtomicU32) {
    // As above.
    let _ = futex::wake(word, Flags::empty(), u32::MAX);
}

/// Anonymous memory that other processes can map too.
#[cfg(not(loom))]
pub(crate) struct SharedMemory {
    descriptor: OwnedFd,
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: it gives out references to atomics alone, which any thread may use, and unmaps when it is dropped, which any
// thread may do.
#[cfg(not(loom))]
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Sync for SharedMemory {}

#[cfg(not(loom))]
impl SharedMemory {
    pub(crate) fn new(words: usize) -> io::Result<Self> {
        // Sealed in size: no process that has the descriptor can cut it short under the others, which would kill them.
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = fs::memfd_create("raddle", flags)?;
        fs::ftruncate(&descriptor, Self::bytes(words)? as u64)?;
        fs::fcntl_add_seals(&descriptor, fs::SealFlags::SHRINK | fs::SealFlags::GROW | fs::SealFlags::SEAL)?;
        Self::map(descriptor, words)
    }

    pub(crate) fn open(descriptor: OwnedFd, words: usize) -> io::Result<Self> {
        // A file that is shorter, or could become so, would end this process with SIGBUS.
        let is_sealed = fs::fcntl_get_seals(&descriptor)?.contains(fs::SealFlags::SHRINK);
        if !is_sealed || (fs::fstat(&descriptor)?.st_size as u64) < Self::bytes(words)? as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not the shared memory of a pool"));
        }
        Self::map(descriptor, words)
    }

    fn bytes(words: usize) -> io::Result<usize> {
        let bytes = words.checked_mul(size_of::<AtomicU64>()).filter(|bytes| *bytes > 0);
        bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "shared memory has a length"))
    }

    fn map(descriptor: OwnedFd, words: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place, so nothing else is unmapped; the length is not 0.
        let start =
            unsafe { mm::mmap(std::ptr::null_mut(), Self::bytes(words)?, access, MapFlags::SHARED, &descriptor, 0)? };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("the system maps nothing at null"))?;
        Ok(Self { descriptor, start, words })
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is as long as that, aligned to a page, lives as long as `self`, and its size is sealed. All
        // bits are valid for an atomic, and all access, in this process and others, is atomic.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// The first half of a word, which is used for nothing else.
    pub(crate) fn half_word(&self, index: usize) -> &AtomicU32 {
        let word = std::ptr::from_ref(&self.words()[index]).cast::<AtomicU32>();
        // SAFETY: it lies within the word and is aligned as that is; whoever uses a word by halves does so always.
        unsafe { &*word }
    }
}

#[cfg(not(loom))]
impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and what was borrowed from it is gone. It cannot fail for a mapping that is there.
        let _ = unsafe { mm::munmap(self.start.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}

/// Nanoseconds of the monotonic clock, which all processes of a machine share.
#[cfg(not(loom))]
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The clock counts from the start of the machine, upwards.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The core on which the calling thread runs: it may run on another in the next moment.
#[cfg(not(loom))]
pub(crate) fn current_core() -> usize {
    rustix::thread::sched_getcpu()
}

/// Has the calling thread go on on another core, if it may use more than this one; afterwards it may use the same as before.
#[cfg(not(loom))]
pub(crate) fn leave_core() {
    use rustix::thread::{sched_getaffinity, sched_setaffinity};
    // It fails on a machine of more cores than the set can hold: then the thread stays.
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut others = allowed;
    others.unset(current_core());
    // Without another core that it may use, this fails.
    if sched_setaffinity(None, &others).is_ok() {
        let _ = sched_setaffinity(None, &allowed);
    }
}

/// Ends this process without running anything else of it.
#[cfg(not(loom))]
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: _exit takes any code and does not return.
    unsafe { libc::_exit(code) }
}

/// Another process, by a descriptor: its number may be another's by now, the descriptor never is.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct ProcessHandle(OwnedFd);

#[cfg(not(loom))]
impl ProcessHandle {
    pub(crate) fn open(process: u32) -> io::Result<Self> {
        open_process(process).map(Self)
    }

    /// One that can be watched by a descriptor, and not killed.
    pub(crate) fn watching(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Blocks until it has ended.
    pub(crate) fn wait_ended(&self) {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        while poll(&mut watched, None) == Err(Errno::INTR) {}
    }

    /// Ends it at once. One that has ended already stays so.
    pub(crate) fn kill(&self) {
        // It fails only for a process that is gone, or belongs to somebody else: nothing is left to be done then.
        let _ = rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL);
    }
}

/// A descriptor of a process, which becomes readable when that has ended.
///
/// # Errors
/// There is none of this number.
#[cfg(not(loom))]
pub fn open_process(process: u32) -> io::Result<OwnedFd> {
    let number = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    let number = number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no process has this number"))?;
    Ok(rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())?)
}

/// Sends a signal to the process of a descriptor.
///
/// # Errors
/// It has ended, or belongs to somebody else; or the system knows no such signal.
#[cfg(not(loom))]
pub fn signal_process(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let signal = rustix::process::Signal::from_named_raw(signal)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no signal has this number"))?;
    Ok(rustix::process::pidfd_send_signal(process, signal)?)
}

/// An empty file in memory, which is gone with its last descriptor.
///
/// # Errors
/// The system's.
#[cfg(not(loom))]
pub fn memory_file() -> io::Result<OwnedFd> {
    Ok(fs::memfd_create("raddle", MemfdFlags::CLOEXEC)?)
}

#[cfg(not(loom))]
impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A counter that can be polled: somewhere to sleep beside other descriptors.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

#[cfg(not(loom))]
impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes whoever polls it.
    pub(crate) fn ring(&self) {
        write_eventfd(self.0.as_fd());
    }

    /// Takes the rings so far.
    pub(crate) fn quiet(&self) {
        // It fails if nobody has rung.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

#[cfg(not(loom))]
impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Adds one to an eventfd.
#[cfg(not(loom))]
pub(crate) fn write_eventfd(descriptor: BorrowedFd<'_>) {
    // It fails if the counter is full, and then it need not be counted up to be readable.
    let _ = rustix::io::write(descriptor, &1_u64.to_ne_bytes());
}

/// Sleeps until one of the descriptors can be read, a signal handler has run, or the time is over; tells which can be read.
#[cfg(not(loom))]
pub(crate) fn poll_readable(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Vec<bool> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut watched: Vec<_> = descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let limit = timeout.and_then(|t| Timespec::try_from(t).ok());
    match poll(&mut watched, limit.as_ref()) {
        Ok(_) => watched.iter().map(|fd| !fd.revents().is_empty()).collect(),
        // Interrupted, or out of memory: the caller looks at everything, and comes back.
        Err(_) => vec![false; descriptors.len()],
    }
}

/// Leaves Ctrl-C to others, in this process and in what it starts.
#[cfg(all(not(loom), feature = "processes"))]
pub(crate) fn ignore_interrupts() {
    // SAFETY: to ignore a signal runs no handler; it cannot fail for this one.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Waits for the end of a child: its exit code, or the negative number of the signal that ended it, and the most bytes of
/// memory that it had.
///
/// # Errors
/// It is no child, or has been waited for.
#[cfg(all(not(loom), feature = "processes"))]
pub(crate) fn wait_child(process: u32) -> io::Result<(i32, u64)> {
    use std::os::unix::process::ExitStatusExt;
    let number = i32::try_from(process).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both places are valid for what is written to them, and live through the call.
        let waited = unsafe { libc::wait4(number, &raw mut status, 0, usage.as_mut_ptr()) };
        if waited == number {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: it was zeroed, which is a valid value, and written by the call.
    let usage = unsafe { usage.assume_init() };
    let status = std::process::ExitStatus::from_raw(status);
    let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or_default());
    Ok((code, u64::try_from(usage.ru_maxrss).unwrap_or_default() * 1024))
}

/// How many bytes of memory a process holds that are of no file and not made to be shared, in memory or swapped out. Of what
/// it was forked with, some may still be its parent's too.
#[cfg(not(loom))]
pub(crate) fn memory_held(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    Some(kilobytes(&status, "RssAnon:")? + kilobytes(&status, "VmSwap:").unwrap_or_default())
}

/// How many bytes of memory a process shares with nobody. It costs milliseconds for each gigabyte.
#[cfg(not(loom))]
pub(crate) fn memory_alone(process: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let figures = ["Private_Clean:", "Private_Dirty:", "Private_Hugetlb:", "SwapPss:"];
    let mut figures = figures.map(|name| kilobytes(&rollup, name)).into_iter().flatten();
    figures.next().map(|first| first + figures.sum::<u64>())
}

/// The figure of a line of `/proc`, in bytes.
#[cfg(not(loom))]
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether a signal of this number is one that somebody else sends, not a fault of the process.
pub(crate) fn is_by_others(signal: i32) -> bool {
    [libc::SIGKILL, libc::SIGTERM, libc::SIGHUP, libc::SIGINT].contains(&signal)
}

/// What the system calls a signal: `SIGKILL`.
pub(crate) fn signal_name(number: i32) -> Option<&'static str> {
    const NAMES: [(i32, &str); 12] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGTERM, "SIGTERM"),
    ];
    NAMES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// Has this process killed when the thread that forked it ends. That has happened already if the parent is not `parent`.
#[cfg(not(loom))]
pub(crate) fn die_with_parent(parent: u32) -> io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Looked up afterwards: a parent that ended before that sends nothing.
    let is_there = getppid().is_some_and(|now| u32::try_from(now.as_raw_nonzero().get()) == Ok(parent));
    if is_there { Ok(()) } else { Err(Errno::SRCH.into()) }
}

/// Whether the calling thread is the first of its process: the one that a terminal's Ctrl-C reaches.
pub fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// What the system calls the calling thread, as long as it lives; Python's `threading.get_ident()`.
pub fn thread_ident() -> u64 {
    // SAFETY: pthread_self has no preconditions.
    let thread = unsafe { libc::pthread_self() };
    #[expect(clippy::useless_conversion, reason = "the type has another width on other targets")]
    u64::from(thread)
}

/// The number of the calling thread in the system.
pub(crate) fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// On which system call a thread of this process sleeps.
#[derive(Debug)]
pub(crate) struct ThreadCalls(std::fs::File);

impl ThreadCalls {
    /// `None`: there is no such thread any more, or the system does not tell.
    pub(crate) fn open(thread: u32) -> Option<Self> {
        std::fs::File::open(format!("/proc/self/task/{thread}/syscall")).ok().map(Self)
    }

    /// Whether the system tells it of the calling thread.
    pub(crate) fn can_be_read() -> bool {
        Self::open(thread_id()).is_some_and(|calls| calls.futex().is_some())
    }

    /// The address of the futex on which it sleeps, if it does; `None`: that cannot be told.
    pub(crate) fn futex(&self) -> Option<Option<usize>> {
        use std::os::unix::fs::FileExt;
        let mut told = [0_u8; 64];
        let length = self.0.read_at(&mut told, 0).ok().filter(|length| *length > 0)?;
        Some(futex_of(std::str::from_utf8(&told[..length]).ok()?))
    }
}

/// Of a line like `202 0x7f12 0x189 ...`, the number of the call and its arguments.
fn futex_of(line: &str) -> Option<usize> {
    let mut words = line.split_ascii_whitespace();
    let call: libc::c_long = words.next()?.parse().ok()?;
    let address = words.next()?.strip_prefix("0x")?;
    if call == libc::SYS_futex { usize::from_str_radix(address, 16).ok() } else { None }
}

/// How long cores have worked for a thread, readable from any other.
#[derive(Clone, Copy, Debug)]
pub struct ThreadClock {
    clock: libc::clockid_t,
    thread: i32,
}

impl ThreadClock {
    /// That of the calling thread.
    pub fn of_this_thread() -> Option<Self> {
        let mut clock = 0;
        // SAFETY: pthread_self has no preconditions, and its thread is alive; `clock` is a place for the answer.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        (failed == 0).then_some(Self { clock, thread })
    }

    /// The time so far; nothing for a thread that has ended.
    pub fn elapsed(&self) -> std::time::Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a place for the answer; a clock that is gone is an error, which leaves it as it is.
        let failed = unsafe { libc::clock_gettime(self.clock, &raw mut time) };
        if failed != 0 {
            return std::time::Duration::ZERO;
        }
        std::time::Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    /// How long the thread has been ready to run while no core was free for it; nothing where the system does not count it.
    pub fn delay(&self) -> std::time::Duration {
        delay_in(&format!("/proc/self/task/{}/schedstat", self.thread))
    }
}

/// How long the calling thread has been ready to run while no core was free for it, since it was started; nothing where
/// the system does not count it.
pub fn thread_delay() -> std::time::Duration {
    delay_in("/proc/thread-self/schedstat")
}

fn delay_in(path: &str) -> std::time::Duration {
    let told = std::fs::read_to_string(path).unwrap_or_default();
    let nanoseconds = told.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    std::time::Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// Has `hook` called when the process exits, before its libraries are torn down.
pub fn before_exit(hook: extern "C" fn()) {
    // SAFETY: atexit takes a function pointer that stays valid: neither an executable nor an extension module of CPython is
    // ever unloaded. Should it have no memory for one more hook, the hook is not called.
    let _ = unsafe { libc::atexit(hook) };
}

/// Has the fork hook registered, once.
pub(crate) fn watch_forks() {
    static REGISTERED: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    REGISTERED.get_or_init(|| {
        // SAFETY: pthread_atfork takes function pointers that stay valid, and a library that holds such a hook is
        // never unloaded by CPython (extension modules are not), nor is an executable.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(super::count_fork)) };
        assert_eq!(failed, 0, "pthread_atfork has memory for one more hook");
    });
}
