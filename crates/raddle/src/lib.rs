//! A parallel executor: futures, a thread pool that wakes few sleepers, `wait` and `as_completed`.
//!
//! ```
//! use raddle::ThreadPoolExecutor;
//!
//! let pool = ThreadPoolExecutor::new(4);
//! let lengths: Result<Vec<_>, _> = pool.map(["a", "bb", "ccc"], str::len).collect();
//! assert_eq!(lengths.unwrap(), [1, 2, 3]);
//! ```
//!
//! The crate is also the engine of the Python package of the same name. What such a host needs stands in [`host`],
//! [`pool`], [`task`], [`batch`], [`future`] and [`group`]; a Rust program needs only what is re-exported here.
//!
//! The way of a task: [`ThreadPoolExecutor::submit`] makes a [`task::Task`] and pushes it to the pool's roster, which
//! decides whether a worker has to be woken; a worker takes it, runs it, and finishes its [`future::FutureCell`]; whoever
//! waits is told once the worker has nothing better to do.

pub mod batch;
pub mod choice;
mod error;
pub mod events;
mod executor;
pub mod future;
pub mod group;
pub mod host;
#[cfg(not(loom))]
mod map;
#[cfg(all(loom, test))]
mod models;
mod mutant;
pub mod os;
mod per_fork;
pub mod pool;
mod primitives;
pub mod process;
mod roster;
mod scope;
pub mod signal;
mod slot;
mod statistics;
pub mod sync;
pub mod task;
#[cfg(not(loom))]
pub mod timeline;
mod timer;
mod wait;
pub mod waits;

pub use error::{Death, Failure, LostTask, SubmitError, TaskError};
pub use executor::{Future, Map, ThreadPoolExecutor, View};
pub use group::ReturnWhen;
#[cfg(not(loom))]
pub use map::{AutoMap, map};
#[cfg(all(not(loom), feature = "processes"))]
pub use process::ProcessPoolExecutor;
pub use roster::Phase;
pub use scope::{Scope, ScopedFuture};
pub use statistics::Statistics;
pub use task::Options;
pub use wait::{AsCompleted, as_completed, wait};
pub use waits::Deadlock;
