//! The calls of one `map` over processes, and their results in order (submit -> queue -> worker -> RESULT).
//!
//! Invariant: each index ends once, with an outcome or by the end of the batch; the one consumer takes outcomes in order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::link::Reply;
use super::pool::ProcessPool;
use super::remote::{Ending, Parcel, Remote};
use crate::events::Name;
use crate::future::Notices;
use crate::primitives::Mutex;
use crate::signal::{Drive, Signal, Waited};
use crate::task::Options;

/// What a batch sends and makes of what comes back.
pub trait RemoteJob: Send + Sync + 'static {
    /// What one call ends with.
    type Outcome: Send + From<Ending> + 'static;

    /// Makes what is to be sent for the call of this index, if it was not made when the call was submitted; it may run code
    /// of a user's.
    ///
    /// # Errors
    /// What the call ends with instead.
    fn encode(&self, index: usize) -> Result<Parcel, Self::Outcome>;

    /// What it runs, if somebody listened when it was made.
    fn name(&self) -> Option<Name> {
        None
    }

    /// What a reply that is an error says, in a line, for those who listen to [events](crate::events).
    fn describe(&self, reply: &Reply) -> Option<Arc<str>> {
        let _ = reply;
        None
    }

    /// Whether a reply of this kind is an error.
    fn is_failure(&self, kind: u16) -> bool;
}

/// Calls of one function, and what they end with.
pub struct RemoteBatch<J: RemoteJob> {
    job: J,
    results: Mutex<Results<J::Outcome>>,
    is_cancelled: AtomicBool,
    executor: AtomicU64,
    pool: Weak<ProcessPool>,
}

struct Results<O> {
    /// From `first` on; `None`: not there yet.
    outcomes: VecDeque<Option<O>>,
    /// The index of the first outcome that has not been taken.
    first: usize,
    /// Whoever waits for the first.
    sleeper: Option<Arc<Signal>>,
}

impl<J: RemoteJob> std::fmt::Debug for RemoteBatch<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteBatch").field("is_cancelled", &self.is_cancelled).finish_non_exhaustive()
    }
}

impl<J: RemoteJob> RemoteBatch<J> {
    /// A batch without calls, for a pool.
    pub fn new(job: J, pool: &Arc<ProcessPool>) -> Arc<Self> {
        Arc::new(Self {
            job,
            results: Mutex::new(Results { outcomes: VecDeque::new(), first: 0, sleeper: None }),
            is_cancelled: AtomicBool::new(false),
            executor: AtomicU64::new(0),
            pool: Arc::downgrade(pool),
        })
    }

    /// What the calls have in common.
    pub fn job(&self) -> &J {
        &self.job
    }

    /// Makes room for the outcomes of so many further calls, which are then to be submitted.
    pub fn add(&self, count: usize) {
        let mut results = self.results.lock();
        let len = results.outcomes.len() + count;
        results.outcomes.resize_with(len, || None);
    }

    /// How many outcomes have not been taken.
    pub fn remaining(&self) -> usize {
        self.results.lock().outcomes.len()
    }

    /// Takes the next outcome, if it is there.
    pub fn try_take(&self) -> Option<J::Outcome> {
        let mut results = self.results.lock();
        let outcome = results.outcomes.front_mut()?.take()?;
        results.outcomes.pop_front();
        results.first += 1;
        Some(outcome)
    }

    /// Blocks the one consumer until the next outcome may be there.
    pub fn wait(&self, deadline: Option<Instant>) -> Waited {
        let signal = Arc::new(Signal::new());
        {
            let mut results = self.results.lock();
            if results.outcomes.front().is_none_or(Option::is_some) {
                return Waited::Ready;
            }
            results.sleeper = Some(Arc::clone(&signal));
        }
        let driven = self.pool.upgrade().and_then(|pool| pool.drive(&signal, deadline));
        let waited = driven.unwrap_or_else(|| signal.wait_as_caller(deadline));
        self.results.lock().sleeper = None;
        waited
    }

    /// Gives up what no worker has begun, and the results of the rest.
    pub fn cancel(self: &Arc<Self>) {
        self.is_cancelled.store(true, Relaxed);
        if let Some(pool) = self.pool.upgrade() {
            pool.withdraw_batch(Arc::as_ptr(self).cast::<()>().addr());
        }
        let outcomes = std::mem::take(&mut self.results.lock().outcomes);
        drop(outcomes);
    }

    fn put(&self, index: usize, outcome: J::Outcome) -> Notices {
        let mut results = self.results.lock();
        let place = index.checked_sub(results.first);
        let Some(slot) = place.and_then(|at| results.outcomes.get_mut(at)) else {
            // Nobody is interested any more.
            drop(results);
            drop(outcome);
            return Notices::default();
        };
        *slot = Some(outcome);
        let sleeper = if place == Some(0) { results.sleeper.take() } else { None };
        Notices::for_sleeper(sleeper)
    }
}

impl<J: RemoteJob> Remote for RemoteBatch<J> {
    fn accept(&self, executor: u64, _first_number: u64) {
        self.executor.store(executor, Relaxed);
    }

    fn options(&self) -> Option<&Arc<Options>> {
        None
    }

    fn encode(&self, index: usize) -> Result<Parcel, Notices> {
        self.job.encode(index).map_err(|outcome| self.put(index, outcome))
    }

    fn is_over(&self, _index: usize) -> bool {
        self.is_cancelled.load(Relaxed)
    }

    fn came(&self, _index: usize) {}

    fn waits_again(&self, _index: usize) {}

    fn cancel(&self, index: usize) -> Option<Notices> {
        if self.is_cancelled.load(Relaxed) {
            return None;
        }
        Some(self.put(index, Ending::Cancelled.into()))
    }

    fn wants_retry(&self, _index: usize, _ending: &Ending) -> bool {
        false
    }

    fn name(&self) -> Option<Name> {
        self.job.name()
    }

    fn describe(&self, ending: &Ending) -> Option<Arc<str>> {
        if let Ending::Reply(reply) = ending { self.job.describe(reply) } else { None }
    }

    fn end(&self, index: usize, ending: Ending) -> Notices {
        self.put(index, ending.into())
    }

    fn is_failure(&self, ending: &Ending) -> bool {
        match ending {
            Ending::Reply(reply) => self.job.is_failure(reply.kind),
            Ending::Failed(_) | Ending::Cancelled => true,
        }
    }
}
