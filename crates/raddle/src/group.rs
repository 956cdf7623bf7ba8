//! Waiting for several futures: [`Countdown`] for `wait`, [`Arrivals`] for `as_completed`.
//!
//! Both are registered with every future that is not settled, and told once by each. A future settles after it has been
//! registered, or registration fails and the registrar counts it as settled: none is missed, none counted twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::future::{FutureCell, Listener, ListenerKey, Outcome, Witness};
use crate::primitives::{AtomicUsize, Mutex, Ordering};
use crate::signal::{Drive, Signal, Waited};
use crate::waits::{Awaited, Deadlock, Several, Watch, wait_driving};

/// When a wait for several futures ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnWhen {
    /// When any of them is finished or cancelled.
    FirstCompleted,
    /// When any of them fails, or else all are completed.
    FirstException,
    /// When all of them are finished or cancelled.
    AllCompleted,
}

/// What a wait for these ends with: all of them, or any.
pub fn several(awaited: Vec<Arc<dyn Awaited>>, until: ReturnWhen) -> Arc<dyn Awaited> {
    Arc::new(Several { awaited, needs_all: until == ReturnWhen::AllCompleted })
}

/// Counts how many futures are still missing.
pub struct Countdown {
    missing: AtomicUsize,
    until: ReturnWhen,
    signal: Arc<Signal>,
    keys: Mutex<Vec<(usize, ListenerKey)>>,
}

impl std::fmt::Debug for Countdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Countdown").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Countdown {
    /// A wait for `count` futures, to be registered one by one.
    pub fn new(count: usize, until: ReturnWhen) -> Arc<Self> {
        Arc::new(Self {
            missing: AtomicUsize::new(count),
            until,
            signal: Arc::new(Signal::new()),
            keys: Mutex::new(Vec::new()),
        })
    }

    /// Registers with the future number `index`.
    pub fn register<V: Outcome>(self: &Arc<Self>, index: usize, cell: &FutureCell<V>) {
        let witness = Arc::clone(self) as Arc<dyn Witness>;
        match cell.listen(Listener::Witness(witness, index)) {
            Ok(key) => self.keys.lock().push((index, key)),
            Err(_) => {
                let failed = cell.look(|outcome| outcome.as_ref().is_some_and(V::is_failure));
                if let Some(signal) = self.settled(index, failed) {
                    signal.set();
                }
            }
        }
    }

    /// Blocks until the wait is over; may be called again after [`Waited::Interrupted`]. `watch` tells what is awaited, if
    /// the wait has no time limit: see [`several`].
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

    /// Takes the registrations back; `cell_of` gives the future of a number.
    pub fn unregister<'a, V: Outcome + 'a>(&self, cell_of: impl Fn(usize) -> &'a FutureCell<V>) {
        for (index, key) in std::mem::take(&mut *self.keys.lock()) {
            cell_of(index).unlisten(key);
        }
    }
}

impl Witness for Countdown {
    fn settled(&self, _index: usize, failed: bool) -> Option<Arc<Signal>> {
        let is_last = self.missing.fetch_sub(1, Ordering::AcqRel) == 1;
        let is_over = match self.until {
            ReturnWhen::FirstCompleted => true,
            ReturnWhen::FirstException => is_last || failed,
            ReturnWhen::AllCompleted => is_last,
        };
        is_over.then(|| Arc::clone(&self.signal))
    }
}

/// The numbers of futures in the order in which they settle.
pub struct Arrivals {
    arrived: Mutex<Arrived>,
    signal: Arc<Signal>,
}

#[derive(Default)]
struct Arrived {
    indices: VecDeque<usize>,
    has_sleeper: bool,
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrivals").finish_non_exhaustive()
    }
}

/// A registration of [`Arrivals`], to take it back.
#[derive(Clone, Copy, Debug)]
pub struct Registration(ListenerKey);

impl Arrivals {
    /// Nothing has arrived yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { arrived: Mutex::new(Arrived::default()), signal: Arc::new(Signal::new()) })
    }

    /// Registers with the future number `index`; a settled one arrives at once.
    pub fn register<V: Outcome>(self: &Arc<Self>, index: usize, cell: &FutureCell<V>) -> Option<Registration> {
        let witness = Arc::clone(self) as Arc<dyn Witness>;
        match cell.listen(Listener::Witness(witness, index)) {
            Ok(key) => Some(Registration(key)),
            Err(_) => {
                self.arrived.lock().indices.push_back(index);
                None
            }
        }
    }

    /// Takes a registration back.
    pub fn unregister<V: Outcome>(registration: Registration, cell: &FutureCell<V>) {
        cell.unlisten(registration.0);
    }

    /// The number of the future that arrived next.
    pub fn try_next(&self) -> Option<usize> {
        self.arrived.lock().indices.pop_front()
    }

    /// Has whoever waits look again, though none has arrived.
    pub fn wake(&self) {
        let has_sleeper = std::mem::take(&mut self.arrived.lock().has_sleeper);
        if has_sleeper {
            self.signal.set();
        }
    }

    /// Blocks until one may have arrived; `watch` as for [`Countdown::wait`].
    ///
    /// # Errors
    /// The wait closes a circle of threads that wait for each other.
    pub fn wait(&self, deadline: Option<Instant>, watch: Option<Watch<'_>>) -> Result<Waited, Deadlock> {
        self.wait_driving(deadline, watch, None)
    }

    /// As [`Countdown::wait_driving`].
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn wait_driving(
        &self,
        deadline: Option<Instant>,
        watch: Option<Watch<'_>>,
        drive: Option<&dyn Drive>,
    ) -> Result<Waited, Deadlock> {
        let mut arrived = self.arrived.lock();
        if !arrived.indices.is_empty() {
            return Ok(Waited::Ready);
        }
        arrived.has_sleeper = true;
        drop(arrived);
        wait_driving(&self.signal, deadline, watch, drive)
    }
}

impl Witness for Arrivals {
    fn settled(&self, index: usize, _failed: bool) -> Option<Arc<Signal>> {
        let mut arrived = self.arrived.lock();
        arrived.indices.push_back(index);
        std::mem::take(&mut arrived.has_sleeper).then(|| Arc::clone(&self.signal))
    }
}
