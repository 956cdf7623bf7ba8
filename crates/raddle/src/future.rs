//! The state machine of one result (submit -> queue -> worker -> RESULT).
//!
//! Invariant: every change of state happens under the cell's lock, and whoever listens is told exactly once, after the
//! lock has been released. `state` is a copy of the truth for readers that take no lock.
//!
//! ```text
//!             begin            finish
//!   Pending ---------> Running ---------> Finished
//!      |  \____________________finish_________/^
//!      | cancel
//!      v         acknowledge
//!   Cancelled ---------------> Acknowledged
//! ```
//!
//! The two cancelled states are those of PEP 3148: a future that nobody runs stays `Cancelled` until its runner
//! acknowledges it; only then do group waits count it. A pool acknowledges at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::primitives::{AtomicU32, Mutex, Ordering};
use crate::signal::{Drive, Signal, Waited};
use crate::waits::{Deadlock, Watch, wait_driving};

/// Where a future stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Nobody has begun to work on it.
    Pending = 0,
    /// A worker runs its task.
    Running = 1,
    /// It was cancelled before it began.
    Cancelled = 2,
    /// It was cancelled, and whoever would have run it knows.
    Acknowledged = 3,
    /// Its outcome is there.
    Finished = 4,
}

impl State {
    /// Whether an outcome or a cancellation is there.
    pub fn is_done(self) -> bool {
        self as u32 >= Self::Cancelled as u32
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(self) -> bool {
        matches!(self, Self::Cancelled | Self::Acknowledged)
    }

    /// Whether group waits count it as completed.
    pub fn is_settled(self) -> bool {
        self as u32 >= Self::Acknowledged as u32
    }

    fn from_word(word: u32) -> Self {
        [Self::Pending, Self::Running, Self::Cancelled, Self::Acknowledged, Self::Finished][word as usize]
    }
}

/// What the engine asks of an outcome.
pub trait Outcome: Send {
    /// Whether it is an error: `wait` with [`FirstException`](crate::ReturnWhen::FirstException) ends at one.
    fn is_failure(&self) -> bool;

    /// What the error says, in a line, for those who listen to [events](crate::events).
    fn describe(&self) -> Option<Arc<str>> {
        None
    }
}

/// Somebody who waits for several futures.
pub(crate) trait Witness: Send + Sync {
    /// The future registered as `index` has settled. Returns the signal to set, if there is a sleeper to wake.
    fn settled(&self, index: usize, failed: bool) -> Option<Arc<Signal>>;
}

/// A foreign lock that must be held by whoever changes the state, so that a party that knows only that lock sees no
/// change while it holds it.
pub trait Gate: Send + Sync {
    /// Takes the lock, calls `change` once, and tells the parties behind the gate of the new state, if it returns one.
    fn pass(&self, change: &mut dyn FnMut() -> Option<State>);
}

/// A function to call when a future is done.
pub type Callback = Box<dyn FnOnce() + Send>;

pub(crate) enum Listener {
    Signal(Arc<Signal>),
    Waker(Waker),
    Callback(Callback),
    Witness(Arc<dyn Witness>, usize),
}

/// Names a listener of one cell, to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerKey(u64);

type Listeners = Vec<(ListenerKey, Listener)>;

/// What few cells have is kept apart, so that the many stay small.
#[derive(Default)]
struct Extras {
    listeners: Listeners,
    next_key: u64,
    gate: Option<Arc<dyn Gate>>,
}

struct Inner<V> {
    outcome: Option<V>,
    extras: Option<Box<Extras>>,
}

impl<V> Inner<V> {
    fn take_listeners(&mut self, are_witnesses_told: bool) -> Listeners {
        let Some(extras) = &mut self.extras else { return Vec::new() };
        let all = std::mem::take(&mut extras.listeners);
        if are_witnesses_told {
            return all;
        }
        let (kept, told) = all.into_iter().partition(|(_, l)| matches!(l, Listener::Witness(..)));
        extras.listeners = kept;
        told
    }
}

/// The shared half of a future: its state, its outcome, and who waits for it.
pub struct FutureCell<V> {
    state: AtomicU32,
    inner: Mutex<Inner<V>>,
}

impl<V: Outcome> std::fmt::Debug for FutureCell<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FutureCell").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl<V: Outcome> Default for FutureCell<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// How an attempt to cancel ended.
#[derive(Debug)]
pub enum Cancel {
    /// It runs or has finished.
    Refused,
    /// It had been cancelled before.
    Already,
    /// It is cancelled now; the notices are to be delivered.
    Now(Notices),
}

/// How an attempt to begin ended.
#[derive(Debug)]
pub enum Begin {
    /// It runs now.
    Started,
    /// It had been cancelled; group waits are to be told.
    Acknowledged(Notices),
    /// It had begun, or was done, already.
    Unexpected(State),
}

impl<V: Outcome> FutureCell<V> {
    /// A pending cell.
    pub fn new() -> Self {
        Self { state: AtomicU32::new(State::Pending as u32), inner: Mutex::new(Inner { outcome: None, extras: None }) }
    }

    /// The present state; a settled one is final.
    pub fn state(&self) -> State {
        State::from_word(self.state.load(Ordering::Acquire))
    }

    /// Marks a pending cell as running, or acknowledges its cancellation.
    pub fn begin(&self) -> Begin {
        self.change(|state, inner| match state {
            State::Pending => (State::Running, Begin::Started),
            State::Cancelled => {
                let notices = Notices::new(inner.take_listeners(true), false);
                (State::Acknowledged, Begin::Acknowledged(notices))
            }
            other => (other, Begin::Unexpected(other)),
        })
    }

    /// Puts the outcome in, unless the cell is done already.
    ///
    /// # Errors
    /// Hands the outcome back if the cell was done.
    pub fn finish(&self, outcome: V) -> Result<Notices, V> {
        self.finish_and(outcome, || ())
    }

    /// As [`finish`](Self::finish); `then` runs under the lock if this outcome is the one that counts.
    pub(crate) fn finish_and(&self, outcome: V, then: impl FnOnce()) -> Result<Notices, V> {
        self.change(|state, inner| {
            if state.is_done() {
                return (state, Err(outcome));
            }
            then();
            let failed = outcome.is_failure();
            inner.outcome = Some(outcome);
            (State::Finished, Ok(Notices::new(inner.take_listeners(true), failed)))
        })
    }

    /// Cancels a pending cell. With `acknowledge`, group waits are told at once: there is no runner who would do it.
    pub fn cancel(&self, acknowledge: bool) -> Cancel {
        self.change(|state, inner| match state {
            State::Pending => {
                let to = if acknowledge { State::Acknowledged } else { State::Cancelled };
                (to, Cancel::Now(Notices::new(inner.take_listeners(acknowledge), false)))
            }
            State::Cancelled | State::Acknowledged => (state, Cancel::Already),
            State::Running | State::Finished => (state, Cancel::Refused),
        })
    }

    /// Looks at the outcome, under the cell's lock: `look` must be short and call nothing of a user's.
    pub fn look<R>(&self, look: impl FnOnce(&mut Option<V>) -> R) -> R {
        look(&mut self.inner.lock().outcome)
    }

    /// Sets the state from outside the state machine, as test doubles do; the notices are to be delivered.
    pub fn force(&self, state: State) -> Notices {
        let mut inner = self.inner.lock();
        self.state.store(state as u32, Ordering::Release);
        let told = if state.is_done() { inner.take_listeners(state.is_settled()) } else { Vec::new() };
        Notices::new(told, false)
    }

    /// Has every later change of state pass through `gate`; the first gate stays.
    pub fn install_gate(&self, gate: Arc<dyn Gate>) {
        let mut inner = self.inner.lock();
        inner.extras.get_or_insert_default().gate.get_or_insert(gate);
    }

    /// Calls `callback` when the future is done.
    ///
    /// # Errors
    /// Hands it back if the future is done already.
    pub fn on_done(&self, callback: Callback) -> Result<(), Callback> {
        match self.listen(Listener::Callback(callback)) {
            Ok(_) => Ok(()),
            Err(Listener::Callback(callback)) => Err(callback),
            Err(_) => unreachable!("a listener is handed back as it was given"),
        }
    }

    /// Forgets everybody who listens, and the outcome. For a collector of cyclic garbage, when nobody else has the cell.
    pub fn clear(&self) {
        let mut inner = self.inner.lock();
        let garbage = (inner.outcome.take(), inner.extras.take());
        drop(inner);
        drop(garbage);
    }

    /// Registers the calling thread as a waiter; `None` if the future is done already.
    pub fn waiting(&self) -> Option<Waiting<'_, V>> {
        if self.state().is_done() {
            return None;
        }
        let signal = Arc::new(Signal::new());
        let key = self.listen(Listener::Signal(Arc::clone(&signal))).ok()?;
        Some(Waiting { cell: self, signal, key })
    }

    /// Adds a listener; hands it back if there is nothing left to listen to.
    pub(crate) fn listen(&self, listener: Listener) -> Result<ListenerKey, Listener> {
        let mut inner = self.inner.lock();
        let state = self.state();
        let is_too_late = match listener {
            Listener::Witness(..) => state.is_settled(),
            _ => state.is_done(),
        };
        if is_too_late {
            return Err(listener);
        }
        let extras = inner.extras.get_or_insert_default();
        let key = ListenerKey(extras.next_key);
        extras.next_key += 1;
        extras.listeners.push((key, listener));
        Ok(key)
    }

    /// Takes a listener back; nothing happens if it has been told already.
    pub(crate) fn unlisten(&self, key: ListenerKey) {
        let mut inner = self.inner.lock();
        let Some(extras) = &mut inner.extras else { return };
        let place = extras.listeners.iter().position(|(k, _)| *k == key);
        let listener = place.map(|i| extras.listeners.remove(i));
        drop(inner);
        drop(listener);
    }

    fn change<R>(&self, step: impl FnOnce(State, &mut Inner<V>) -> (State, R)) -> R {
        let mut inner = self.inner.lock();
        let gate = inner.extras.as_ref().and_then(|extras| extras.gate.clone());
        match gate {
            None => self.step(&mut inner, step),
            Some(gate) => {
                drop(inner);
                self.change_behind(&*gate, step)
            }
        }
    }

    fn change_behind<R>(&self, gate: &dyn Gate, step: impl FnOnce(State, &mut Inner<V>) -> (State, R)) -> R {
        let mut step = Some(step);
        let mut result = None;
        gate.pass(&mut || {
            let mut inner = self.inner.lock();
            let before = self.state();
            result = Some(self.step(&mut inner, step.take()?));
            Some(self.state()).filter(|after| *after != before)
        });
        result.expect("a gate lets the change pass")
    }

    fn step<R>(&self, inner: &mut Inner<V>, step: impl FnOnce(State, &mut Inner<V>) -> (State, R)) -> R {
        let before = self.state();
        let (after, result) = step(before, inner);
        if after != before {
            self.state.store(after as u32, Ordering::Release);
        }
        result
    }
}

/// A thread that waits for one future; dropped, it is forgotten.
#[derive(Debug)]
pub struct Waiting<'a, V: Outcome> {
    cell: &'a FutureCell<V>,
    signal: Arc<Signal>,
    key: ListenerKey,
}

impl<V: Outcome> Waiting<'_, V> {
    /// Blocks until the future is done. After [`Waited::Interrupted`] it can be called again. `watch` tells what is awaited,
    /// if the wait has no time limit.
    ///
    /// # Errors
    /// The wait closes a circle of threads that wait for each other.
    pub fn wait(&self, deadline: Option<Instant>, watch: Option<Watch<'_>>) -> Result<Waited, Deadlock> {
        self.wait_driving(deadline, watch, None)
    }

    /// As [`wait`](Self::wait); if all that is awaited comes from one place, the thread can sleep there and
    /// [drive](Drive) it.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn wait_driving(
        &self,
        deadline: Option<Instant>,
        watch: Option<Watch<'_>>,
        drive: Option<&dyn Drive>,
    ) -> Result<Waited, Deadlock> {
        wait_driving(&self.signal, deadline, watch, drive)
    }
}

impl<V: Outcome> Drop for Waiting<'_, V> {
    fn drop(&mut self) {
        self.cell.unlisten(self.key);
    }
}

/// Who is to be told of a change. The engine delivers it when no lock is held and, where that costs no delay, after
/// the interpreter has been released: a thread woken before would only wait for it.
#[derive(Default)]
#[must_use = "listeners sleep until they are told"]
pub struct Notices {
    listeners: Listeners,
    failed: bool,
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

impl Notices {
    fn new(listeners: Listeners, failed: bool) -> Self {
        Self { listeners, failed }
    }

    /// For a sleeper outside a cell.
    pub(crate) fn for_sleeper(sleeper: Option<Arc<Signal>>) -> Self {
        let listeners = sleeper.map(|signal| (ListenerKey(0), Listener::Signal(signal))).into_iter().collect();
        Self::new(listeners, false)
    }

    /// Whether there is a function to call among them.
    pub fn has_callbacks(&self) -> bool {
        self.listeners.iter().any(|(_, l)| matches!(l, Listener::Callback(_) | Listener::Waker(_)))
    }

    /// Wakes the sleepers first, then calls the callbacks in the order in which they were added.
    pub fn deliver(self) {
        self.wake_sleepers().into_iter().for_each(call);
    }

    /// Wakes the sleepers, and hands the callbacks over to be called.
    #[must_use = "the callbacks are still to be called"]
    pub fn wake_sleepers(self) -> Vec<Callback> {
        let mut callbacks = Vec::new();
        for (_, listener) in self.listeners {
            match listener {
                Listener::Signal(signal) => signal.set(),
                Listener::Witness(witness, index) => {
                    if let Some(signal) = witness.settled(index, self.failed) {
                        signal.set();
                    }
                }
                Listener::Waker(waker) => callbacks.push(Box::new(move || waker.wake()) as Callback),
                Listener::Callback(callback) => callbacks.push(callback),
            }
        }
        callbacks
    }
}

/// Calls a callback. A panic of it ends there, told by the panic hook: it must not cost the pool the thread that ended the
/// task, nor the callbacks after it their turn.
pub(crate) fn call(callback: Callback) {
    let _ = catch_unwind(AssertUnwindSafe(callback));
}
