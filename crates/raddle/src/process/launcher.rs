//! What a pool of processes asks of the world in which it lives: to start workers, and to tell how they ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::host::ThreadBody;

/// How a worker's process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; negative: the number of the signal that ended it.
    pub code: i32,
    /// The most memory that it held, in bytes, if the system told.
    pub peak_memory: Option<u64>,
    /// What it was doing when it crashed, in the words of its language.
    pub stack: Option<String>,
}

/// A worker's process.
#[derive(Debug)]
pub struct Started {
    /// What the system calls it.
    pub pid: u32,
    /// A descriptor that can be read when it has ended; `None`: the process is to be asked for by its number.
    pub watch: Option<OwnedFd>,
}

/// What a worker has told besides its replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The number of the worker in its pool.
    pub worker: usize,
    /// Its process id, if it has been started.
    pub pid: Option<u32>,
    /// The label of the task that it ran, if that had one.
    pub label: Option<Arc<str>>,
    /// What it tells.
    pub bytes: Vec<u8>,
}

/// Starts the processes of a pool. Called on the thread that supervises the pool, but where something else is said.
pub trait Launcher: Send + Sync {
    /// Starts the thread that supervises the pool; called by whoever submits first.
    ///
    /// # Errors
    /// The system's own words, if it does not start one.
    fn supervise(&self, body: ThreadBody) -> Result<(), String>;

    /// Starts the thread that hands on what workers tell; called when one of them has told something.
    ///
    /// # Errors
    /// The system's own words, if it does not start one: then the thread that supervises hands it on.
    fn listen(&self, body: ThreadBody) -> Result<(), String> {
        let thread = std::thread::Builder::new().name("raddle-notes".into()).spawn(body);
        thread.map(drop).map_err(|error| error.to_string())
    }

    /// Starts a worker for the seat of this number, as the `number`th of the pool.
    ///
    /// # Errors
    /// Why it could not be started.
    fn start(&self, seat: usize, number: usize) -> Result<Started, String>;

    /// Tells how the worker of this process id ended. It has.
    fn reap(&self, pid: u32) -> Exit;

    /// What the pool is called, for those who listen to [events](crate::events).
    fn name(&self) -> Option<Arc<str>> {
        None
    }

    /// Whether all workers are to be started by whoever submits first: forked before the pool has a thread.
    fn starts_at_once(&self) -> bool {
        false
    }

    /// Hears what workers tell, before the results of the tasks in which they told it are known; called on a thread of its own
    /// (see [`listen`](Self::listen)).
    fn hear(&self, notes: Vec<Note>) {
        drop(notes);
    }

    /// The last worker has been reaped.
    fn close(&self) {}
}
