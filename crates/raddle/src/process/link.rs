//! The program's side of one worker: what was sent to it, what can be taken back, and what comes from it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::mapping::{Mapping, Part};
use super::ring::{Consumer, Corrupt, Header, Outgoing, Producer};
use super::seat::{PLACES, Seat};

/// Marks a task; the place of its claim is added.
pub(crate) const TASK: u16 = 1 << 15;
pub(crate) const DEFINE: u16 = 1;
pub(crate) const FORGET: u16 = 2;
pub(crate) const STOP: u16 = 3;

/// The bytes of a task or a definition: kept until the reply is there, for it may have to be sent once more.
pub type Bytes = Arc<[u8]>;

/// What a worker has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number of the task.
    pub task: u64,
    /// What kind of reply it is.
    pub kind: u16,
    /// What it consists of.
    pub payload: Vec<u8>,
}

/// A task that is with the worker.
#[derive(Clone, Copy, Debug)]
struct Sent {
    task: u64,
    place: usize,
}

/// The program's end of the rings of one worker.
pub struct Link {
    seat: Seat,
    tasks: Producer<Part>,
    replies: Consumer<Part>,
    /// Records for which there was no room yet, and perhaps one of which a part is in the ring.
    backlog: VecDeque<Outgoing<Bytes>>,
    /// In the order in which they were sent.
    sent: VecDeque<Sent>,
    free: Vec<usize>,
    /// Whether the worker may have to be told.
    is_bell_due: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("sent", &self.sent.len())
            .field("backlog", &self.backlog.len())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// The link to a worker that will serve the seat of this number; one that served it before has ended.
    pub fn new(mapping: &Mapping, seat: usize) -> Self {
        let seat = Seat::new(mapping, seat);
        seat.clear();
        Self {
            tasks: Producer::new(seat.tasks.clone()),
            replies: Consumer::new(seat.replies.clone()),
            backlog: VecDeque::new(),
            sent: VecDeque::new(),
            free: (0..PLACES).rev().collect(),
            is_bell_due: false,
            seat,
        }
    }

    /// How many tasks are with the worker, begun or not.
    pub fn load(&self) -> usize {
        self.sent.len()
    }

    /// Whether it can be sent a task that goes out at once, or nearly so.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty() && self.backlog.is_empty()
    }

    /// Sends a task, of a number that no other task of the pool has had.
    ///
    /// # Errors
    /// The shared memory was overwritten.
    ///
    /// # Panics
    /// There is no [room](Self::has_room).
    pub fn send(&mut self, task: u64, bytes: Bytes) -> Result<(), Corrupt> {
        let place = self.free.pop().expect("there is room for a task");
        self.seat.claims.send(place, task);
        self.sent.push_back(Sent { task, place });
        let kind = TASK | u16::try_from(place).expect("places are few");
        self.push(Header { kind, id: task }, bytes)
    }

    /// Sends something for the tasks to come, under a number of its own.
    ///
    /// # Errors
    /// The shared memory was overwritten.
    pub fn define(&mut self, number: u64, bytes: Bytes) -> Result<(), Corrupt> {
        self.push(Header { kind: DEFINE, id: number }, bytes)
    }

    /// Has the worker drop what was defined under a number.
    ///
    /// # Errors
    /// The shared memory was overwritten.
    pub fn forget(&mut self, number: u64) -> Result<(), Corrupt> {
        self.push(Header { kind: FORGET, id: number }, Arc::default())
    }

    /// Has the worker end when it has done what it was sent.
    ///
    /// # Errors
    /// The shared memory was overwritten.
    pub fn stop(&mut self) -> Result<(), Corrupt> {
        self.push(Header { kind: STOP, id: 0 }, Arc::default())
    }

    fn push(&mut self, header: Header, bytes: Bytes) -> Result<(), Corrupt> {
        self.backlog.push_back(Outgoing::new(header, bytes));
        self.pump()
    }

    /// Writes what there is room for. To be called when the worker may have read.
    ///
    /// # Errors
    /// The shared memory was overwritten.
    pub fn pump(&mut self) -> Result<(), Corrupt> {
        while let Some(record) = self.backlog.front_mut() {
            self.is_bell_due = true;
            if !self.tasks.write(record)? {
                break;
            }
            self.backlog.pop_front();
        }
        Ok(())
    }

    /// Wakes the worker if it sleeps and something was written or read.
    pub fn ring(&mut self) {
        if std::mem::take(&mut self.is_bell_due) {
            // A worker sleeps nowhere else.
            let _ = self.seat.bell.ring();
        }
    }

    /// Takes a task back, unless the worker has begun it.
    pub fn try_take_back(&mut self, task: u64) -> bool {
        let Some(at) = self.sent.iter().position(|sent| sent.task == task) else { return false };
        self.take_back_at(at)
    }

    /// Takes back the task that was sent last and is not begun.
    pub fn take_back_last(&mut self) -> Option<u64> {
        let at = self.sent.len().checked_sub(1)?;
        let task = self.sent[at].task;
        self.take_back_at(at).then_some(task)
    }

    fn take_back_at(&mut self, at: usize) -> bool {
        let Sent { task, place } = self.sent[at];
        if !self.seat.claims.try_take_back(place, task) {
            return false;
        }
        self.sent.remove(at);
        self.free.push(place);
        // What is not in the ring yet need not go there; of a begun record the rest must follow.
        self.backlog.retain(|record| record.is_begun() || !record.is_for_task(task, TASK));
        true
    }

    /// The next reply, if all of it is there.
    ///
    /// # Errors
    /// The shared memory was overwritten; or the worker answers what it was not asked.
    pub fn receive(&mut self) -> Result<Option<Reply>, Corrupt> {
        if !self.replies.has_more() {
            return Ok(None);
        }
        self.is_bell_due = true;
        let Some(record) = self.replies.read()? else { return Ok(None) };
        let task = record.header.id;
        let at = self.sent.iter().position(|sent| sent.task == task);
        let sent = at.and_then(|at| self.sent.remove(at));
        let Some(Sent { place, .. }) = sent.filter(|sent| self.seat.claims.is_begun(sent.place, task)) else {
            return Err(Corrupt { what: "a reply to a task that was not sent, or not begun" });
        };
        self.free.push(place);
        Ok(Some(Reply { task, kind: record.header.kind, payload: record.payload }))
    }

    /// Whether something has come that has not been received.
    pub fn has_replies(&self) -> bool {
        self.replies.has_more()
    }

    /// The task that the worker runs, by its own account, and since when, in nanoseconds of the monotonic clock.
    pub fn running(&self) -> Option<(u64, Option<u64>)> {
        let begun = self.sent.iter().find(|sent| self.seat.claims.is_begun(sent.place, sent.task))?;
        Some((begun.task, self.seat.begun_at()))
    }

    /// After the worker's end, when all replies have been received: the tasks that it had, each with whether it had begun.
    pub fn left(&self) -> impl Iterator<Item = (u64, bool)> + '_ {
        self.sent.iter().map(|sent| (sent.task, self.seat.claims.is_begun(sent.place, sent.task)))
    }
}
