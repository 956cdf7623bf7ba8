//! Linux: futex, thread and process ids, and the hook after fork.

#[cfg(not(loom))]
use std::{sync::atomic::AtomicU32, time::Duration};

#[cfg(not(loom))]
use crate::primitives::FutexWake;
#[cfg(not(loom))]
use rustix::{
    io::Errno,
    thread::futex::{self, Flags, Timespec},
};

/// Sleeps while `word` is `expected`, at most `timeout`.
#[cfg(not(loom))]
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> FutexWake {
    // A time beyond what the kernel counts (292 years) is no limit at all.
    let limit = timeout.and_then(|t| Timespec::try_from(t).ok());
    match futex::wait(word, Flags::PRIVATE, expected, limit.as_ref()) {
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
