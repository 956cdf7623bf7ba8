//! The transport between a program and its worker processes (submit -> queue -> TRANSPORT -> worker -> result).
//!
//! One anonymous shared `mapping` for a pool; in it, for each worker, a [`ring`] of records a direction, a [`doorbell`] a
//! side, and a table of [claims](claim) by which a task that has been sent and not begun can be taken back. Large data
//! lies apart, in the [`arena`]. A `link` is the program's side of one worker; `worker` is the loop at the other end. Nothing
//! here knows what the bytes mean.
//!
//! The other side may have crashed half-way, or written rubbish: whatever is read from the mapping is copied out once and
//! checked before it is believed. All access to shared words is atomic, so rubbish is all that the other side can cause.

#[cfg(not(loom))]
pub mod arena;
#[cfg(not(loom))]
mod arrived;
#[cfg(not(loom))]
pub mod batch;
pub mod bytes;
pub mod claim;
#[cfg(not(loom))]
mod cores;
#[cfg(not(loom))]
mod crew;
pub mod doorbell;
#[cfg(not(loom))]
pub mod draft;
#[cfg(all(not(loom), feature = "processes"))]
mod executor;
#[cfg(all(not(loom), feature = "processes"))]
mod functions;
#[cfg(not(loom))]
mod held;
pub mod launcher;
pub mod lease;
#[cfg(not(loom))]
pub mod link;
#[cfg(not(loom))]
pub mod mapping;
#[cfg(all(loom, test))]
mod models;
#[cfg(not(loom))]
pub mod notes;
#[cfg(not(loom))]
mod pace;
#[cfg(not(loom))]
pub mod pins;
#[cfg(not(loom))]
pub mod pool;
#[cfg(not(loom))]
pub mod remote;
pub mod ring;
#[cfg(not(loom))]
pub mod seat;
#[cfg(not(loom))]
mod supervisor;
#[cfg(not(loom))]
pub mod task;
#[cfg(not(loom))]
mod teller;
#[cfg(not(loom))]
mod told;
#[cfg(not(loom))]
pub mod worker;
#[cfg(not(loom))]
pub mod workspace;

#[cfg(all(not(loom), feature = "processes"))]
pub use executor::{ProcessMap, ProcessPoolExecutor, ProcessView, init};
#[cfg(all(not(loom), feature = "processes"))]
pub use functions::{Function, Registered};
