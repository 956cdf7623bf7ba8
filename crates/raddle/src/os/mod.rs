//! All calls to the operating system; another system needs one more file beside `linux.rs`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
compile_error!("raddle runs on Linux; another system needs a file beside crates/raddle/src/os/linux.rs");

pub(crate) use system::watch_forks;
pub use system::{before_exit, is_main_thread};
#[cfg(not(loom))]
pub(crate) use system::{futex_wait, futex_wake_one};

use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between this process and the one that loaded the engine.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Counts the forks of which this process is the child: an object made in another generation has lost its threads.
pub fn fork_generation() -> u32 {
    watch_forks();
    GENERATION.load(Ordering::Relaxed)
}

/// Runs in the child of a fork, where only async-signal-safe work is allowed: one atomic addition is.
extern "C" fn count_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
