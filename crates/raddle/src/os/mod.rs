//! All calls to the operating system; another system needs one more file beside `linux.rs`.

#[cfg(all(target_os = "linux", not(loom)))]
pub mod channel;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(target_os = "linux", not(loom)))]
mod memory_file;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
compile_error!("raddle runs on Linux; another system needs a file beside crates/raddle/src/os/linux.rs");

#[cfg(not(loom))]
pub(crate) use memory_file::{Access, ForkWitness, Mapped, MemoryFile, memory_allowed};
#[cfg(not(loom))]
pub(crate) use system::{
    EventFd, ProcessHandle, SharedMemory, current_core, die_with_parent, exit_at_once, futex_wait, futex_wake_one,
    leave_core, memory_alone, memory_held, monotonic_nanoseconds, poll_readable, shared_futex_wait, shared_futex_wake,
    write_eventfd,
};
#[cfg(not(loom))]
pub(crate) use system::{ThreadCalls, thread_id};
pub use system::{ThreadClock, before_exit, is_main_thread, thread_delay, thread_ident};
#[cfg(all(not(loom), feature = "processes"))]
pub(crate) use system::{ignore_interrupts, wait_child};
pub(crate) use system::{is_by_others, signal_name, watch_forks};
#[cfg(not(loom))]
pub use system::{memory_file, open_process, signal_process};

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many forks lie between this process and the one that loaded the engine.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Counts the forks of which this process is the child: an object made in another generation has lost its threads.
pub fn fork_generation() -> u32 {
    watch_forks();
    GENERATION.load(Ordering::Relaxed)
}

thread_local! {
    /// What the engine calls the thread; 0 until it asks for a number.
    pub(crate) static THREAD_NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// The number of the thread that called fork, in the child: the only one of its generation and earlier that is there.
static SURVIVOR: AtomicU64 = AtomicU64::new(0);

/// What the system calls it.
static SURVIVORS_IDENT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn survivor_of_fork() -> u64 {
    SURVIVOR.load(Ordering::Relaxed)
}

pub(crate) fn survivors_ident() -> u64 {
    SURVIVORS_IDENT.load(Ordering::Relaxed)
}

/// Runs in the child of a fork, where only async-signal-safe work is allowed: atomic stores are.
extern "C" fn count_fork() {
    SURVIVORS_IDENT.store(thread_ident(), Ordering::Relaxed);
    SURVIVOR.store(THREAD_NUMBER.get(), Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
