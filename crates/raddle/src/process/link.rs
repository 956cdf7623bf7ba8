//! The program's side of one worker: what was sent to it, what can be taken back, and what comes from it.

use std::collections::VecDeque;
use std::fmt;

use super::arena::Segment;
use super::bytes::Bytes;
use super::lease::{self, Wished};
use super::mapping::{Mapping, Part};
use super::ring::{Consumer, Corrupt, Header, Outgoing, Producer};
use super::seat::{PLACES, Seat};
use crate::events;

/// Marks a task; the place of its claim is added.
pub(crate) const TASK: u16 = 1 << 15;
pub(crate) const DEFINE: u16 = 1;
pub(crate) const FORGET: u16 = 2;
pub(crate) const STOP: u16 = 3;
/// The definition of this number is what the program says to all its workers: it comes before everything else.
pub const ANNOUNCEMENT: u64 = 0;
/// Marks what a worker says of itself, as opposed to a reply to a task.
pub(crate) const NOTE: u16 = 1 << 15;
/// The worker is ready for tasks.
pub(crate) const READY: u16 = NOTE | 1;
/// The worker could not be made ready; the payload says why, in UTF-8.
pub(crate) const UNFIT: u16 = NOTE | 2;
/// The worker keeps a view of a segment of its task, which begins where the number says.
pub(crate) const KEEPS: u16 = NOTE | 3;
/// It does so no more, or gives back what it was lent.
pub(crate) const DROPS: u16 = NOTE | 4;
/// What it was lent has no memory any more; before it gives it back.
pub(crate) const EMPTIED: u16 = NOTE | 5;

/// What a worker has answered to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What kind of reply it is.
    pub kind: u16,
    /// What it consists of.
    pub payload: Bytes,
}

/// What comes before a reply that was received early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The number of the task.
    pub task: u64,
    /// How far the notes go that were told before.
    pub notes: u64,
}

/// What has come from a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// The reply to a task, with what was kept for it.
    Reply(T, Reply),
    /// The same, before notes that were told before it: see [`Link::receive_replies`].
    Early(T, Reply, Before),
    /// The worker is ready for tasks.
    Ready,
    /// The worker could not be made ready, and says why.
    Unfit(String),
    /// What a worker tells besides, with the number of the task that it ran then.
    Note(u64, Vec<u8>),
    /// The worker keeps a view of the segment that begins there, after its task.
    Keeps(u64),
    /// It does so no more, or gives back what it was lent.
    Drops(u64),
    /// What it was lent, and is about to give back, has no memory any more.
    Emptied(u64),
}

/// A task that is with the worker.
#[derive(Debug)]
struct Sent<T> {
    number: u64,
    place: usize,
    kept: T,
}

/// The program's end of the rings of one worker. `T` is what is kept for a task while the worker has it.
pub struct Link<T> {
    seat: Seat,
    tasks: Producer<Part>,
    replies: Consumer<Part>,
    notes: Consumer<Part>,
    /// Records for which there was no room yet, and perhaps one of which a part is in the ring.
    backlog: VecDeque<Outgoing<Bytes>>,
    /// In the order in which they were sent.
    sent: VecDeque<Sent<T>>,
    free: Vec<usize>,
    /// The task of the last reply.
    answered: u64,
    /// From when to when the task of the last reply was run.
    ran: Option<(u64, u64)>,
    /// Whether the worker may have to be told.
    is_bell_due: bool,
}

impl<T> fmt::Debug for Link<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("sent", &self.sent.len())
            .field("backlog", &self.backlog.len())
            .finish_non_exhaustive()
    }
}

impl<T> Link<T> {
    /// The link to a worker that will serve the seat of this number; one that served it before has ended.
    pub fn new(mapping: &Mapping, seat: usize) -> Self {
        let seat = Seat::new(mapping, seat);
        seat.clear();
        Self {
            tasks: Producer::new(seat.tasks.clone()),
            replies: Consumer::new(seat.replies.clone()),
            notes: Consumer::new(seat.notes.clone()),
            backlog: VecDeque::new(),
            sent: VecDeque::new(),
            free: (0..PLACES).rev().collect(),
            answered: 0,
            ran: None,
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

    /// Sends a task under a number that this worker was never sent before; `kept` comes back with the reply.
    ///
    /// # Errors
    /// The shared memory was overwritten.
    ///
    /// # Panics
    /// There is no [room](Self::has_room).
    pub fn send(&mut self, number: u64, bytes: Bytes, kept: T) -> Result<(), Corrupt> {
        let place = self.free.pop().expect("there is room for a task");
        if events::is_listening() {
            // What a former task of the place has left is not this one's.
            let _ = self.seat.take_ran(place);
        }
        self.seat.claims.send(place, number);
        self.sent.push_back(Sent { number, place, kept });
        let kind = TASK | u16::try_from(place).expect("places are few");
        self.push(Header { kind, id: number }, bytes)
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
        self.push(Header { kind: FORGET, id: number }, Bytes::default())
    }

    /// Has the worker end when it has done what it was sent.
    ///
    /// # Errors
    /// The shared memory was overwritten.
    pub fn stop(&mut self) -> Result<(), Corrupt> {
        self.push(Header { kind: STOP, id: 0 }, Bytes::default())
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
            // A worker sleeps nowhere but there.
            let _ = self.seat.bell.ring();
        }
    }

    /// A number that changes while records go either way.
    pub fn progress(&mut self) -> u64 {
        self.tasks.progress().wrapping_add(self.replies.progress())
    }

    /// Whether anything has been read of what the worker writes.
    pub fn has_spoken(&self) -> bool {
        self.replies.progress() > 0
    }

    /// Whether it is awake on another core than the caller's, by its own account.
    pub(crate) fn is_awake_elsewhere(&self) -> bool {
        self.seat.core.is_awake_elsewhere()
    }

    /// Whether it sleeps and has nothing to do, by its own account.
    pub(crate) fn is_asleep(&self) -> bool {
        self.sent.is_empty() && self.seat.core.is_asleep()
    }

    /// Wakes the worker in any case: its doorbell may have been written over.
    pub fn shake(&self) {
        self.seat.bell.shake();
    }

    /// Takes back the first task of those that `is_wanted`, unless the worker has begun it.
    pub fn try_take_back(&mut self, is_wanted: impl Fn(&T) -> bool) -> TakenBack<T> {
        match self.sent.iter().position(|sent| is_wanted(&sent.kept)) {
            None => TakenBack::NotHere,
            Some(at) => self.take_back_at(at).map_or(TakenBack::Begun, TakenBack::Yes),
        }
    }

    /// Takes back all tasks that are wanted and that the worker has not begun.
    pub fn take_back_all(&mut self, is_wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for at in (0..self.sent.len()).rev() {
            if is_wanted(&self.sent[at].kept) {
                taken.extend(self.take_back_at(at));
            }
        }
        taken.reverse();
        taken
    }

    /// Takes back the task that was sent last and is not begun.
    pub fn take_back_last(&mut self) -> Option<T> {
        self.take_back_at(self.sent.len().checked_sub(1)?)
    }

    fn take_back_at(&mut self, at: usize) -> Option<T> {
        let &Sent { number, place, .. } = &self.sent[at];
        if !self.seat.claims.try_take_back(place, number) {
            return None;
        }
        self.free.push(place);
        // What is not in the ring yet need not go there; of a begun record the rest must follow.
        self.backlog.retain(|record| record.is_begun() || !record.is_for_task(number, TASK));
        self.sent.remove(at).map(|sent| sent.kept)
    }

    /// What has come next, if all of it is there.
    ///
    /// # Errors
    /// The shared memory was overwritten; or the worker answers what it was not asked.
    pub fn receive(&mut self) -> Result<Option<Received<T>>, Corrupt> {
        // Asked first: what was told before a reply that is there is there too, and comes before it.
        let has_reply = self.replies.has_more();
        if self.notes.has_more()
            && let Some(note) = self.notes.read()?
        {
            return Ok(Some(Received::Note(note.header.id, note.payload)));
        }
        if has_reply { self.receive_reply() } else { Ok(None) }
    }

    /// As [`receive`](Self::receive), but for notes: they stay where they are, so that the worker waits when there is no more
    /// room for them.
    ///
    /// # Errors
    /// As for [`receive`](Self::receive).
    pub fn receive_replies(&mut self) -> Result<Option<Received<T>>, Corrupt> {
        if !self.replies.has_more() {
            return Ok(None);
        }
        // Asked after it: what was told before the reply is counted in.
        let (heard, notes) = (self.notes.progress(), self.notes.written()?);
        Ok(match self.receive_reply()? {
            Some(Received::Reply(kept, reply)) if heard < notes => {
                Some(Received::Early(kept, reply, Before { task: self.answered, notes }))
            }
            received => received,
        })
    }

    /// How far notes have been received.
    pub fn heard(&self) -> u64 {
        self.notes.progress()
    }

    fn receive_reply(&mut self) -> Result<Option<Received<T>>, Corrupt> {
        self.is_bell_due = true;
        let Some(record) = self.replies.read()? else { return Ok(None) };
        let Header { kind, id } = record.header;
        match kind {
            READY => return Ok(Some(Received::Ready)),
            KEEPS => return Ok(Some(Received::Keeps(id))),
            DROPS => return Ok(Some(Received::Drops(id))),
            EMPTIED => return Ok(Some(Received::Emptied(id))),
            UNFIT => return Ok(Some(Received::Unfit(String::from_utf8_lossy(&record.payload).into_owned()))),
            _ => {}
        }
        let is_answered = |sent: &Sent<T>| sent.number == id && self.seat.claims.is_begun(sent.place, id);
        let at = self.sent.iter().position(is_answered);
        let Some(Sent { place, kept, .. }) = at.and_then(|at| self.sent.remove(at)) else {
            return Err(Corrupt { what: "a reply to a task that was not sent, or not begun" });
        };
        if events::is_listening() {
            self.ran = self.seat.take_ran(place);
        }
        self.free.push(place);
        self.answered = id;
        Ok(Some(Received::Reply(kept, Reply { kind, payload: record.payload.into() })))
    }

    /// From when to when the task of the last reply was run, in nanoseconds of the monotonic clock, if the worker was asked
    /// to note it.
    pub fn take_ran(&mut self) -> Option<(u64, u64)> {
        self.ran.take()
    }

    /// Whether something has come that has not been received, or there is room for what is left of a longer record. Asked
    /// before a sleep: the worker rings for both.
    pub fn has_news(&mut self) -> bool {
        self.notes.has_more() || self.has_replies()
    }

    /// The same, but for notes.
    pub fn has_replies(&mut self) -> bool {
        // Rubbish is news too: it is found out when it is looked at.
        self.wish().is_some()
            || self.replies.has_more()
            || (!self.backlog.is_empty() && self.tasks.has_room() != Ok(false))
    }

    /// What room the worker wants: for a result that it is about to send, or to compute in.
    pub fn wish(&self) -> Option<Wished> {
        lease::wish(&self.seat.leases)
    }

    /// Whether this wish is to be answered: the worker has not withdrawn it since it was seen.
    pub fn claim(&self, wished: Wished) -> bool {
        lease::claim(&self.seat.leases, wished)
    }

    /// Which process the worker is, by its own account.
    pub(crate) fn process(&self) -> Option<u32> {
        self.seat.process()
    }

    /// In how many bytes of what it was lent the worker computes, by its own account.
    pub(crate) fn in_use(&self) -> u64 {
        lease::in_use(&self.seat.leases)
    }

    /// Of a worker that has ended: whether children of it may look at segments of its tasks.
    pub(crate) fn has_children(&self) -> bool {
        lease::has_children(&self.seat.leases)
    }

    /// Answers the wish that was claimed: with a segment, or that there is none.
    pub fn grant(&mut self, segment: Option<&Segment>) {
        lease::answer(&self.seat.leases, segment.map(|segment| (segment.offset(), segment.is_warm())));
        self.is_bell_due = true;
    }

    /// The tasks that are with the worker, each with whether it has begun, by its own account.
    pub fn sent(&self) -> impl Iterator<Item = (&T, bool)> {
        self.sent.iter().map(|sent| (&sent.kept, self.seat.claims.is_begun(sent.place, sent.number)))
    }

    /// What is kept for the task that was sent under this number.
    pub fn kept(&self, number: u64) -> Option<&T> {
        self.sent.iter().find(|sent| sent.number == number).map(|sent| &sent.kept)
    }

    /// The task that the worker runs, by its own account, and since when, in nanoseconds of the monotonic clock.
    pub fn running(&self) -> Option<(&T, Option<u64>)> {
        // Those begun before it have ended, and their replies are on the way.
        let is_begun = |sent: &&Sent<T>| self.seat.claims.is_begun(sent.place, sent.number);
        let running = self.sent.iter().rev().find(is_begun)?;
        Some((&running.kept, self.seat.begun_at()))
    }

    /// After the worker's end, when all replies have been received: the tasks that it had, each with whether it had begun.
    pub fn into_left(self) -> impl Iterator<Item = (T, bool)> {
        let Self { seat, sent, .. } = self;
        sent.into_iter().map(move |sent| {
            let is_begun = seat.claims.is_begun(sent.place, sent.number);
            (sent.kept, is_begun)
        })
    }
}

/// How an attempt to take a task back ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakenBack<T> {
    /// The worker will not begin it.
    Yes(T),
    /// The worker has begun it.
    Begun,
    /// The worker has no such task.
    NotHere,
}
