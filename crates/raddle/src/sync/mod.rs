//! Threads, locks that tell of a deadlock in place of hanging, and an atomic counter.
//!
//! ```
//! use raddle::sync::{Counter, Lock, Thread};
//! use std::sync::Arc;
//!
//! let (total, calls) = (Arc::new(Lock::new(0)), Arc::new(Counter::new(0)));
//! let threads: Vec<_> = (0..4)
//!     .map(|n| {
//!         let (total, calls) = (Arc::clone(&total), Arc::clone(&calls));
//!         Thread::spawn(&format!("adder-{n}"), move || {
//!             *total.acquire().unwrap() += n;
//!             calls.add(1).unwrap()
//!         })
//!     })
//!     .collect();
//! for thread in threads {
//!     thread.unwrap().result().unwrap();
//! }
//! assert_eq!((*total.acquire().unwrap(), calls.value()), (6, 4));
//! ```

mod counter;
mod lock;
#[cfg(all(loom, test))]
mod models;
mod raw_lock;
mod thread;

pub use counter::{Counter, Overflow};
pub use lock::{Guard, Lock, LockError, RGuard, RLock};
pub use raw_lock::{Attempt, LockStatistics, NotHeld, RawLock, ReentrantRawLock, Woken};
pub use thread::Thread;
