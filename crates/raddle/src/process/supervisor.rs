//! The thread that supervises a pool of processes: it starts workers, buries them, ends tasks whose time is over, calls
//! callbacks, and looks after the rings while nobody waits.
//!
//! It sleeps on an eventfd and on the ends of the workers' processes. Callers leave the doorbell awake when they give up the
//! lead, because the next caller mostly comes in a moment: for that moment, a tick, the supervisor looks by itself; then it
//! diverts the doorbell and sleeps.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::crew::{Crew, DeadWorker, Doom, LONG, Process, Spent, Worker};
use super::launcher::{Exit, Started};
use super::pool::{self, Order, ProcessPool};
use super::remote::{Call, Ending};
use super::teller::{Entry, Lost};
use crate::error::{Death, Failure, LostTask};
use crate::future;
use crate::os::{self, ProcessHandle};
use crate::roster::Phase;
use crate::signal::{Drive, Signal, Waited};

/// Until the supervisor looks again after replies have come: many come together, so that short tasks do not wake it for each.
const TICK: Duration = Duration::from_micros(100);
/// How long a caller who has given up the lead may take to come back before the doorbell is diverted.
const GRACE: Duration = Duration::from_millis(1);
/// Until the next try after the system has refused a process, with other workers and without.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_ALONE: Duration = Duration::from_millis(100);
/// While there are tasks, the supervisor looks this often in any case: a task may have written over a doorbell.
const SLOW_LOOK: Duration = Duration::from_secs(1);
/// How many workers may die in a row before one is ready. A guess: a worker that cannot start fails each time.
const FAILED_STARTS: u32 = 3;
/// The same for those that are killed, which somebody may do from outside; or the system, for want of memory.
const KILLED_STARTS: u32 = 30;

/// At how many deaths a call may have been the next one. A guess: two may be chance.
const MOST_LOSSES: u32 = 3;

/// What a dead worker leaves.
struct Remains {
    worker: DeadWorker,
    /// The calls that it had begun.
    lost: Vec<Call>,
    /// Those that it had not begun, and that are not to be run any more.
    given_up: Vec<Call>,
    /// It was to leave, and had nothing to do.
    is_in_order: bool,
}

/// What the supervisor remembers. Its lock is held by nobody else, and by it only for a moment: a callback that it calls may
/// wait for a task, and then it goes on with its work in there.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    failed_starts: u32,
    killed_starts: u32,
    /// In a row.
    refused_starts: u32,
    /// How many workers had become ready when this was looked at last.
    readied: u64,
    /// The last slow look.
    looked: Option<Instant>,
}

impl Watch {
    /// A worker has ended before it was ready. Whether too many have.
    fn has_failed(&mut self, code: i32) -> bool {
        let was_killed = os::is_by_others(code.saturating_neg());
        let count = if was_killed { &mut self.killed_starts } else { &mut self.failed_starts };
        *count += 1;
        self.failed_starts >= FAILED_STARTS || self.killed_starts >= KILLED_STARTS
    }
}

/// Rings for the supervisor itself, which waits in a callback.
struct Supervising(Weak<ProcessPool>);

impl Drive for Supervising {
    fn drive(&self, signal: &Signal, deadline: Option<Instant>) -> Option<Waited> {
        self.0.upgrade()?.drive(signal, deadline)
    }

    fn ring(&self) {
        if let Some(pool) = self.0.upgrade() {
            pool.wake.ring();
        }
    }
}

impl ProcessPool {
    /// The body of the supervising thread: returns when the pool is closed and its last worker is gone.
    pub(crate) fn supervise(&self) {
        pool::note_own_thread();
        self.supervisor.store(os::thread_ident(), SeqCst);
        let mut ended = Vec::new();
        loop {
            let (drained, next_limit) = self.tend(ended);
            self.carry_out_orders();
            // Encoding drains, which may leave orders.
            let is_due = self.encode_next() || !self.orders.lock().is_empty();
            if self.has_closed() {
                break;
            }
            ended = self.sleep(self.next_turn(drained, next_limit, is_due));
        }
        self.teller.close();
        self.launcher.close();
        self.supervisor.store(0, SeqCst);
        self.has_ended();
    }

    /// Goes on with its work on the supervising thread, of which a callback waits for a task, until `signal` is set.
    pub(crate) fn supervise_until(&self, signal: &Signal, deadline: Option<Instant>) -> Option<Waited> {
        let drive: Arc<dyn Drive> = Arc::new(Supervising(self.this.clone()));
        signal.begin_to_drive(&drive);
        let mut ended = Vec::new();
        let waited = loop {
            let (drained, next_limit) = self.tend(ended);
            // Other callbacks have to wait for this one.
            self.carry_out_judgements();
            let is_due = self.encode_next() || next_judgement(&self.orders.lock()).is_some();
            if signal.is_set() {
                break Waited::Ready;
            }
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if rest == Some(Duration::ZERO) {
                break Waited::TimedOut;
            }
            let next = self.next_turn(drained, next_limit, is_due);
            // Who has ended is seen again, if this is the last turn.
            ended = self.sleep(next.into_iter().chain(rest).min());
        };
        Some(signal.end_to_drive(waited))
    }

    /// Does what cannot wait; gives how many replies have come, and the time until something is to be looked at again.
    fn tend(&self, ended: Vec<u32>) -> (usize, Option<Duration>) {
        self.wake.quiet();
        ended.into_iter().for_each(|pid| self.bury(pid));
        self.start_ordered();
        // Before the look that it asks for.
        let next_told = self.teller.next_look();
        // What has come has not overrun.
        let drained = self.drain();
        let next_limit = self.end_overrun();
        let next_look = self.free_waiting();
        let next_memory = self.end_outgrown();
        let next_idle = self.dismiss_idle();
        self.tend_teller();
        // Told just now.
        let next_told = next_told.filter(|rest| !rest.is_zero()).or_else(|| self.teller.next_look());
        let next = [next_limit, next_look, next_memory, next_idle, next_told];
        (drained, next.into_iter().flatten().min())
    }

    fn next_turn(&self, drained: usize, next: Option<Duration>, is_due: bool) -> Option<Duration> {
        let tick = self.watch_doorbell(drained);
        tick.into_iter().chain(next).chain(is_due.then_some(Duration::ZERO)).min()
    }

    /// Decides who is rung for from now on; gives the time after which to look again, if somebody may not ring.
    fn watch_doorbell(&self, drained: usize) -> Option<Duration> {
        self.is_watching.store(false, SeqCst);
        // A leader rings when he leaves and sees that nobody watches.
        if self.is_led() {
            return None;
        }
        // Callers who take their results themselves are not to be disturbed more often than needed.
        let tick = if self.was_led.swap(false, SeqCst) {
            Some(GRACE)
        } else if drained > 0 {
            Some(TICK)
        } else if !self.try_lead() {
            None
        } else {
            let has_more = self.divert();
            self.give_up_lead();
            has_more.then_some(Duration::ZERO)
        };
        if tick.is_some() {
            self.is_watching.store(true, SeqCst);
        }
        tick
    }

    /// Sleeps until somebody rings, a worker has ended, or it is time. Gives the workers that have ended.
    fn sleep(&self, timeout: Option<Duration>) -> Vec<u32> {
        let watched: Vec<(u32, Arc<ProcessHandle>)> = {
            let crew = self.crew.lock();
            let processes = crew.workers().filter_map(|worker| worker.process.as_ref());
            processes.map(|process| (process.pid, Arc::clone(&process.handle))).collect()
        };
        let mut descriptors = vec![self.wake.as_fd()];
        descriptors.extend(watched.iter().map(|(_, handle)| handle.as_fd()));
        let readable = os::poll_readable(&descriptors, timeout);
        let ended = watched.iter().zip(&readable[1..]).filter(|(_, has_ended)| **has_ended);
        ended.map(|((pid, _), _)| *pid).collect()
    }

    // --- Starts ------------------------------------------------------------------------------------------------------

    /// Starts the processes of all seats, before there is a thread.
    pub(crate) fn hire_all(&self) {
        {
            let mut crew = self.crew.lock();
            while crew.hire() {}
        }
        self.start_ordered();
    }

    fn start_ordered(&self) {
        loop {
            let ordered = {
                let crew = self.crew.lock();
                let mut seats = crew.seats.iter().enumerate();
                seats.find_map(|(seat, worker)| {
                    let worker = worker.as_ref().filter(|worker| worker.process.is_none())?;
                    Some((seat, worker.number, crew.phase != Phase::Open && crew.outstanding() == 0))
                })
            };
            match ordered {
                None => return,
                // There is nothing left for it to do.
                Some((seat, _, true)) => drop(self.crew.lock().seats[seat].take()),
                Some((seat, number, false)) => self.start_worker(seat, number),
            }
        }
    }

    fn start_worker(&self, seat: usize, number: usize) {
        let started = self.launcher.start(seat, number).and_then(|Started { pid, watch }| {
            let opened = ProcessHandle::open(pid);
            // One that has ended, and was waited for by somebody else, can be watched and need not be killed.
            let handle = opened.or_else(|error| watch.map(ProcessHandle::watching).ok_or_else(|| error.to_string()))?;
            Ok(Process { pid, handle: Arc::new(handle) })
        });
        match started {
            Ok(process) => {
                self.watch.lock().refused_starts = 0;
                self.tell_worker_started(number, process.pid);
                let mut crew = self.crew.lock();
                if let Some(worker) = &mut crew.seats[seat] {
                    worker.process = Some(process);
                    if worker.doom.is_some() {
                        worker.kill();
                    }
                }
            }
            Err(reason) => self.do_without(seat, &reason),
        }
    }

    /// A worker could not be started. If there are others, they come to what it would have done; in any case it is tried
    /// again, for a process may be had in a moment.
    fn do_without(&self, seat: usize, reason: &str) {
        let refused_starts = {
            let mut watch = self.watch.lock();
            watch.refused_starts += 1;
            watch.refused_starts
        };
        let (given_up, is_last_hope) = {
            let mut crew = self.crew.lock();
            let worker = crew.seats[seat].take();
            let calls = worker.map(|worker| worker.into_remains().1.into_iter().map(|(call, _)| call).collect());
            let is_alone = crew.workers().all(|worker| worker.process.is_none());
            let pause = if is_alone { PAUSE_ALONE } else { PAUSE };
            crew.hires_again = Some(Instant::now() + pause);
            (requeue(&mut crew, calls.unwrap_or_default()), is_alone && refused_starts >= FAILED_STARTS)
        };
        self.give_up(given_up);
        if is_last_hope {
            self.break_down(&format!("a worker process could not be started: {reason}").into());
        }
    }

    // --- Deaths ------------------------------------------------------------------------------------------------------

    /// A worker's process has ended: what it was running has failed, what else it had goes to others.
    fn bury(&self, pid: u32) {
        let exit = self.launcher.reap(pid);
        self.crew.lock().hear_out(pid);
        self.drain();
        // It may have died between its last word and the ring for it.
        self.shake();
        let Some(Remains { worker, lost, given_up, is_in_order }) = self.take_dead(pid) else { return };
        let why = worker.doom.as_ref().and_then(Doom::why);
        let peak_memory = worker.peak_memory.or(exit.peak_memory);
        let exit = Exit { peak_memory, ..exit };
        let death = Arc::new(Death { worker: worker.number, pid, exit, why });
        let is_idle = matches!(worker.doom, None | Some(Doom::Dismissed)) && is_in_order && death.exit.code == 0;
        self.tell_worker_ended(&death, is_idle);
        self.give_up(given_up);
        let broken = match worker.unfit {
            Some(reason) => Some(reason.into()),
            None => self.consider(&death, worker.doom.as_ref(), is_in_order, worker.is_ready),
        };
        let fail = |call: Call| {
            let failure = failure_of(&call, worker.doom.as_ref(), &death, self.memory_limit);
            (call, Ending::Failed(failure))
        };
        let calls: Vec<_> = lost.into_iter().map(fail).collect();
        if !worker.early.is_empty() {
            self.put_behind(&worker.untold, Entry::Settle(worker.early));
        }
        if broken.is_some() || !calls.is_empty() {
            // After what it has told: what it had still to do at its end, to flush its logs say, is done too.
            self.put_behind(&worker.untold, Entry::Lose(Lost { broken, calls }));
        }
    }

    /// Takes what a dead worker leaves. Its calls are at no moment with nobody.
    fn take_dead(&self, pid: u32) -> Option<Remains> {
        let mut crew = self.crew.lock();
        let is_dead = |worker: &Worker| worker.process.as_ref().is_some_and(|process| process.pid == pid);
        let seat = crew.seats.iter().position(|worker| worker.as_ref().is_some_and(is_dead))?;
        let (worker, calls) = crew.seats[seat].take()?.into_remains();
        let was_ended =
            matches!(worker.doom, Some(Doom::Killed(_) | Doom::Overran(_) | Doom::Outgrew(_) | Doom::Dismissed));
        let (mut lost, mut unbegun) = (Vec::new(), Vec::new());
        for (mut call, is_begun) in calls {
            let is_next = lost.is_empty() && unbegun.is_empty() && !was_ended && worker.is_ready;
            call.losses += u32::from(is_next && !is_begun);
            // One over which worker after worker dies, while it is taken in, is at fault itself.
            if is_begun || call.losses >= MOST_LOSSES { lost.push(call) } else { unbegun.push(call) }
        }
        let given_up = requeue(&mut crew, unbegun);
        let is_in_order = worker.is_leaving && lost.is_empty();
        crew.counts.died += u64::from(!is_in_order);
        crew.count_busy(worker.busy_since);
        lost.iter().for_each(|call| call.of.came(call.index));
        self.settling.fetch_add(lost.len(), SeqCst);
        Some(Remains { worker, lost, given_up, is_in_order })
    }

    /// Why the pool cannot go on after this death, if it cannot.
    fn consider(&self, death: &Death, doom: Option<&Doom>, is_in_order: bool, is_ready: bool) -> Option<Arc<str>> {
        let readied = self.crew.lock().readied;
        let mut watch = self.watch.lock();
        if readied > watch.readied {
            *watch = Watch { readied, looked: watch.looked, ..Watch::default() };
        }
        // One that needs more memory than it may have before it is ready needs it each time.
        let code = match doom {
            Some(Doom::Outgrew(_)) => Some(1),
            Some(_) => None,
            None => Some(death.exit.code),
        };
        if !is_ready && code.is_some_and(|code| watch.has_failed(code)) {
            Some(format!("worker processes die before they are ready: {}", death.how()).into())
        } else if self.breaks_at_death && !is_in_order && doom.is_none() {
            Some(BROKEN.into())
        } else {
            None
        }
    }

    // --- Tasks -------------------------------------------------------------------------------------------------------

    /// Ends workers whose task overruns; gives the time until the next may.
    fn end_overrun(&self) -> Option<Duration> {
        let mut crew = self.crew.lock();
        if crew.outstanding() == 0 {
            crew.shortest_limit = None;
        }
        let mut next = crew.shortest_limit?;
        let now = os::monotonic_nanoseconds();
        let running = crew.workers().filter(|worker| worker.doom.is_none()).filter_map(|worker| {
            let (call, since) = worker.link.running()?;
            let limit = call.options()?.task_timeout?;
            // The worker has begun it a moment ago, if it has not said when.
            Some((call.number, limit, Duration::from_nanos(now.saturating_sub(since.unwrap_or(now)))))
        });
        for (number, limit, ran) in running.collect::<Vec<_>>() {
            if ran >= limit {
                crew.doom_runner(number, Doom::Overran(number));
            } else {
                next = next.min(limit - ran);
            }
        }
        // Never at once again: the clock of the sleep is coarser.
        Some(next.max(Duration::from_micros(50)))
    }

    /// Has workers leave that have been idle for long; gives the time until the next may.
    fn dismiss_idle(&self) -> Option<Duration> {
        let timeout = self.idle_timeout?;
        self.crew.lock().dismiss_idle(timeout)
    }

    /// Frees what lies behind long tasks; gives the time until the next look while there are tasks.
    fn free_waiting(&self) -> Option<Duration> {
        let mut crew = self.crew.lock();
        let mut watch = self.watch.lock();
        if crew.outstanding() == 0 {
            // Nothing lies behind anything: else each look would have the next one follow at once.
            crew.has_behind = false;
            crew.is_looked_after = false;
            // For a while, for another task mostly comes soon, and need not ring then.
            let looked = *watch.looked.get_or_insert_with(Instant::now);
            let rest = SLOW_LOOK.saturating_sub(looked.elapsed());
            crew.is_unwatched = rest.is_zero();
            watch.looked.take_if(|_| rest.is_zero());
            return Some(rest).filter(|rest| !rest.is_zero());
        }
        crew.is_unwatched = false;
        let looked = watch.looked.get_or_insert_with(Instant::now);
        if looked.elapsed() >= SLOW_LOOK {
            *looked = Instant::now();
            crew.look_slowly();
            self.shake();
        }
        let look = if crew.free_waiting(os::monotonic_nanoseconds()) { LONG } else { SLOW_LOOK };
        let pause = crew.hires_again.map(|then| then.saturating_duration_since(Instant::now()));
        Some(pause.filter(|pause| !pause.is_zero()).map_or(look, |pause| look.min(pause)))
    }

    fn carry_out_orders(&self) {
        // One by one: what is not carried out yet is seen by a callback that waits.
        while let Some(order) = self.next_order() {
            match order {
                Order::Call(callback) => future::call(callback),
                Order::Judge(call, ending) => self.judge(call, ending),
            }
        }
    }

    fn next_order(&self) -> Option<Order> {
        self.orders.lock().pop_front()
    }

    fn carry_out_judgements(&self) {
        loop {
            let order = {
                let mut orders = self.orders.lock();
                let next = next_judgement(&orders);
                next.and_then(|at| orders.remove(at))
            };
            match order {
                Some(Order::Judge(call, ending)) => self.judge(call, ending),
                _ => return,
            }
        }
    }

    fn judge(&self, mut call: Call, ending: Ending) {
        let wants_more = call.of.wants_retry(call.index, &ending);
        let mut crew = self.crew.lock();
        if wants_more && !matches!(crew.phase, Phase::Broken(_)) && !crew.gives_up {
            call.attempts += 1;
            self.tell_retried(&call, &ending);
            call.ran = None;
            call.of.waits_again(call.index);
            crew.counts.retried += 1;
            crew.aside -= 1;
            crew.push_front(call);
            drop(crew);
            drop(ending);
            self.drain();
            return;
        }
        drop(crew);
        self.end(call, ending);
        self.crew.lock().aside -= 1;
    }

    /// Encodes one call, if the next one wants it; `true`: there are more.
    fn encode_next(&self) -> bool {
        let mut spent = Spent::new();
        let call = {
            let mut crew = self.crew.lock();
            if !crew.wants_encoding {
                return false;
            }
            crew.take_unencoded(&mut spent)
        };
        drop(spent);
        let Some(call) = call else { return false };
        let encoded = self.encode_call(call);
        let given_up = {
            let mut crew = self.crew.lock();
            crew.aside -= 1;
            requeue(&mut crew, encoded.into_iter().collect())
        };
        self.give_up(given_up);
        self.drain();
        self.crew.lock().wants_encoding
    }

    /// Ends calls that will not be run: the pool is broken, or what was queued has been cancelled.
    fn give_up(&self, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let phase = self.crew.lock().phase.clone();
        for call in calls.into_iter().filter(|call| !call.is_over()) {
            if let Phase::Broken(reason) = &phase {
                self.end(call, Ending::Failed(Failure::Broken { reason: Arc::clone(reason) }));
            } else {
                // Those that were cancelled before need no further end.
                let _ = self.cancel(call);
            }
        }
    }

    fn encode_call(&self, mut call: Call) -> Option<Call> {
        match call.of.encode(call.index) {
            Ok(parcel) => {
                call.parcel = Some(parcel);
                Some(call)
            }
            Err(notices) => {
                self.count_failed();
                drop(call);
                self.tell(notices);
                None
            }
        }
    }

    /// Whether everything is over; has the workers leave when there is nothing left to do.
    fn has_closed(&self) -> bool {
        let mut crew = self.crew.lock();
        if crew.phase == Phase::Open || crew.outstanding() > 0 || self.settling.load(SeqCst) > 0 {
            return false;
        }
        crew.dismiss_all();
        crew.workers().count() == 0 && self.orders.lock().is_empty() && self.teller.is_idle()
    }
}

fn next_judgement(orders: &VecDeque<Order>) -> Option<usize> {
    orders.iter().position(|order| matches!(order, Order::Judge(..)))
}

/// The standard library's words.
const BROKEN: &str = "A process in the process pool was terminated abruptly while the future was running or pending.";

/// Puts calls back to the front of the queue; hands them back if what is queued is not to be run any more.
#[must_use = "somebody waits for them"]
fn requeue(crew: &mut Crew, calls: Vec<Call>) -> Vec<Call> {
    if crew.gives_up || matches!(crew.phase, Phase::Broken(_)) {
        return calls;
    }
    calls.into_iter().rev().for_each(|call| crew.push_front(call));
    Vec::new()
}

fn failure_of(call: &Call, doom: Option<&Doom>, death: &Arc<Death>, memory_limit: Option<u64>) -> Failure {
    let bytes = call.parcel.as_ref().map(|parcel| parcel.bytes.clone());
    let task = LostTask { label: call.label(), call: bytes };
    if let (Some(Doom::Outgrew(Some(number))), Some(limit)) = (doom, memory_limit)
        && *number == call.number
    {
        return Failure::Outgrew { task, limit, death: Arc::clone(death) };
    }
    match (doom, call.options().and_then(|options| options.task_timeout)) {
        (Some(Doom::Overran(number)), Some(limit)) if *number == call.number => Failure::Overran { task, limit },
        (Some(Doom::Killed(number)), _) if *number == call.number => Failure::Killed { task, death: Arc::clone(death) },
        _ => Failure::Died { task, death: Arc::clone(death) },
    }
}

impl Doom {
    /// Why it was ended, if that is not plain from the end itself.
    fn why(&self) -> Option<String> {
        match self {
            Self::Corrupt(what) => Some(format!("it was ended because it overwrote shared memory: {what}")),
            Self::Lost => Some("it was ended because it did not begin what it was sent".into()),
            Self::Outgrew(_) => Some("it was ended because it held more memory than its limit".into()),
            Self::Killed(_) | Self::Overran(_) | Self::Dismissed => None,
        }
    }
}
