//! What the look for a circle has found.

use std::fmt;
use std::sync::Arc;

use super::{Awaited, Description, ThreadNumber};

/// Threads that wait for each other in a circle, none of which could have gone on.
///
/// ```
/// use raddle::sync::{Lock, LockError};
///
/// let lock = Lock::with_name(1, "a");
/// let guard = lock.acquire().unwrap();
/// let Err(LockError::Deadlock(deadlock)) = lock.acquire() else { unreachable!("the thread has the lock") };
/// assert_eq!(deadlock.links().len(), 1);
/// assert!(deadlock.to_string().contains("waits for lock \"a\""));
/// # drop(guard);
/// ```
#[derive(Clone)]
pub struct Deadlock(pub(super) Arc<[Link]>);

/// One thread of a circle, and what it waits for.
#[derive(Clone)]
pub struct Link {
    /// The thread that waits.
    pub thread: ThreadNumber,
    /// What the system calls it: Python's `threading.get_ident()`.
    pub ident: u64,
    /// Its name, if it was started with one by Rust's standard library.
    pub name: Option<String>,
    /// What it waits for.
    pub awaited: Arc<dyn Awaited>,
    /// What the system calls the threads on which that depends; the thread of the next link is among them.
    pub held_by: Vec<u64>,
}

impl Deadlock {
    /// The circle: each link waits for the thread of the next, the last for that of the first, which is the calling one.
    pub fn links(&self) -> &[Link] {
        &self.0
    }
}

impl PartialEq for Deadlock {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Deadlock {}

impl fmt::Debug for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadlock({self})")
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("thread", &self.thread).field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadlock: ")?;
        for (index, link) in self.0.iter().enumerate() {
            let Description { what, taken_at } = link.awaited.describe();
            let name = link.name.as_deref().unwrap_or("(unnamed)");
            let and = if index == 0 { "" } else { "; " };
            write!(f, "{and}thread {name} waits for {what}")?;
            if let Some(place) = taken_at {
                write!(f, ", taken at {place}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Deadlock {}
