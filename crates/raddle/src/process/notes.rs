//! What a worker tells beside its replies (WORKER -> transport -> program): log records, warnings.
//!
//! A ring of its own, into which any thread of the worker writes, one at a time. What has been written is in memory that the
//! program holds: it arrives even if the worker is killed at the next instruction. The program reads a worker's notes before
//! each of its replies, so that what a task has told is known when its result is.
//!
//! A writer rings seldom, for the program looks again a while after each note that it has found: see `QUIET` and
//! `LOOK`. Invariant: `QUIET` is shorter than `LOOK`, and is counted from before the note that is rung for was written.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::doorbell::{Doorbell, Rung};
pub use super::launcher::Note;
use super::mapping::{Part, SharedBell};
use super::ring::{Header, Outgoing, Producer};
use crate::os;
use crate::primitives::Mutex;

/// After a ring, notes are written without one for so long. A guess: two thousand rings a second cost nothing.
const QUIET: Duration = Duration::from_micros(500);
/// So long after a note was found the program looks again.
pub(crate) const LOOK: Duration = Duration::from_millis(1);
/// Until the next try when there is no room: the program is behind, or what hears it is. Each try rings, so they become fewer.
const NO_ROOM: Duration = Duration::from_micros(100);
const LONGEST_NO_ROOM: Duration = Duration::from_millis(2);

/// The worker's end: it can be cloned, and used by any thread.
#[derive(Clone)]
pub struct Notes(Arc<Shared>);

struct Shared {
    ring: Mutex<Producer<Part>>,
    program: Doorbell<SharedBell>,
    /// The number of the task that runs.
    task: AtomicU64,
    /// When it was rung last, in nanoseconds of the monotonic clock.
    rung: AtomicU64,
    generation: u32,
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").field("task", &self.0.task).finish_non_exhaustive()
    }
}

impl Notes {
    pub(crate) fn new(ring: Part, program: Doorbell<SharedBell>) -> Self {
        Self(Arc::new(Shared {
            ring: Mutex::new(Producer::new(ring)),
            program,
            task: AtomicU64::new(0),
            rung: AtomicU64::new(0),
            generation: os::fork_generation(),
        }))
    }

    pub(crate) fn runs(&self, task: u64) {
        self.0.task.store(task, Relaxed);
    }

    /// Tells the program something; blocks while there is no room. `ring_elsewhere` is what the handler's is.
    ///
    /// `false`: it was not told, for this is a fork of the worker, or the shared memory was overwritten.
    pub fn tell(&self, bytes: &[u8], mut ring_elsewhere: impl FnMut()) -> bool {
        let shared = &*self.0;
        // The lock may have been held by a thread that is not here.
        if os::fork_generation() != shared.generation {
            return false;
        }
        let before = os::monotonic_nanoseconds();
        let mut ring = || {
            if shared.program.ring() == Rung::Elsewhere {
                ring_elsewhere();
            }
        };
        let mut record = Outgoing::new(Header { kind: 0, id: shared.task.load(Relaxed) }, bytes);
        let mut producer = shared.ring.lock();
        let mut pause = NO_ROOM;
        loop {
            match producer.write(&mut record) {
                Ok(true) => break,
                Ok(false) => {
                    ring();
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_NO_ROOM);
                }
                Err(_) => return false,
            }
        }
        drop(producer);
        let last = shared.rung.load(Relaxed);
        // By the time after the writing, which may have taken long: the program may have stopped looking meanwhile.
        if os::monotonic_nanoseconds().saturating_sub(last) >= QUIET.as_nanos() as u64 {
            shared.rung.store(before, Relaxed);
            ring();
        }
        true
    }
}
