//! The pool of processes (submit -> QUEUE -> transport -> worker -> result).
//!
//! Whoever waits for a result takes the lead, if nobody has it: he empties the rings himself and sleeps on the program's
//! doorbell. When nobody leads, the doorbell is diverted to an eventfd, on which the supervising thread sleeps. So a caller
//! gets his result without a thread in between, and everything goes on while nobody waits.
//!
//! | the program's doorbell | when | who changes it |
//! |---|---|---|
//! | awake | somebody looks, or will within a tick | who holds the lead; a ringer |
//! | asleep | the leader sleeps | the leader; a ringer |
//! | elsewhere | nobody looks | the supervisor, holding the lead |
//!
//! Invariant: the doorbell is written by whoever holds the lead, and by ringers, who only ever set it to awake; when it is
//! awake and nobody leads, the supervisor is `watching`, or will be rung for before the lead is given up.

use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::arena::Arena;
use super::arrived::Arrived;
use super::bytes::Bytes;
use super::cores::Core;
use super::crew::{Came, Crew, Doom, Spent, Worker};
use super::doorbell::{Doorbell, Rung};
use super::launcher::Launcher;
use super::link::TakenBack;
use super::mapping::{Mapping, SharedBell};
use super::remote::{Call, Ending, Many, Parcel, Parcels, Remote};
use super::seat::{Listened, program_bell, program_core, words_for};
use super::supervisor::Watch;
use super::teller::Teller;
use crate::error::{Failure, SubmitError};
use crate::events;
use crate::future::{Callback, Notices};
use crate::os::{self, EventFd};
use crate::primitives::Mutex;
use crate::roster::Phase;
use crate::signal::{AdaptiveSpin, Drive, Signal, Waited};
use crate::statistics::Statistics;
use crate::task::{Home, Task};

use super::task::SendJob;

/// Whoever submits looks what has come, once in so many calls: then the supervisor need not, which would fight for the lock
/// with him, and for a core with the workers. A guess; of 1.5 us that a quick call cost, from `submit` to its result, this
/// and the like took 0.3.
const LOOK_EVERY: u64 = 32;

thread_local! {
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread is a pool's own from now on.
pub(crate) fn note_own_thread() {
    IS_OWN.set(true);
}

/// Whether the calling thread is one of a pool's own, on which callbacks run.
pub fn is_own_thread() -> bool {
    IS_OWN.get()
}

/// Something that the supervisor has to do.
pub(crate) enum Order {
    /// To run code that listens for the end of a task.
    Call(Callback),
    /// To decide whether a call is tried again.
    Judge(Call, Ending),
}

/// A pool of worker processes.
pub struct ProcessPool {
    id: u64,
    generation: u32,
    pub(crate) launcher: Arc<dyn Launcher>,
    mapping: Mapping,
    arena: Option<Arc<Arena>>,
    pub(crate) crew: Mutex<Crew>,
    pub(crate) orders: Mutex<VecDeque<Order>>,
    /// Hands on what workers tell.
    pub(crate) teller: Teller,
    /// Definitions that nobody needs any more.
    forgotten: Mutex<Vec<u64>>,
    bell: Doorbell<SharedBell>,
    core: Core,
    listened: Listened,
    spin: AdaptiveSpin,
    /// Taken by whoever looks after the rings.
    is_led: AtomicBool,
    /// The supervisor looks by itself, in a moment: nobody need ring for it.
    pub(crate) is_watching: AtomicBool,
    /// Somebody has given up the lead since the supervisor looked last, and may come back in a moment.
    pub(crate) was_led: AtomicBool,
    pub(crate) wake: EventFd,
    /// The supervising thread has been started.
    pub(crate) is_supervised: AtomicBool,
    /// Endings that have been taken out of the rings and are being told.
    pub(crate) settling: AtomicUsize,
    done: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    /// Whoever waits for the end; `None` when it has come.
    mourners: Mutex<Option<Vec<Arc<Signal>>>>,
    pub(crate) breaks_at_death: bool,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) idle_timeout: Option<Duration>,
    /// The thread that supervises, by its number.
    pub(crate) supervisor: AtomicU64,
    pub(crate) watch: Mutex<Watch>,
    pub(crate) this: Weak<Self>,
}

impl fmt::Debug for ProcessPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPool").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How a pool of processes is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The most workers at a time.
    pub max_workers: usize,
    /// After how many tasks a worker is replaced.
    pub tasks_per_worker: Option<usize>,
    /// Whether the death of a worker breaks the pool.
    pub breaks_at_death: bool,
    /// How many bytes of memory a worker may hold for itself: the task that has it hold more fails.
    pub memory_limit: Option<u64>,
    /// After how long a worker that has nothing to do leaves.
    pub idle_timeout: Option<Duration>,
}

impl Plan {
    /// A pool of so many workers at most, which stay, and whose deaths it survives.
    pub fn new(max_workers: usize) -> Self {
        Self { max_workers, tasks_per_worker: None, breaks_at_death: false, memory_limit: None, idle_timeout: None }
    }
}

impl ProcessPool {
    /// A pool without workers yet: they are started on demand.
    ///
    /// # Errors
    /// The system gives no shared memory, or no descriptor.
    pub fn new(launcher: Arc<dyn Launcher>, plan: Plan) -> io::Result<Arc<Self>> {
        let mapping = Mapping::new(words_for(plan.max_workers))?;
        let wake = EventFd::new()?;
        let arena = Arena::of_process();
        let (id, name) = (crate::pool::next_id(), launcher.name());
        let pool = Arc::new_cyclic(|this| Self {
            id,
            generation: os::fork_generation(),
            launcher,
            crew: Mutex::new(Crew::new(mapping.clone(), arena.clone(), plan.max_workers, plan.tasks_per_worker)),
            arena,
            orders: Mutex::new(VecDeque::new()),
            teller: Teller::default(),
            forgotten: Mutex::new(Vec::new()),
            bell: program_bell(&mapping),
            core: program_core(&mapping),
            listened: Listened::new(&mapping),
            mapping,
            spin: AdaptiveSpin::new(),
            is_led: AtomicBool::new(false),
            is_watching: AtomicBool::new(false),
            was_led: AtomicBool::new(false),
            wake,
            is_supervised: AtomicBool::new(false),
            settling: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            mourners: Mutex::new(Some(Vec::new())),
            breaks_at_death: plan.breaks_at_death,
            memory_limit: plan.memory_limit,
            idle_timeout: plan.idle_timeout,
            supervisor: AtomicU64::new(0),
            watch: Mutex::new(Watch::default()),
            this: this.clone(),
        });
        let name = name.unwrap_or_else(|| format!("ProcessPoolExecutor-{id}").into());
        let present: Weak<dyn events::Present> = pool.this.clone();
        events::add_executor(id, events::Workers::Processes, name, Some(present));
        Ok(pool)
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Has workers note when tasks begin and end, if somebody listens to events.
    pub(crate) fn note_listened(&self) {
        self.listened.note(events::is_listening());
    }

    /// What a worker has to be given: the shared memory.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// What a worker has to be given: where large data lies. `None`: everything goes through the shared memory.
    pub fn arena(&self) -> Option<&Arc<Arena>> {
        self.arena.as_ref()
    }

    /// What a worker has to be given: the descriptor to [ring](super::worker::ring_eventfd) elsewhere.
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.wake.as_fd()
    }

    /// Whether this process is a fork of the one that made the pool: then its workers are not here.
    pub fn is_forked(&self) -> bool {
        self.generation != os::fork_generation()
    }

    /// Whether the calling thread is one of the pool's own, and so cannot wait for its end.
    pub fn is_current(&self) -> bool {
        self.is_supervisor() || self.teller.is_current()
    }

    /// Whether the calling thread supervises the pool.
    pub(crate) fn is_supervisor(&self) -> bool {
        self.supervisor.load(SeqCst) == os::thread_ident()
    }

    /// Whether the pool takes tasks.
    pub fn phase(&self) -> Phase {
        if self.is_forked() { Phase::Closed } else { self.crew.lock().phase.clone() }
    }

    /// Bytes of calls that have not been sent yet.
    ///
    /// # Errors
    /// The pool would take no call.
    pub fn queued_bytes(&self) -> Result<usize, SubmitError> {
        if self.is_forked() {
            return Err(SubmitError::Forked);
        }
        let crew = self.crew.lock();
        Self::check_open(&crew).map(|()| crew.weight())
    }

    fn check_open(crew: &Crew) -> Result<(), SubmitError> {
        match &crew.phase {
            Phase::Open => Ok(()),
            Phase::Broken(reason) => Err(SubmitError::Broken(Arc::clone(reason))),
            Phase::Closed => Err(SubmitError::ShutDown),
        }
    }

    // --- Submitting --------------------------------------------------------------------------------------------------

    /// Keeps bytes for the workers under a number, by which calls can need them.
    pub fn define(&self, bytes: Bytes) -> u64 {
        self.crew.lock().define(bytes)
    }

    /// Says something to all workers, before everything else that they are sent from now on; it takes the place of what was
    /// said before.
    pub fn announce(&self, bytes: Bytes) {
        if !self.is_forked() {
            self.crew.lock().announce(bytes);
        }
    }

    /// No further call will need this definition. May be called with any lock held.
    pub fn forget(&self, definition: u64) {
        self.forgotten.lock().push(definition);
    }

    /// Puts a task into the queue; without a parcel, its [`SendJob::encode`] is called when its turn comes.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub fn submit_task<J: SendJob>(&self, task: &Arc<Task<J>>, parcel: Option<Parcel>) -> Result<(), SubmitError> {
        task.moves_to(self.this.clone() as Weak<dyn Home>);
        self.submit(Arc::clone(task) as Arc<dyn Remote>, parcel)
    }

    /// Puts a call into the queue; without a parcel, its [`Remote::encode`] is called when its turn comes.
    ///
    /// # Errors
    /// The pool is closed, broken or forked, or cannot be supervised; the call is not run.
    pub fn submit(&self, of: Arc<dyn Remote>, parcel: Option<Parcel>) -> Result<(), SubmitError> {
        let limit = of.options().and_then(|options| options.task_timeout);
        let mut is_look_due = false;
        self.take_in(|crew| {
            let number = crew.number(1);
            is_look_due = number % LOOK_EVERY == 0;
            crew.note_limit(limit);
            of.accept(self.id, number);
            crew.push(Call { of, index: 0, number, parcel, attempts: 0, losses: 0, ran: None });
        })?;
        if is_look_due {
            self.look();
        }
        Ok(())
    }

    /// Puts calls of a batch into the queue: those from `first` to `end`, which have no parcels, or these.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub fn submit_many(
        &self,
        of: Arc<dyn Remote>,
        first: usize,
        end: usize,
        parcels: Option<Parcels>,
    ) -> Result<(), SubmitError> {
        self.take_in(|crew| {
            let number = crew.number(end - first);
            of.accept(self.id, number);
            self.tell_submitted(&of, number..number + (end - first) as u64);
            crew.push_many(Many { of, first_number: number.wrapping_sub(first as u64), next: first, end, parcels });
        })
    }

    fn take_in(&self, put: impl FnOnce(&mut Crew)) -> Result<(), SubmitError> {
        if self.is_forked() {
            return Err(SubmitError::Forked);
        }
        self.start_supervision()?;
        self.note_listened();
        let mut spent = Spent::new();
        let is_supervisor_wanted = {
            let mut crew = self.crew.lock();
            Self::check_open(&crew)?;
            put(&mut crew);
            let hired = self.dispatch(&mut crew, &mut spent);
            let must_look = crew.has_behind && !std::mem::replace(&mut crew.is_looked_after, true);
            let is_unwatched = std::mem::take(&mut crew.is_unwatched);
            hired || crew.wants_encoding || must_look || is_unwatched || crew.shortest_limit.is_some()
        };
        drop(spent);
        if is_supervisor_wanted {
            self.wake.ring();
        }
        Ok(())
    }

    fn start_supervision(&self) -> Result<(), SubmitError> {
        if self.is_supervised.load(SeqCst) || self.is_supervised.swap(true, SeqCst) {
            return Ok(());
        }
        if self.launcher.starts_at_once() {
            self.hire_all();
        }
        let pool = self.this.upgrade().expect("whoever calls has the pool");
        self.launcher.supervise(Box::new(move || pool.supervise())).map_err(|reason| {
            let reason: Arc<str> = reason.into();
            // Others may have submitted meanwhile, and nobody would come to that.
            let calls = {
                let mut crew = self.crew.lock();
                let mut calls = crew.take_back_all();
                calls.extend(crew.take_queue());
                calls
            };
            for call in calls {
                self.end(call, Ending::Failed(Failure::Broken { reason: Arc::clone(&reason) }));
            }
            self.is_supervised.store(false, SeqCst);
            SubmitError::NoThread(reason)
        })
    }

    /// Sends what can be sent. Whether the supervisor has to start somebody.
    pub(crate) fn dispatch(&self, crew: &mut Crew, spent: &mut Spent) -> bool {
        for definition in std::mem::take(&mut *self.forgotten.lock()) {
            crew.forget(definition);
        }
        crew.dispatch(spent)
    }

    // --- Results -----------------------------------------------------------------------------------------------------

    /// Takes what has come, and sends what there is room for. Gives how many replies have come.
    pub fn drain(&self) -> usize {
        let mut spent = Spent::new();
        let has_entries;
        let (came, count, is_supervisor_wanted, dropped) = {
            let mut crew = self.crew.lock();
            let Arrived { came, entries, count, dropped } = crew.receive();
            has_entries = !entries.is_empty();
            self.settling.fetch_add(count, SeqCst);
            // Under the pool's lock, so that the entries come in the order of what was received.
            let is_news = self.teller.put(entries);
            let hired = self.dispatch(&mut crew, &mut spent);
            let is_idle = crew.phase != Phase::Open && crew.outstanding() == 0;
            let must_look = crew.has_behind && !std::mem::replace(&mut crew.is_looked_after, true);
            (came, count, hired || crew.wants_encoding || must_look || is_idle || is_news, dropped)
        };
        drop((spent, dropped));
        if has_entries {
            self.teller.wake();
        }
        if is_supervisor_wanted {
            self.wake.ring();
        }
        self.settle(came);
        count
    }

    pub(crate) fn settle(&self, came: Came) {
        let count = came.len();
        for (call, reply) in came {
            self.end_or_judge(call, Ending::Reply(reply));
        }
        if count > 0 && self.settling.fetch_sub(count, SeqCst) == count {
            self.ring_if_closing();
        }
    }

    pub(crate) fn ring_if_closing(&self) {
        if self.crew.lock().phase != Phase::Open {
            self.wake.ring();
        }
    }

    /// Ends a call, unless it may have to be tried again: then the supervisor finds out.
    pub(crate) fn end_or_judge(&self, call: Call, ending: Ending) {
        // What was killed on purpose is over.
        let may_go_on = !matches!(ending, Ending::Failed(Failure::Killed { .. }));
        if may_go_on && call.has_retries() && call.of.is_failure(&ending) {
            self.crew.lock().aside += 1;
            self.order(Order::Judge(call, ending));
        } else {
            self.end(call, ending);
        }
    }

    pub(crate) fn end(&self, call: Call, ending: Ending) {
        // Who sees the result sees it counted.
        let count = if call.of.is_failure(&ending) { &self.failed } else { &self.done };
        count.fetch_add(1, Relaxed);
        // And told.
        self.tell_ended(&call, &ending);
        let notices = call.of.end(call.index, ending);
        drop(call);
        self.tell(notices);
    }

    /// A call has ended with an error of its own making.
    pub(crate) fn count_failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Wakes sleepers here; callbacks are the supervisor's to call.
    pub(crate) fn tell(&self, notices: Notices) {
        for callback in notices.wake_sleepers() {
            self.order(Order::Call(callback));
        }
    }

    fn order(&self, order: Order) {
        self.orders.lock().push_back(order);
        self.wake.ring();
    }

    // --- The lead ----------------------------------------------------------------------------------------------------

    pub(crate) fn try_lead(&self) -> bool {
        !self.is_led.swap(true, SeqCst)
    }

    pub(crate) fn give_up_lead(&self) {
        self.is_led.store(false, SeqCst);
    }

    pub(crate) fn is_led(&self) -> bool {
        self.is_led.load(SeqCst)
    }

    /// Has workers ring for the supervisor. The caller holds the lead. `true`: something has come already.
    pub(crate) fn divert(&self) -> bool {
        self.bell.divert(|| self.crew.lock().has_news())
    }

    /// Has a leader that sleeps look at its signal, whatever the doorbell says.
    pub(crate) fn shake(&self) {
        self.bell.shake();
    }

    fn lead(&self, signal: &Signal, deadline: Option<Instant>) -> Waited {
        self.bell.mark_awake();
        self.core.note_awake();
        let mut has_come = || {
            self.drain();
            signal.is_set()
        };
        if has_come() {
            return Waited::Ready;
        }
        // Beside a worker on this core, or one that has yet to wake up, it would be in vain.
        let may_spin = self.crew.lock().is_awake_elsewhere();
        if may_spin && self.spin.until(&mut has_come) {
            return Waited::Ready;
        }
        self.core.note_asleep();
        let waited = self.bell.sleep(deadline, has_come);
        self.core.note_awake();
        waited
    }

    // --- Ends --------------------------------------------------------------------------------------------------------

    /// Takes back what no worker has begun of the batch at this address; tells how many calls they are.
    pub(crate) fn withdraw_batch(&self, batch: usize) -> usize {
        if self.is_forked() {
            return 0;
        }
        let taken = self.crew.lock().withdraw_batch(batch);
        self.cancelled.fetch_add(taken.len() as u64, Relaxed);
        taken.iter().for_each(|call| self.tell_cancelled(call));
        self.ring_if_closing();
        taken.len()
    }

    /// Takes no more tasks; what is queued is still run.
    pub fn close(&self) {
        if self.is_forked() {
            return;
        }
        let mut crew = self.crew.lock();
        if crew.phase == Phase::Open {
            crew.phase = Phase::Closed;
        }
        drop(crew);
        if self.is_supervised.load(SeqCst) {
            self.wake.ring();
        } else {
            self.has_ended();
        }
    }

    /// Cancels what no worker has begun, or is about to begin; tells how many tasks those are.
    pub fn cancel_queued(&self) -> u64 {
        if self.is_forked() {
            return 0;
        }
        let calls = {
            let mut crew = self.crew.lock();
            let mut calls = crew.take_back_waiting();
            calls.extend(crew.take_queue());
            crew.gives_up = crew.phase != Phase::Open;
            self.settling.fetch_add(calls.len(), SeqCst);
            calls
        };
        let taken = calls.len();
        let count = calls.into_iter().filter_map(|call| self.cancel(call)).count() as u64;
        self.settling.fetch_sub(taken, SeqCst);
        self.ring_if_closing();
        count
    }

    /// Cancels a call that is in no queue and with no worker; `None` if it had been cancelled before.
    pub(crate) fn cancel(&self, call: Call) -> Option<()> {
        let notices = call.of.cancel(call.index)?;
        self.cancelled.fetch_add(1, Relaxed);
        self.tell_cancelled(&call);
        drop(call);
        self.tell(notices);
        Some(())
    }

    /// Ends all workers at once. What they ran fails; the pool goes on if it is open.
    pub fn kill_workers(&self) {
        if !self.is_forked() {
            self.crew.lock().doom_all();
        }
    }

    /// Fails everything, and ends the workers.
    pub(crate) fn break_down(&self, reason: &Arc<str>) {
        let calls = {
            let mut crew = self.crew.lock();
            crew.phase = Phase::Broken(Arc::clone(reason));
            let mut calls = crew.take_back_all();
            calls.extend(crew.take_queue());
            crew.doom_all();
            calls
        };
        // Those that had been cancelled have ended.
        for call in calls.into_iter().filter(|call| !call.is_over()) {
            self.end(call, Ending::Failed(Failure::Broken { reason: Arc::clone(reason) }));
        }
        self.wake.ring();
    }

    /// A signal that is set when the pool is closed and its last worker is gone.
    pub fn ended(&self) -> Arc<Signal> {
        let signal = Arc::new(Signal::new());
        match &mut *self.mourners.lock() {
            Some(mourners) => mourners.push(Arc::clone(&signal)),
            None => signal.set(),
        }
        signal
    }

    pub(crate) fn has_ended(&self) {
        if let Some(arena) = &self.arena {
            arena.trim();
        }
        let mourners = self.mourners.lock().take();
        mourners.into_iter().flatten().for_each(|signal| signal.set());
    }

    /// Whether a worker is wanted whose process has not been started.
    pub fn is_starting(&self) -> bool {
        !self.is_forked() && self.crew.lock().workers().any(|worker| worker.process.is_none())
    }

    /// The processes of the workers.
    pub fn processes(&self) -> Vec<u32> {
        if self.is_forked() {
            return Vec::new();
        }
        self.crew.lock().workers().filter_map(|worker| worker.process.as_ref().map(|process| process.pid)).collect()
    }

    /// What the pool has done so far.
    pub fn statistics(&self) -> Statistics {
        if self.is_forked() {
            return Statistics::default();
        }
        let crew = self.crew.lock();
        let counts = crew.counts;
        let running = crew.workers().filter(|worker| worker.link.running().is_some()).count() as u64;
        let [done, failed, cancelled] = [&self.done, &self.failed, &self.cancelled].map(|count| count.load(Relaxed));
        let ended = done + failed + cancelled;
        Statistics {
            submitted: counts.submitted,
            running,
            waiting: counts.submitted.saturating_sub(ended + running),
            done,
            failed,
            cancelled,
            retried: counts.retried,
            abandoned: counts.died,
            workers: crew.workers().count(),
            busy: counts.busy,
            longest_queue: counts.longest_queue,
        }
    }
}

impl Drop for ProcessPool {
    fn drop(&mut self) {
        events::remove_executor(self.id);
    }
}

impl Home for ProcessPool {
    fn withdraw(&self, task: usize, claim: &dyn Fn() -> bool) -> bool {
        if self.is_forked() {
            return true;
        }
        let mut crew = self.crew.lock();
        let found = crew.withdraw(|call| call.is_of(task));
        let is_free = !matches!(found, TakenBack::Begun) && claim();
        // What somebody else has withdrawn, or must not be, goes back to its place.
        let found = match found {
            TakenBack::Yes(call) if !is_free && !call.is_over() => {
                crew.push_front(call);
                None
            }
            TakenBack::Yes(call) => Some(call),
            TakenBack::Begun | TakenBack::NotHere => None,
        };
        drop(crew);
        drop(found);
        if !is_free {
            self.drain();
        }
        self.cancelled.fetch_add(u64::from(is_free), Relaxed);
        self.ring_if_closing();
        is_free
    }

    fn has_begun(&self, task: usize) -> bool {
        let runs = |worker: &Worker| worker.link.sent().any(|(call, is_begun)| is_begun && call.is_of(task));
        !self.is_forked() && self.crew.lock().workers().any(runs)
    }

    fn kill(&self, task: usize) -> bool {
        if self.is_forked() {
            return false;
        }
        // What has ended is not killed any more.
        self.drain();
        let mut crew = self.crew.lock();
        let running = crew.workers().find_map(|worker| {
            let (call, _) = worker.link.running()?;
            call.is_of(task).then_some(call.number)
        });
        let is_hit = running.is_some_and(|number| crew.doom_runner(number, Doom::Killed(number)));
        drop(crew);
        self.wake.ring();
        is_hit
    }

    fn look(&self) {
        // A caller who takes results in passing comes back in a moment, as one who had the lead does: were the doorbell
        // diverted meanwhile, each of his tasks would wake the supervisor.
        if !self.is_forked() && self.drain() > 0 {
            self.was_led.store(true, SeqCst);
        }
    }

    fn as_drive(self: Arc<Self>) -> Arc<dyn Drive> {
        self
    }
}

impl Drive for ProcessPool {
    fn drive(&self, signal: &Signal, deadline: Option<Instant>) -> Option<Waited> {
        if self.is_forked() {
            return None;
        }
        if self.teller.is_current() {
            self.let_pass();
        }
        if self.is_supervisor() {
            return self.supervise_until(signal, deadline);
        }
        if !self.try_lead() {
            return None;
        }
        let drive: Arc<dyn Drive> = self.this.upgrade()?;
        signal.begin_to_drive(&drive);
        let waited = self.lead(signal, deadline);
        let waited = signal.end_to_drive(waited);
        // The doorbell stays awake: the next caller is likely to come in a moment, and the supervisor looks meanwhile.
        self.was_led.store(true, SeqCst);
        self.give_up_lead();
        if !self.is_watching.swap(true, SeqCst) {
            self.wake.ring();
        }
        Some(waited)
    }

    fn is_current(&self) -> bool {
        Self::is_current(self)
    }

    fn ring(&self) {
        if self.bell.ring() == Rung::Elsewhere {
            self.wake.ring();
        }
    }
}
