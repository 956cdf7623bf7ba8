//! The worker's side: it takes tasks out of its ring, has the host run them, and puts the replies into the other.
//!
//! Any program can be a worker: it opens the mapping that it was given, and calls [`serve`] with a [`Handler`]. What the bytes
//! of a task mean is the handler's affair.

use std::fmt;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use super::cores::{Aside, Core, Rested};
use super::doorbell::{Doorbell, Rung};
use super::lease::Lender;
use super::link::{ANNOUNCEMENT, DEFINE, DROPS, EMPTIED, FORGET, KEEPS, NOTE, READY, STOP, TASK, UNFIT};
use super::mapping::{Mapping, Part, SharedBell};
use super::notes::Notes;
use super::ring::{Consumer, Corrupt, Header, Incoming, Outgoing, Producer};
use super::seat::{Listened, Seat, program_bell, program_core};
use crate::os;
use crate::signal::AdaptiveSpin;

/// What a worker does with what it is sent.
pub trait Handler {
    /// Takes what the worker tells the program by, besides its replies.
    fn connect(&mut self, notes: Notes) {
        let _ = notes;
    }

    /// Makes the worker ready, once, before it gets a task.
    ///
    /// # Errors
    /// Why it cannot be: then the pool is of no use.
    fn start(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Is given by whom it can have large results lie apart; before anything else.
    fn lend(&mut self, lender: Lender) {
        drop(lender);
    }

    /// Tells, by their places, which segments of its tasks it has come to keep views of since it was asked last, and of which
    /// it keeps none any more. It is asked when a task has been run, and before a rest.
    fn holdings(&mut self) -> Holdings {
        Holdings::default()
    }

    /// Keeps something under a number, for the tasks that come after it. What has the number
    /// [`ANNOUNCEMENT`] is what the program says to all its workers, and comes before `start`.
    fn define(&mut self, number: u64, bytes: Vec<u8>);

    /// Drops what was kept under a number.
    fn forget(&mut self, number: u64);

    /// Runs a task, and appends the reply to `reply`. Gives the kind of the reply, below 2^15, which is passed on.
    fn run(&mut self, task: Vec<u8>, reply: &mut Vec<u8>) -> u16;

    /// Wakes the program where it sleeps when nobody in it waits for replies.
    fn ring_elsewhere(&mut self);

    /// Calls `wait` while there is nothing to do: what is held, an interpreter say, may be released meanwhile.
    ///
    /// `Break`: the worker is to end, though the program has not said so.
    fn rest(&mut self, wait: &mut (dyn FnMut() + Send)) -> ControlFlow<()> {
        wait();
        ControlFlow::Continue(())
    }
}

/// What has changed in what a worker keeps of large arguments.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Places of segments that it keeps from now on.
    pub kept: Vec<u64>,
    /// Places of those that it was lent, and whose memory it has given back.
    pub emptied: Vec<u64>,
    /// Places of those that it gives back, or had said it keeps and has let go.
    pub dropped: Vec<u64>,
}

/// Serves the seat of this number until the program says that it is over.
///
/// # Errors
/// The shared memory was overwritten. The process should end.
pub fn serve(mapping: &Mapping, seat: usize, handler: &mut dyn Handler) -> Result<(), Corrupt> {
    handler.lend(Lender::new(mapping, seat));
    let seat = Seat::new(mapping, seat);
    seat.note_process(std::process::id());
    let mut worker = Worker {
        tasks: Consumer::new(seat.tasks.clone()),
        replies: Producer::new(seat.replies.clone()),
        program: program_bell(mapping),
        program_core: program_core(mapping),
        spin: AdaptiveSpin::new(),
        aside: Aside::new(),
        told: Notes::new(seat.notes.clone(), program_bell(mapping)),
        listened: Listened::new(mapping),
        seat,
    };
    handler.connect(worker.told.clone());
    let mut first = worker.tasks.read()?;
    if let Some(record) = first.take_if(|record| record.header == Header { kind: DEFINE, id: ANNOUNCEMENT }) {
        handler.define(ANNOUNCEMENT, record.payload);
    }
    if let Err(reason) = handler.start() {
        return worker.note(UNFIT, reason.into_bytes(), handler);
    }
    worker.note(READY, Vec::new(), handler)?;
    while let Some(record) = first.take().map_or_else(|| worker.next(handler), |record| Ok(Some(record)))? {
        let Header { kind, id } = record.header;
        match kind {
            STOP => break,
            DEFINE => handler.define(id, record.payload),
            FORGET => handler.forget(id),
            _ if kind & TASK != 0 => worker.run(usize::from(kind & !TASK), id, record.payload, handler)?,
            _ => return Err(Corrupt { what: "a record of an unknown kind" }),
        }
    }
    Ok(())
}

struct Worker {
    seat: Seat,
    tasks: Consumer<Part>,
    replies: Producer<Part>,
    program: Doorbell<SharedBell>,
    program_core: Core,
    spin: AdaptiveSpin,
    aside: Aside,
    told: Notes,
    listened: Listened,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("seat", &self.seat).finish_non_exhaustive()
    }
}

impl Worker {
    /// Waits for the next record.
    fn next(&mut self, handler: &mut dyn Handler) -> Result<Option<Incoming>, Corrupt> {
        loop {
            if let Some(record) = self.tasks.read()? {
                return Ok(Some(record));
            }
            self.tell_holdings(handler)?;
            // Of a record that is longer than the ring a part has been taken: the program can go on with the rest.
            self.ring(handler);
            let rested = handler.rest(&mut || self.rest());
            if rested.is_break() {
                return Ok(None);
            }
        }
    }

    /// Blocks until there is something to read.
    fn rest(&mut self) {
        let Self { seat, tasks, spin, aside, program_core, .. } = self;
        seat.core.note_awake();
        let is_beside = program_core.is_here();
        let has_come = !is_beside && spin.until(|| tasks.has_more());
        if !has_come {
            seat.core.note_asleep();
            seat.bell.sleep(None, || tasks.has_more());
        }
        let rested = match (has_come, is_beside) {
            (true, _) => Rested::Spinning,
            (false, true) => Rested::BesideTheProgram,
            (false, false) => Rested::Long,
        };
        if aside.is_due(rested) {
            os::leave_core();
        }
        seat.core.note_awake();
    }

    fn run(&mut self, place: usize, id: u64, task: Vec<u8>, handler: &mut dyn Handler) -> Result<(), Corrupt> {
        if !self.seat.claims.try_begin(place, id) {
            return Ok(());
        }
        let began = os::monotonic_nanoseconds();
        self.seat.note_begun(Some(began));
        self.told.runs(id);
        let mut payload = Vec::new();
        let generation = os::fork_generation();
        let kind = handler.run(task, &mut payload) & !NOTE;
        if os::fork_generation() != generation {
            // There are two now, and only one seat: that of the parent.
            os::exit_at_once(0);
        }
        if self.listened.is_on() {
            self.seat.note_ran(place, began, os::monotonic_nanoseconds());
        }
        self.seat.note_begun(None);
        // Before the reply, for with that the program lets go of what the task was sent.
        self.tell_holdings(handler)?;
        self.reply(&mut Outgoing::new(Header { kind, id }, payload), handler)
    }

    fn note(&mut self, kind: u16, payload: Vec<u8>, handler: &mut dyn Handler) -> Result<(), Corrupt> {
        self.reply(&mut Outgoing::new(Header { kind, id: 0 }, payload), handler)
    }

    fn tell_holdings(&mut self, handler: &mut dyn Handler) -> Result<(), Corrupt> {
        let Holdings { kept, emptied, dropped } = handler.holdings();
        for (kind, places) in [(KEEPS, kept), (EMPTIED, emptied), (DROPS, dropped)] {
            for id in places {
                self.reply(&mut Outgoing::new(Header { kind, id }, Vec::new()), handler)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, reply: &mut Outgoing<Vec<u8>>, handler: &mut dyn Handler) -> Result<(), Corrupt> {
        loop {
            let is_sent = self.replies.write(reply)?;
            self.ring(handler);
            if is_sent {
                return Ok(());
            }
            // The program rings when it has read: the ring is full, so there is something for it to read.
            let Self { seat, replies, spin, .. } = self;
            let mut found = Ok(true);
            // The reply comes first: a wish to end is heard at the next rest.
            let _ = handler.rest(&mut || {
                seat.bell.wait(None, spin, || {
                    found = replies.has_room();
                    found != Ok(false)
                });
            });
            found?;
        }
    }

    fn ring(&self, handler: &mut dyn Handler) {
        if self.program.ring() == Rung::Elsewhere {
            handler.ring_elsewhere();
        }
    }
}

/// Rings for a program that sleeps on an eventfd: what [`Handler::ring_elsewhere`] is to do with the descriptor that the
/// worker was given.
pub fn ring_eventfd(descriptor: BorrowedFd<'_>) {
    os::write_eventfd(descriptor);
}

/// Has this process end when the one of this number does, whatever it is doing then.
///
/// # Errors
/// The system does not let it be watched: it may be gone already.
pub fn end_with(process: u32) -> std::io::Result<()> {
    let watched = os::ProcessHandle::open(process)?;
    let watch = move || {
        watched.wait_ended();
        os::exit_at_once(1);
    };
    std::thread::Builder::new().name("raddle-watch".into()).spawn(watch).map(drop)
}

/// Has the system kill this process when its parent ends, which must be single-threaded: a thread's end counts as its.
///
/// # Errors
/// The parent is not the process of this number: that has ended already.
pub fn die_with_parent(parent: u32) -> std::io::Result<()> {
    os::die_with_parent(parent)
}
