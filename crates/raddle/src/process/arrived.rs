//! What comes from the workers of a pool (worker -> transport -> RESULT): replies, and what they tell besides.
//!
//! Invariant: a reply is handed out after all that its worker has told before it, unless whoever hears that waits himself.

use std::sync::Arc;
use std::time::Instant;

use super::arena::Segment;
use super::bytes::Bytes;
use super::crew::{Came, Crew, Worker};
use super::launcher::Note;
use super::link::{Received, Reply};
use super::remote::Call;
use super::ring::Corrupt;
use super::teller::{Entries, Entry};
use super::told::Ran;
use crate::events;

/// What has come from the workers.
#[derive(Default)]
pub(crate) struct Arrived {
    /// Replies that can be settled at once.
    pub(crate) came: Came,
    /// What is to be told, and the replies that come after it.
    pub(crate) entries: Entries,
    /// How many replies have been received.
    pub(crate) count: usize,
    /// What workers have let go of.
    pub(crate) dropped: Vec<Segment>,
}

impl Arrived {
    /// Adds what has come from a worker: its replies wait behind what it has told, unless they are let pass.
    fn add(&mut self, worker: &Worker, heard: Heard, lets_pass: bool) {
        let Heard { came, notes, count, dropped, .. } = heard;
        self.count += count;
        self.dropped.extend(dropped);
        let mut put = |entry| self.entries.push((Arc::clone(&worker.untold), entry));
        let must_wait = !lets_pass && (worker.untold.is_pending() || !notes.is_empty());
        if !notes.is_empty() {
            put(Entry::Tell(notes));
        }
        match came {
            came if came.is_empty() => {}
            came if must_wait => put(Entry::Settle(came)),
            came => self.came.extend(came),
        }
    }
}

/// What has come from one worker.
#[derive(Default)]
struct Heard {
    came: Came,
    notes: Vec<Note>,
    /// How many replies have been received.
    count: usize,
    is_ready: bool,
    dropped: Vec<Segment>,
}

impl Worker {
    /// Whether what it tells is read: not while much of it is untold.
    fn is_heard(&self, lets_pass: bool) -> bool {
        lets_pass || self.is_over || !self.untold.is_full()
    }

    fn receive(&mut self, lets_pass: bool, heard: &mut Heard) -> Result<(), Corrupt> {
        loop {
            let received = if self.is_heard(lets_pass) { self.link.receive()? } else { self.link.receive_replies()? };
            let Some(received) = received else { break };
            match received {
                Received::Reply(mut call, reply) => {
                    let reply = self.take_reply(&mut call, reply, heard);
                    self.release_early(heard);
                    heard.came.push((call, reply));
                }
                Received::Early(mut call, reply, before) => {
                    let reply = self.take_reply(&mut call, reply, heard);
                    self.early.push_back((before, call, reply));
                }
                Received::Ready => {
                    self.is_ready = true;
                    heard.is_ready = true;
                    if self.link.load() == 0 {
                        self.idle_since = Some(Instant::now());
                    }
                }
                Received::Unfit(reason) => self.unfit = Some(reason),
                Received::Note(task, bytes) => heard.notes.push(self.note(task, bytes)),
                Received::Keeps(place) => self.keep(place)?,
                Received::Drops(place) => heard.dropped.extend(self.give_up(place)),
                Received::Emptied(place) => {
                    self.leases.iter().filter(|it| it.offset() == place).for_each(Segment::note_emptied)
                }
            }
        }
        self.release_early(heard);
        Ok(())
    }

    /// Its process, also if what started it has not said yet which that is.
    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.pid).or_else(|| self.link.process())
    }

    fn has_run(&self, began: Option<u64>, ended: Option<u64>) -> Ran {
        Ran { worker: self.number, pid: self.pid(), began, ended }
    }

    fn take_reply(&mut self, call: &mut Call, mut reply: Reply, heard: &mut Heard) -> Reply {
        if events::is_listening() {
            let ran = self.link.take_ran();
            call.ran = Some(self.has_run(ran.map(|ran| ran.0), ran.map(|ran| ran.1)));
        }
        if !self.leases.is_empty() {
            let leases = std::mem::take(&mut self.leases);
            leases.iter().for_each(Segment::mark_as_result);
            reply.payload = Bytes::with_segments(reply.payload.to_vec(), leases);
        }
        call.of.came(call.index);
        heard.count += 1;
        reply
    }

    fn note(&self, task: u64, bytes: Vec<u8>) -> Note {
        let ended = || self.early.iter().find(|(before, ..)| before.task == task).map(|(_, call, _)| call);
        let label = self.link.kept(task).or_else(ended).and_then(Call::label);
        let pid = self.pid();
        let note = Note { worker: self.number, pid, label, bytes };
        self.untold.add(&note);
        note
    }

    /// Lets go of replies when all that was told before them has been received.
    fn release_early(&mut self, heard: &mut Heard) {
        while self.early.front().is_some_and(|(before, ..)| before.notes <= self.link.heard()) {
            heard.came.extend(self.early.pop_front().map(|(_, call, reply)| (call, reply)));
        }
    }

    fn lend(&mut self, segment: Option<Segment>) {
        self.link.grant(segment.as_ref());
        self.leases.extend(segment);
    }

    /// It keeps a view of what one of its tasks was sent, or what it was lent.
    fn keep(&mut self, place: u64) -> Result<(), Corrupt> {
        let sent = self.link.sent().filter(|(_, is_begun)| *is_begun);
        let segments = sent.flat_map(|(call, _)| call.parcel.iter()).flat_map(|parcel| parcel.bytes.segments());
        match segments.chain(&self.leases).find(|segment| segment.offset() == place).cloned() {
            Some(segment) => drop(self.kept.insert(place, segment)),
            None => return Err(Corrupt { what: "a worker keeps what it was neither sent nor lent" }),
        }
        Ok(())
    }

    /// It gives back what it was lent, or keeps something no more: what it keeps of that which was lent it still keeps.
    fn give_up(&mut self, place: u64) -> Option<Segment> {
        let lent = self.leases.iter().position(|segment| segment.offset() == place);
        lent.map(|at| self.leases.swap_remove(at)).or_else(|| self.kept.remove(&place))
    }
}

impl Crew {
    /// Whether a worker has written something, or read what there was no room beside. A doomed one says nothing new.
    pub(crate) fn has_news(&mut self) -> bool {
        let lets_pass = self.lets_pass;
        self.workers_mut().any(|worker| {
            let hears = worker.is_heard(lets_pass);
            worker.doom.is_none() && if hears { worker.link.has_news() } else { worker.link.has_replies() }
        })
    }

    /// Takes what the workers have written.
    pub(crate) fn receive(&mut self) -> Arrived {
        let mut arrived = Arrived::default();
        for worker in self.seats.iter_mut().flatten() {
            // What is left of longer records goes on when the worker has read: then it has rung, or written.
            let wish = worker.link.wish();
            let mut heard = Heard::default();
            let received = worker.link.pump().and_then(|()| worker.receive(self.lets_pass, &mut heard));
            match (received, wish) {
                // What it had written before it wished has been taken: what it is lent belongs to its next reply.
                (Ok(()), Some(wished)) if worker.link.claim(wished) => {
                    worker.lend(self.arena.as_ref().and_then(|arena| arena.try_lend(wished.wish())));
                }
                (Ok(()), _) => {}
                (Err(corrupt), _) => worker.condemn(corrupt),
            }
            if heard.count > 0 {
                worker.pace.came(heard.count);
                worker.is_slow = false;
            }
            if worker.link.load() == 0
                && let Some(since) = worker.busy_since.take()
            {
                self.counts.busy += since.elapsed();
                worker.idle_since = Some(Instant::now());
            }
            self.readied += u64::from(heard.is_ready);
            arrived.add(worker, heard, self.lets_pass);
        }
        self.idle += arrived.count;
        arrived
    }

    /// The worker of this process has ended: all that it has told is received.
    pub(crate) fn hear_out(&mut self, pid: u32) {
        let is_dead = |worker: &&mut Worker| worker.process.as_ref().is_some_and(|process| process.pid == pid);
        if let Some(worker) = self.workers_mut().find(is_dead) {
            worker.is_over = true;
        }
    }
}
