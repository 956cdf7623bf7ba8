//! Many tasks of one function as one entry of the queue (submit -> QUEUE -> worker -> result): what `map` submits.
//!
//! Workers claim items one by one from a shared index, so no item waits behind a running one while a worker is idle, and
//! nothing is allocated, locked or woken for an item. Results lie in one array; the one consumer takes them in order.
//!
//! A batch is made full, or made empty and filled item by item while workers empty it: then it is pushed again for each
//! item, because a queue drops an entry in which there is nothing to begin.
//!
//! | index | who writes it | why it is enough |
//! |---|---|---|
//! | `published` | the producer, Release, after the item is in its slot | an item below it can be taken |
//! | `next` | workers by compare-exchange below `published`, whoever ends the batch by `swap` | one claims an item, or nobody |
//! | `ended_from` | whoever ended the batch, Release, after the swap | a consumer that waits for a later item reads it |

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::error::Failure;
use crate::events::{self, Event, EventKind, Name};
use crate::future::{Notices, Outcome};
use crate::mutant::{Mutant, is_mutant};
use crate::primitives::{AtomicUsize, Mutex, Ordering};
use crate::signal::{Signal, Waited};
use crate::slot::Slot;
use crate::statistics::Record;
use crate::waits::{Awaited, Deadlock, Description, Look, ThreadNumber, wait_watched};

/// What a batch runs for every item.
pub trait BatchJob: Send + Sync + 'static {
    /// What one call takes.
    type Item: Send + 'static;
    /// What one call ends with.
    type Outcome: Outcome + 'static;

    /// Runs the function for one item.
    fn run(&self, item: Self::Item) -> Self::Outcome;
}

/// Why items of a batch were never begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// They were cancelled.
    Cancelled,
    /// The pool broke.
    Failed(Failure),
}

/// An item that the caller, and nobody else, has to run. It cannot be copied: its slot is filled once.
#[derive(Debug)]
struct Claim(usize);

/// A batch in the queue, whatever it runs.
pub(crate) trait RunBatch: Send + Sync {
    fn accept(&self, executor: u64, first_number: u64);
    /// How many numbers of tasks it takes when it is pushed: all of them the first time.
    fn numbers(&self) -> u64;
    /// How many items nobody has begun.
    fn unbegun(&self) -> usize;
    fn is_spent(&self) -> bool {
        self.unbegun() == 0
    }
    /// Runs items until none is left to begin. Returns the consumer, if it sleeps and awaits the last of them.
    fn run_items(&self, record: &Record) -> Option<Arc<Signal>>;
    /// Gives up what has not begun; tells how many items that were.
    fn end(&self, why: Ended) -> (u64, Notices);
}

/// Items, the function to run for each, and their results.
pub struct Batch<J: BatchJob> {
    /// Gone when the last item has ended: who has the results holds no function alive.
    job: Mutex<Option<Arc<J>>>,
    label: Option<Arc<str>>,
    items: Box<[Slot<J::Item>]>,
    outcomes: Box<[Slot<J::Outcome>]>,
    published: AtomicUsize,
    is_sealed: AtomicUsize,
    /// Items that have ended or been given up.
    finished: AtomicUsize,
    next: AtomicUsize,
    ended_from: AtomicUsize,
    ended: Mutex<Option<Ended>>,
    sleeper: Mutex<Option<Arc<Signal>>>,
    /// Held by whoever adds an item.
    producer: Mutex<()>,
    executor: AtomicU64,
    first_number: AtomicU64,
    /// How many of its items the observers have been told of.
    announced: AtomicUsize,
    /// What it runs, if somebody listened when it was submitted.
    name: AtomicU32,
}

impl<J: BatchJob> std::fmt::Debug for Batch<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).field("label", &self.label).finish_non_exhaustive()
    }
}

/// What a consumer finds in the place of one result.
#[derive(Debug)]
pub enum Found<O> {
    /// The outcome.
    Outcome(O),
    /// The item will never be run.
    Ended(Ended),
    /// It is not there yet.
    NotYet,
}

impl<J: BatchJob> Batch<J> {
    /// A batch to submit, with all its items.
    pub fn new(job: J, items: impl IntoIterator<Item = J::Item>, label: Option<Arc<str>>) -> Self {
        let items: Box<[_]> = items.into_iter().map(Slot::full).collect();
        let published = items.len();
        Self::with_slots(job, items, published, label)
    }

    /// A batch without items, to which `capacity` of them can be added.
    pub fn with_capacity(job: J, capacity: usize, label: Option<Arc<str>>) -> Self {
        Self::with_slots(job, (0..capacity).map(|_| Slot::empty()).collect(), 0, label)
    }

    fn with_slots(job: J, items: Box<[Slot<J::Item>]>, published: usize, label: Option<Arc<str>>) -> Self {
        let outcomes = items.iter().map(|_| Slot::empty()).collect();
        Self {
            job: Mutex::new(Some(Arc::new(job))),
            label,
            is_sealed: AtomicUsize::new(usize::from(published == items.len())),
            finished: AtomicUsize::new(0),
            items,
            outcomes,
            published: AtomicUsize::new(published),
            next: AtomicUsize::new(0),
            ended_from: AtomicUsize::new(usize::MAX),
            ended: Mutex::new(None),
            sleeper: Mutex::new(None),
            producer: Mutex::new(()),
            executor: AtomicU64::new(0),
            first_number: AtomicU64::new(0),
            announced: AtomicUsize::new(0),
            name: AtomicU32::new(0),
        }
    }

    /// Says what it runs, for those who [listen](events::is_listening).
    pub fn set_name(&self, name: Name) {
        self.name.store(Name::bits(Some(name)), Relaxed);
    }

    /// Adds an item; hands it back if the batch is full. The batch is then to be pushed (again).
    pub(crate) fn publish(&self, item: J::Item) -> Result<(), J::Item> {
        let _one_producer = self.producer.lock();
        let index = self.published.load(Ordering::Relaxed);
        let Some(slot) = self.items.get(index) else { return Err(item) };
        // SAFETY: only `with_capacity` leaves slots above `published`, and it leaves them empty. The lock makes this the
        // only producer, and `published` moves on below, so no slot is put into twice.
        unsafe { slot.put(item) };
        self.published.store(index + 1, Ordering::Release);
        Ok(())
    }

    /// Says that no further item will be added.
    pub fn seal(&self) {
        self.is_sealed.store(1, Ordering::SeqCst);
        self.finish(0);
    }

    /// Counts items that have ended; after the last one the function goes. Sealing and counting are each followed by a look
    /// at the other, in one order for all, so the last of the two sees both.
    fn finish(&self, count: usize) {
        let finished = self.finished.fetch_add(count, Ordering::SeqCst) + count;
        if self.is_sealed.load(Ordering::SeqCst) == 1 && finished == self.len() {
            let job = self.job.lock().take();
            drop(job);
        }
    }

    fn run_item(&self, job: &J, claim: Claim, record: &Record) -> Option<Arc<Signal>> {
        let Claim(index) = claim;
        let item = self.items[index].try_take()?;
        record.started.add(1);
        record.begins_item(self.address(), index);
        self.emit(EventKind::Started, index, Some(record.number));
        let outcome = job.run(item);
        let failed = outcome.is_failure();
        let error = if failed && events::is_listening() { outcome.describe() } else { None };
        record.ended(failed);
        self.emit_with(EventKind::Ended { failed }, index, Some(record.number), error);
        // SAFETY: the outcome's slot was made empty, and the claim, which exists once for an index, is used up here.
        let is_awaited = unsafe { self.outcomes[index].put(outcome) };
        self.finish(1);
        if is_awaited { self.sleeper.lock().take() } else { None }
    }

    fn claim(&self) -> Option<Claim> {
        let mut index = self.next.load(Ordering::Relaxed);
        // The item was put before it was published, which `len` acquires.
        while index < self.len() {
            match self.next.compare_exchange_weak(index, index + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(Claim(index)),
                Err(now) => index = now,
            }
        }
        None
    }

    /// Shows what it holds, to a collector of cyclic garbage; whoever has `&mut` has the batch alone.
    pub fn visit<E>(
        &mut self,
        mut job: impl FnMut(&J) -> Result<(), E>,
        mut item: impl FnMut(&J::Item) -> Result<(), E>,
        mut outcome: impl FnMut(&J::Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        self.job.lock().as_ref().map_or(Ok(()), |function| job(function))?;
        self.items.iter_mut().try_for_each(|slot| slot.get_mut().map_or(Ok(()), &mut item))?;
        self.outcomes.iter_mut().try_for_each(|slot| slot.get_mut().map_or(Ok(()), &mut outcome))
    }

    /// Tells the batch from others as long as it lives.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>().addr()
    }

    /// How many items it has, so far.
    pub fn len(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// Whether an item can be added.
    pub fn has_room(&self) -> bool {
        self.len() < self.capacity()
    }

    /// How many items it can have.
    pub(crate) fn capacity(&self) -> usize {
        self.items.len()
    }

    /// Whether it has no items, so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the result of the item at `index`, if it is there.
    pub fn try_take(&self, index: usize) -> Found<J::Outcome> {
        if let Some(outcome) = self.outcomes[index].try_take() {
            return Found::Outcome(outcome);
        }
        if index < self.ended_from.load(Ordering::Acquire) {
            return Found::NotYet;
        }
        Found::Ended(self.ended.lock().clone().unwrap_or(Ended::Cancelled))
    }

    /// Blocks the one consumer until the result at `index` may be there. `watched` says that the wait has no time limit of
    /// its own.
    ///
    /// # Errors
    /// The wait closes a circle of threads that wait for each other.
    pub fn wait(self: &Arc<Self>, index: usize, deadline: Option<Instant>, watched: bool) -> Result<Waited, Deadlock> {
        let signal = Arc::new(Signal::new());
        *self.sleeper.lock() = Some(Arc::clone(&signal));
        let must_sleep = self.outcomes[index].await_value() || is_mutant(Mutant::SleepBesideAFullSlot);
        // The end of a batch is published before its sleeper is looked for, so one of the two sees the other.
        let has_ended = index >= self.ended_from.load(Ordering::Acquire);
        let watch = || Arc::new(ItemOf { batch: Arc::clone(self), index }) as Arc<dyn Awaited>;
        let waited = if must_sleep && !has_ended {
            wait_watched(&signal, deadline, watched.then_some(&watch))
        } else {
            Ok(Waited::Ready)
        };
        drop(self.sleeper.lock().take());
        waited
    }

    fn emit(&self, kind: EventKind, index: usize, worker: Option<usize>) {
        self.emit_with(kind, index, worker, None);
    }

    fn emit_with(&self, kind: EventKind, index: usize, worker: Option<usize>, error: Option<Arc<str>>) {
        events::emit(|| Event {
            worker,
            label: self.label.clone(),
            name: Name::from_bits(self.name.load(Relaxed)),
            error,
            ..Event::now(kind, self.executor.load(Relaxed), self.first_number.load(Relaxed) + index as u64)
        });
    }

    fn give_up(&self, indices: std::ops::Range<usize>) {
        for index in indices {
            drop(self.items[index].try_take());
            self.emit(EventKind::Cancelled, index, None);
        }
    }
}

/// One result of a batch, as something to wait for.
struct ItemOf<J: BatchJob> {
    batch: Arc<Batch<J>>,
    index: usize,
}

impl<J: BatchJob> Awaited for ItemOf<J> {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        let Self { batch, index } = self;
        if batch.outcomes[*index].has_value() || *index >= batch.ended_from.load(Ordering::Acquire) {
            return None;
        }
        let executor = batch.executor.load(Relaxed);
        if *index >= batch.next.load(Ordering::Relaxed) {
            return look.by_queue_of(executor);
        }
        look.by_one(look.runner_of(executor, batch.address(), *index))
    }

    fn describe(&self) -> Description {
        let name = self.batch.label.as_deref().map_or_else(|| "a map".into(), |label| format!("map {label:?}"));
        Description { what: format!("item {} of {name}", self.index), taken_at: None }
    }
}

impl<J: BatchJob> RunBatch for Batch<J> {
    fn accept(&self, executor: u64, first_number: u64) {
        // A batch that is pushed again keeps its numbers.
        if self.executor.swap(executor, Relaxed) == 0 {
            self.first_number.store(first_number, Relaxed);
        }
        let len = self.len();
        let first = self.announced.swap(len, Ordering::Relaxed);
        (first..len).for_each(|index| self.emit(EventKind::Submitted, index, None));
    }

    fn numbers(&self) -> u64 {
        if self.executor.load(Relaxed) == 0 { self.capacity() as u64 } else { 0 }
    }

    fn unbegun(&self) -> usize {
        self.len().saturating_sub(self.next.load(Ordering::Relaxed))
    }

    fn run_items(&self, record: &Record) -> Option<Arc<Signal>> {
        let job = self.job.lock().clone()?;
        let mut sleeper: Option<Arc<Signal>> = None;
        while let Some(claim) = self.claim() {
            // The consumer is told before the next item, which may take long.
            if let Some(signal) = sleeper.take() {
                signal.set();
            }
            sleeper = self.run_item(&job, claim, record);
        }
        record.begins_item(0, 0);
        sleeper
    }

    fn end(&self, why: Ended) -> (u64, Notices) {
        let (unbegun, sleeper) = {
            // No producer adds an item meanwhile: each is either given up here, or finds the batch at its end.
            let _one_producer = self.producer.lock();
            let len = self.len();
            let first = self.next.swap(self.capacity(), Ordering::Relaxed).min(len);
            if first < self.capacity() {
                self.ended.lock().get_or_insert(why);
                self.ended_from.fetch_min(first, Ordering::Release);
            }
            (first..len, self.sleeper.lock().take())
        };
        let count = unbegun.len() as u64;
        // What an item drops may run code of a user: no lock is held.
        let given_up = unbegun.len();
        self.give_up(unbegun);
        self.is_sealed.store(1, Ordering::SeqCst);
        self.finish(given_up);
        (count, Notices::for_sleeper(sleeper))
    }
}
