//! The workers of a pool and what waits for them (submit -> QUEUE -> transport -> worker): which call goes to whom.
//!
//! Everything here happens under the pool's lock and only decides; what it gives up (calls, endings) is handed out, to be
//! settled and dropped after the lock has been released.
//!
//! | a seat | entered | left |
//! |---|---|---|
//! | empty | at first; its worker has been buried | a worker is wanted: `hire` |
//! | ordered | `hire` | the supervisor has started the process |
//! | at work | its process runs | `bury`, after the process has ended |
//!
//! Calls are sent to an ordered worker too: they lie in its ring when it comes. A call that was sent and not begun can be
//! taken back, so no call waits behind a running one while a worker is idle.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arena::{Arena, Segment};
use super::bytes::Bytes;
use super::held::Held;
use super::link::{ANNOUNCEMENT, Before, Link, Reply, TakenBack};
use super::mapping::Mapping;
use super::pace::Pace;
use super::remote::{Call, Many, Parcels, Queued, address_of};
use super::ring::Corrupt;
use super::teller::Untold;
use super::told::Ran;
use crate::os::ProcessHandle;
use crate::roster::Phase;

/// A task that takes longer keeps no other waiting. A guess: many times what it costs to send one.
pub(crate) const LONG: Duration = Duration::from_millis(5);

/// So many quick calls lie with one worker before another is woken for them. A wake-up costs 4 us and more, as several of
/// them do; should one of them take long after all, what lies behind it is freed as behind any long task.
const MOST_QUICK: usize = 64;

/// At how many slow looks a worker may stand still before it is taken to be lost.
const MOST_STANDSTILL: u32 = 4;

/// Why a worker is being ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// The task of this number was to be stopped.
    Killed(u64),
    /// The task of this number ran too long.
    Overran(u64),
    /// The pool is given up, or broken.
    Dismissed,
    /// It wrote rubbish.
    Corrupt(&'static str),
    /// It does not begin what it was sent.
    Lost,
    /// The task of this number, if there was one, had it hold more memory than it may.
    Outgrew(Option<u64>),
}

/// A worker, from its order on.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Counts the workers of the pool.
    pub(crate) number: usize,
    pub(crate) link: Link<Call>,
    pub(crate) process: Option<Process>,
    pub(super) is_ready: bool,
    /// Why it could not be made ready, in its own words.
    pub(crate) unfit: Option<String>,
    pub(crate) doom: Option<Doom>,
    /// It was told to leave when it is done.
    pub(crate) is_leaving: bool,
    /// Tasks that it may still be sent; `None`: as many as there are.
    left: Option<usize>,
    /// Its task takes long: nothing is put behind it.
    pub(super) is_slow: bool,
    /// How far it had come at the last slow look, and at how many looks it had not come further, with calls and without
    /// having begun one.
    progress: u64,
    standstill: u32,
    defined: HashSet<u64>,
    /// Segments that it has been lent, to compute in or for its next reply, and that it has not given back.
    pub(super) leases: Vec<Segment>,
    /// Segments of former tasks of which it keeps views, or in which it has computed, by their places.
    pub(super) kept: HashMap<u64, Segment>,
    pub(super) pace: Pace,
    pub(crate) busy_since: Option<Instant>,
    pub(crate) idle_since: Option<Instant>,
    pub(crate) memory: Held,
    /// What it has told and nobody has heard.
    pub(super) untold: Arc<Untold>,
    /// Replies that were received before notes that come before them.
    pub(super) early: VecDeque<(Before, Call, Reply)>,
    /// It has ended: all that it has told is received.
    pub(super) is_over: bool,
}

/// What is known of a worker that has ended.
pub(crate) struct DeadWorker {
    pub(crate) number: usize,
    pub(crate) doom: Option<Doom>,
    pub(crate) unfit: Option<String>,
    pub(crate) is_ready: bool,
    pub(crate) is_leaving: bool,
    pub(crate) busy_since: Option<Instant>,
    /// The most memory that it was seen to hold, if that was looked at.
    pub(crate) peak_memory: Option<u64>,
    pub(crate) untold: Arc<Untold>,
    /// Replies that had come, and wait for notes that can be read no more.
    pub(crate) early: Came,
}

/// The process of a worker.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) handle: Arc<ProcessHandle>,
}

impl Worker {
    /// What is left of it after its end: its calls, each with whether it had begun it.
    pub(crate) fn into_remains(self) -> (DeadWorker, Vec<(Call, bool)>) {
        let pid = self.process.as_ref().map(|process| process.pid);
        let Self {
            number,
            link,
            is_ready,
            unfit,
            doom,
            is_leaving,
            busy_since,
            memory,
            untold,
            early,
            kept,
            leases,
            ..
        } = self;
        let has_children = link.has_children();
        let early = early.into_iter().map(|(_, call, reply)| (call, reply)).collect();
        let peak_memory = memory.peak();
        let running = link.running().map(|(call, began)| (call.number, began));
        let mut calls: Vec<_> = link.into_left().collect();
        for (call, is_begun) in &mut calls {
            let began = running.filter(|(number, _)| *number == call.number).and_then(|(_, began)| began);
            call.ran = is_begun.then_some(Ran { worker: number, pid, began, ended: None });
        }
        if has_children {
            let begun = calls.iter().filter(|(_, is_begun)| *is_begun).filter_map(|(call, _)| call.parcel.as_ref());
            let begun = begun.flat_map(|parcel| parcel.bytes.segments().iter().cloned());
            // Nobody tells when they are gone: it is lost.
            kept.into_values().chain(leases).chain(begun).for_each(std::mem::forget);
        }
        // What it says of its claims is worth nothing: the first call may have been begun.
        if let (Some(Doom::Corrupt(_)), Some((_, is_begun))) = (&doom, calls.first_mut()) {
            *is_begun = true;
        }
        let dead = DeadWorker { number, doom, unfit, is_ready, is_leaving, busy_since, peak_memory, untold, early };
        (dead, calls)
    }

    fn takes_calls(&self) -> bool {
        self.doom.is_none() && self.unfit.is_none() && !self.is_leaving && self.left != Some(0)
    }

    fn has_room(&self) -> bool {
        // What was sent to a worker that leaves after so many tasks is not taken back for others: it gets one at a time.
        let window = if self.left.is_some() || self.is_slow { 1 } else { self.pace.window() };
        self.takes_calls() && self.link.load() < window && self.link.has_room()
    }

    /// Whether it runs something, or makes itself ready.
    pub(crate) fn is_at_work(&self) -> bool {
        !self.is_ready || self.link.load() > 0
    }

    /// It has written rubbish: nothing that it says is believed any more.
    pub(super) fn condemn(&mut self, corrupt: Corrupt) {
        self.doom.get_or_insert(Doom::Corrupt(corrupt.what));
        self.kill();
    }

    /// Ends the process, if there is one yet.
    pub(crate) fn kill(&self) {
        if let Some(process) = &self.process {
            process.handle.kill();
        }
    }
}

/// What is not needed any more, to be dropped after the lock has been released: it may hold objects of a user's.
pub(crate) type Spent = Vec<Queued>;

/// Replies, to be settled after the lock has been released.
pub(crate) type Came = Vec<(Call, Reply)>;

/// Figures that are counted under the lock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) submitted: u64,
    pub(crate) retried: u64,
    pub(crate) died: u64,
    pub(crate) longest_queue: usize,
    pub(crate) busy: Duration,
}

/// The state of a pool.
pub(crate) struct Crew {
    mapping: Mapping,
    pub(super) arena: Option<Arc<Arena>>,
    pub(crate) phase: Phase,
    pub(crate) seats: Box<[Option<Worker>]>,
    queue: VecDeque<Queued>,
    /// Calls in the queue.
    queued: usize,
    /// Bytes that the queue keeps.
    weight: usize,
    /// Calls that the supervisor has taken out of the queue, to encode or to judge them.
    pub(crate) aside: usize,
    definitions: HashMap<u64, Bytes>,
    next_definition: u64,
    next_send: u64,
    next_number: u64,
    next_worker: usize,
    tasks_per_worker: Option<usize>,
    /// Replies for which no call has come since: so many workers are thought idle.
    pub(super) idle: usize,
    /// Calls for which no worker was thought idle.
    wanted: usize,
    /// Whether the next call of the queue has to be encoded.
    pub(crate) wants_encoding: bool,
    /// Calls lie behind others: the supervisor is to look whether those take long.
    pub(crate) has_behind: bool,
    /// It does.
    pub(crate) is_looked_after: bool,
    /// No worker is started before: the system has refused one.
    pub(crate) hires_again: Option<Instant>,
    /// Nobody looks from time to time: whoever submits has to ring.
    pub(crate) is_unwatched: bool,
    /// How often a worker has become ready.
    pub(crate) readied: u64,
    /// What is not begun has been cancelled, once for all.
    pub(crate) gives_up: bool,
    /// The shortest time limit of any task so far.
    pub(crate) shortest_limit: Option<Duration>,
    pub(crate) counts: Counts,
    /// Whoever hears what workers tell waits for a task: no reply waits for him.
    pub(crate) lets_pass: bool,
    /// The pool is about to be broken: no worker is started any more.
    pub(crate) is_failing: bool,
    /// What the program says to each worker before everything else.
    announced: Option<Bytes>,
}

impl Crew {
    pub(crate) fn new(
        mapping: Mapping,
        arena: Option<Arc<Arena>>,
        max_workers: usize,
        tasks_per_worker: Option<usize>,
    ) -> Self {
        Self {
            mapping,
            arena,
            phase: Phase::Open,
            seats: (0..max_workers).map(|_| None).collect(),
            queue: VecDeque::new(),
            queued: 0,
            weight: 0,
            aside: 0,
            definitions: HashMap::new(),
            next_definition: 1,
            next_send: 1,
            next_number: 1,
            next_worker: 0,
            tasks_per_worker,
            idle: 0,
            wanted: 0,
            wants_encoding: false,
            has_behind: false,
            is_looked_after: false,
            hires_again: None,
            is_unwatched: true,
            readied: 0,
            gives_up: false,
            shortest_limit: None,
            counts: Counts::default(),
            lets_pass: false,
            is_failing: false,
            announced: None,
        }
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.seats.iter().flatten()
    }

    pub(super) fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.seats.iter_mut().flatten()
    }

    /// Calls with workers, begun or not.
    pub(crate) fn sent(&self) -> usize {
        self.workers().map(|worker| worker.link.load()).sum()
    }

    /// Calls that have not ended.
    pub(crate) fn outstanding(&self) -> usize {
        self.queued + self.aside + self.sent()
    }

    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    // --- What comes in -----------------------------------------------------------------------------------------------

    /// Numbers so many tasks.
    pub(crate) fn number(&mut self, count: usize) -> u64 {
        let first = self.next_number;
        self.next_number += count as u64;
        self.counts.submitted += count as u64;
        self.wanted += count.saturating_sub(self.idle);
        self.idle = self.idle.saturating_sub(count);
        first
    }

    pub(crate) fn note_limit(&mut self, limit: Option<Duration>) {
        self.shortest_limit = self.shortest_limit.into_iter().chain(limit).min();
    }

    /// Adds to the end of the queue.
    pub(crate) fn push(&mut self, call: Call) {
        self.count_in(&call);
        self.queue.push_back(Queued::One(call));
        self.counts.longest_queue = self.counts.longest_queue.max(self.queued);
    }

    /// Adds to its front: what had been sent, or was looked at, before the rest.
    pub(crate) fn push_front(&mut self, call: Call) {
        self.count_in(&call);
        self.queue.push_front(Queued::One(call));
    }

    pub(crate) fn push_many(&mut self, many: Many) {
        self.queued += many.end - many.next;
        self.weight += many.parcels.as_ref().map_or(0, Parcels::weight);
        self.queue.push_back(Queued::Many(many));
        self.counts.longest_queue = self.counts.longest_queue.max(self.queued);
    }

    fn count_in(&mut self, call: &Call) {
        self.queued += 1;
        self.weight += call.weight();
    }

    /// The next call for which somebody waits; `spent` takes the others.
    fn pop(&mut self, spent: &mut Spent) -> Option<Call> {
        loop {
            let call = match self.queue.pop_front()? {
                Queued::One(call) => call,
                Queued::Many(mut many) => {
                    let call = many.pop();
                    // One that is used up goes at once: it holds the arguments and the results.
                    if many.is_empty() {
                        spent.push(Queued::Many(many));
                    } else {
                        self.queue.push_front(Queued::Many(many));
                    }
                    call
                }
            };
            self.queued -= 1;
            self.weight -= call.weight();
            if !call.is_over() {
                return Some(call);
            }
            spent.push(Queued::One(call));
        }
    }

    /// Takes everything out of the queue.
    pub(crate) fn take_queue(&mut self) -> Vec<Call> {
        let mut spent = Spent::new();
        let mut calls: Vec<_> = std::iter::from_fn(|| self.pop(&mut spent)).collect();
        for entry in spent {
            match entry {
                Queued::One(call) => calls.push(call),
                // Its calls are among those above, so it is not the last to hold what they share.
                Queued::Many(_) => {}
            }
        }
        calls
    }

    /// Takes the next call out, if it has to be encoded before it can be sent.
    pub(crate) fn take_unencoded(&mut self, spent: &mut Spent) -> Option<Call> {
        self.wants_encoding = false;
        let call = self.pop(spent)?;
        if call.parcel.is_some() {
            self.push_front(call);
            return None;
        }
        self.aside += 1;
        Some(call)
    }

    pub(crate) fn define(&mut self, bytes: Bytes) -> u64 {
        let number = self.next_definition;
        self.next_definition += 1;
        self.definitions.insert(number, bytes);
        number
    }

    /// Says something to all workers, those to come too; it takes the place of what was said before.
    pub(crate) fn announce(&mut self, bytes: Bytes) {
        // What was changed and changed back.
        if self.announced.as_ref() == Some(&bytes) {
            return;
        }
        for worker in self.workers_mut().filter(|worker| !worker.is_leaving) {
            if let Err(corrupt) = worker.link.define(ANNOUNCEMENT, bytes.clone()) {
                worker.condemn(corrupt);
            }
            worker.link.ring();
        }
        self.announced = Some(bytes);
    }

    pub(crate) fn forget(&mut self, number: u64) {
        self.definitions.remove(&number);
        for worker in self.workers_mut() {
            if worker.defined.remove(&number)
                && let Err(corrupt) = worker.link.forget(number)
            {
                worker.condemn(corrupt);
            }
        }
    }

    // --- What goes out -----------------------------------------------------------------------------------------------

    /// Sends what there is room for, and takes back what an idle worker can do. Whether a process is to be started.
    pub(crate) fn dispatch(&mut self, spent: &mut Spent) -> bool {
        if matches!(self.phase, Phase::Broken(_)) {
            return false;
        }
        let hired = self.hire_wanted();
        while self.queued > 0 {
            let Some((seat, _)) = self.roomiest() else { break };
            let Some(call) = self.pop(spent) else { break };
            if call.parcel.is_none() {
                self.push_front(call);
                self.wants_encoding = true;
                break;
            }
            self.send(seat, call);
        }
        if self.queued == 0 {
            self.balance();
        }
        self.workers_mut().for_each(|worker| worker.link.ring());
        hired
    }

    /// The worker with the fewest calls of those that have room, and how many they are. Nobody is woken for a few quick calls.
    fn roomiest(&self) -> Option<(usize, usize)> {
        let is_quick = |worker: &Worker| worker.link.load() > 0 && worker.pace.is_quick() && worker.has_room();
        let are_quick = self.workers().any(is_quick);
        let open = self.seats.iter().enumerate().filter_map(|(seat, worker)| {
            let worker = worker.as_ref()?;
            worker.has_room().then_some((seat, worker))
        });
        let cost = |worker: &Worker| {
            let waking = if are_quick && worker.link.is_asleep() { MOST_QUICK } else { 0 };
            worker.link.load() + waking
        };
        open.min_by_key(|(_, worker)| cost(worker)).map(|(seat, worker)| (seat, worker.link.load()))
    }

    /// As in the standard library, a call for which no worker is thought idle has one started; and there are never fewer
    /// workers than calls, unless all seats are taken.
    fn hire_wanted(&mut self) -> bool {
        let mut wanted = std::mem::take(&mut self.wanted);
        let workers = self.workers().filter(|worker| worker.takes_calls()).count();
        wanted = wanted.max((self.queued + self.sent()).saturating_sub(workers));
        let mut has_hired = false;
        if self.is_failing || self.hires_again.is_some_and(|then| then > Instant::now()) {
            return false;
        }
        while wanted > 0 && self.hire() {
            wanted -= 1;
            has_hired = true;
        }
        has_hired
    }

    /// Takes an empty seat for a new worker; `false` if there is none.
    pub(crate) fn hire(&mut self) -> bool {
        let Some(seat) = self.seats.iter().position(Option::is_none) else { return false };
        let mut worker = Worker {
            number: self.next_worker,
            link: Link::new(&self.mapping, seat),
            process: None,
            is_ready: false,
            unfit: None,
            doom: None,
            is_leaving: false,
            left: self.tasks_per_worker,
            is_slow: false,
            progress: 0,
            standstill: 0,
            defined: HashSet::new(),
            leases: Vec::new(),
            kept: HashMap::new(),
            pace: Pace::new(),
            busy_since: None,
            idle_since: None,
            memory: Held::default(),
            untold: Arc::default(),
            early: VecDeque::new(),
            is_over: false,
        };
        if let Some(bytes) = &self.announced
            && let Err(corrupt) = worker.link.define(ANNOUNCEMENT, bytes.clone())
        {
            worker.condemn(corrupt);
        }
        self.next_worker += 1;
        self.seats[seat] = Some(worker);
        true
    }

    fn send(&mut self, seat: usize, call: Call) {
        let number = self.next_send;
        self.next_send += 1;
        let Some(worker) = &mut self.seats[seat] else { return };
        if worker.link.load() == 0 {
            worker.pace.begins();
            worker.busy_since = Some(Instant::now());
            worker.idle_since = None;
        } else {
            self.has_behind = true;
        }
        if let Some(left) = &mut worker.left {
            *left -= 1;
        }
        if let Err(corrupt) = Self::write(worker, &self.definitions, number, call) {
            worker.condemn(corrupt);
        }
    }

    fn write(worker: &mut Worker, definitions: &HashMap<u64, Bytes>, number: u64, call: Call) -> Result<(), Corrupt> {
        let parcel = call.parcel.clone().unwrap_or_default();
        let mut defined = Ok(());
        if let Some(needed) = parcel.needs
            && let Some(bytes) = definitions.get(&needed)
            && worker.defined.insert(needed)
        {
            defined = worker.link.define(needed, bytes.clone());
        }
        // Whatever happens, the worker has the call from now on: it comes back when the worker is buried.
        let sent = worker.link.send(number, parcel.bytes, call);
        let stopped = if worker.left == Some(0) { Self::dismiss(worker) } else { Ok(()) };
        defined.and(sent).and(stopped)
    }

    fn dismiss(worker: &mut Worker) -> Result<(), Corrupt> {
        worker.is_leaving = true;
        worker.link.stop()
    }

    /// Has all workers leave when they are done.
    pub(crate) fn dismiss_all(&mut self) {
        for worker in self.workers_mut().filter(|worker| !worker.is_leaving) {
            if let Err(corrupt) = Self::dismiss(worker) {
                worker.condemn(corrupt);
            }
            worker.link.ring();
        }
    }

    /// Gives idle workers calls that others have not begun.
    fn balance(&mut self) {
        while let Some((idle, 0)) = self.roomiest() {
            let busiest = self.workers_mut().max_by_key(|worker| worker.link.load());
            let Some(busiest) = busiest.filter(|worker| worker.link.load() > 1) else { break };
            // Half of what is there: then the two end at about the same time.
            let wanted = busiest.link.load() / 2;
            let taken: Vec<_> = std::iter::from_fn(|| busiest.link.take_back_last()).take(wanted).collect();
            if taken.is_empty() {
                break;
            }
            taken.into_iter().rev().for_each(|call| self.send(idle, call));
        }
    }

    // --- What comes back ---------------------------------------------------------------------------------------------

    /// Whether all workers that have something to do are awake on other cores than the caller's, and there is one.
    pub(crate) fn is_awake_elsewhere(&self) -> bool {
        let mut busy = self.workers().filter(|worker| worker.link.load() > 0).peekable();
        busy.peek().is_some() && busy.all(|worker| worker.link.is_awake_elsewhere())
    }

    /// Takes a call back that no worker has begun, from wherever it is. `Begun`: a worker runs it.
    pub(crate) fn withdraw(&mut self, is_wanted: impl Fn(&Call) -> bool + Copy) -> TakenBack<Call> {
        for worker in self.seats.iter_mut().flatten() {
            match worker.link.try_take_back(is_wanted) {
                TakenBack::NotHere => {}
                found => return found,
            }
        }
        TakenBack::NotHere
    }

    /// Takes back all calls of a batch that no worker has begun, and those in the queue.
    pub(crate) fn withdraw_batch(&mut self, batch: usize) -> Vec<Call> {
        let mut taken = Vec::new();
        for worker in self.seats.iter_mut().flatten() {
            taken.extend(worker.link.take_back_all(|call| call.is_of(batch)));
        }
        let queue = std::mem::take(&mut self.queue);
        for entry in queue {
            match entry {
                Queued::Many(mut many) if address_of(&many.of) == batch => {
                    while !many.is_empty() {
                        let call = many.pop();
                        self.queued -= 1;
                        self.weight -= call.weight();
                        taken.push(call);
                    }
                }
                Queued::One(call) if call.is_of(batch) => {
                    self.queued -= 1;
                    self.weight -= call.weight();
                    taken.push(call);
                }
                other => self.queue.push_back(other),
            }
        }
        taken
    }

    /// Takes back all calls that no worker has begun.
    pub(crate) fn take_back_all(&mut self) -> Vec<Call> {
        self.workers_mut().flat_map(|worker| worker.link.take_back_all(|_| true)).collect()
    }

    /// Takes back all calls but those that workers have begun, or are about to begin.
    pub(crate) fn take_back_waiting(&mut self) -> Vec<Call> {
        let waiting = self.workers_mut().flat_map(|worker| {
            let first = worker.link.sent().next().map(|(call, _)| call.number);
            worker.link.take_back_all(|call| Some(call.number) != first)
        });
        waiting.collect()
    }

    /// Takes back what lies behind tasks that take long, and with it what other workers have not begun, so that all of it
    /// is begun in the order in which it was submitted. Whether calls still lie behind others.
    pub(crate) fn free_waiting(&mut self, now: u64) -> bool {
        let mut has_behind = false;
        let mut must_sort = false;
        for worker in self.seats.iter_mut().flatten().filter(|worker| worker.doom.is_none() && worker.link.load() > 1) {
            has_behind = true;
            let since = worker.link.running().and_then(|(_, since)| since);
            let is_slow = since.is_some_and(|since| now.saturating_sub(since) >= LONG.as_nanos() as u64);
            worker.is_slow |= is_slow;
            must_sort |= is_slow;
        }
        if must_sort {
            let mut waiting = self.take_back_all();
            waiting.sort_by_key(|call| call.number);
            waiting.into_iter().rev().for_each(|call| self.push_front(call));
        }
        self.has_behind = false;
        self.is_looked_after = has_behind;
        has_behind
    }

    /// Wakes all that have something to do, for the case that their doorbells were written over, and ends those that have not
    /// begun what they have for a while: the claims may have been written over, and what it has can be done by others.
    pub(crate) fn look_slowly(&mut self) {
        for worker in self.seats.iter_mut().flatten() {
            // To become ready may take long; what is said before must be that it is.
            let is_silent = !worker.is_ready && !worker.link.has_spoken();
            if worker.link.load() == 0 || is_silent || worker.doom.is_some() {
                worker.standstill = 0;
                continue;
            }
            worker.link.shake();
            let progress = worker.link.progress();
            let is_running = worker.link.running().is_some_and(|(_, since)| since.is_some());
            worker.standstill = if is_running || progress != worker.progress { 0 } else { worker.standstill + 1 };
            worker.progress = progress;
            if worker.standstill >= MOST_STANDSTILL {
                worker.doom = Some(Doom::Lost);
                worker.kill();
            }
        }
    }

    /// Has the worker that runs the task ended, for this reason. What else it has goes elsewhere. `false`: nobody runs it.
    pub(crate) fn doom_runner(&mut self, number: u64, doom: Doom) -> bool {
        let runner = self.seats.iter().position(|worker| {
            let running = worker.as_ref().and_then(|worker| worker.link.running());
            running.is_some_and(|(call, _)| call.number == number)
        });
        let Some(worker) = runner.and_then(|seat| self.seats[seat].as_mut()) else { return false };
        if worker.doom.is_some() {
            return worker.doom == Some(doom);
        }
        // First it is left without a further task, so that none but this one can be hit.
        let taken = worker.link.take_back_all(|call| call.number != number);
        // If it has begun another, this one has ended, and its reply is on the way.
        let is_still_running = worker.link.load() == 1;
        if is_still_running {
            worker.doom = Some(doom);
            worker.kill();
        }
        taken.into_iter().rev().for_each(|call| self.push_front(call));
        is_still_running
    }

    /// Has the worker of a seat ended.
    pub(crate) fn doom(&mut self, seat: usize, doom: Doom) {
        if let Some(worker) = &mut self.seats[seat] {
            worker.doom.get_or_insert(doom);
            worker.kill();
        }
    }

    /// A worker has ended: what it was doing has been done for that long.
    pub(crate) fn count_busy(&mut self, since: Option<Instant>) {
        self.counts.busy += since.map_or(Duration::ZERO, |since| since.elapsed());
    }

    /// Has workers leave that have had nothing to do for so long; gives the time until the next may.
    pub(crate) fn dismiss_idle(&mut self, timeout: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        let mut dismissed = 0;
        for worker in self.workers_mut().filter(|worker| worker.takes_calls() && worker.link.load() == 0) {
            let Some(since) = worker.idle_since else { continue };
            let rest = timeout.saturating_sub(since.elapsed());
            if !rest.is_zero() {
                next = next.into_iter().chain([rest]).min();
                continue;
            }
            dismissed += 1;
            if let Err(corrupt) = Self::dismiss(worker) {
                worker.condemn(corrupt);
            }
            worker.link.ring();
        }
        self.idle = self.idle.saturating_sub(dismissed);
        next
    }

    /// Has every worker ended.
    pub(crate) fn doom_all(&mut self) {
        for worker in self.workers_mut() {
            worker.doom.get_or_insert(Doom::Dismissed);
            worker.kill();
        }
    }
}
