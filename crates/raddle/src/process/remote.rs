//! What runs in a worker process, seen from the program: the bytes that are sent, and where the end of it goes.

use std::sync::Arc;

use super::bytes::Bytes;
use super::link::Reply;
use super::told::Ran;
use crate::error::Failure;
use crate::events::Name;
use crate::future::Notices;
use crate::task::Options;

/// What is sent for one call.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    /// The call, as the worker's handler understands it.
    pub bytes: Bytes,
    /// The number of what must have been defined for it.
    pub needs: Option<u64>,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// With the worker's reply.
    Reply(Reply),
    /// The engine ended it.
    Failed(Failure),
    /// It was cancelled before it began.
    Cancelled,
}

/// One task, or a batch of them.
pub trait Remote: Send + Sync + 'static {
    /// A pool has taken it: numbers of tasks from `first_number` on are its.
    fn accept(&self, executor: u64, first_number: u64);

    /// How it is to be run.
    fn options(&self) -> Option<&Arc<Options>>;

    /// Makes what is to be sent, once for each index; it may run code of a user's, with no lock held.
    ///
    /// # Errors
    /// It has ended instead; the notices are to be delivered.
    fn encode(&self, index: usize) -> Result<Parcel, Notices>;

    /// Whether nobody is interested any more.
    fn is_over(&self, index: usize) -> bool;

    /// Its reply has come, or its worker has died over it, under the pool's lock: it cannot be withdrawn any more.
    fn came(&self, index: usize);

    /// It is in the queue again, under the pool's lock.
    fn waits_again(&self, index: usize);

    /// Cancels it; `None` if it has been already.
    fn cancel(&self, index: usize) -> Option<Notices>;

    /// Whether to run it again, after this end; it may run code of a user's, with no lock held.
    fn wants_retry(&self, index: usize, ending: &Ending) -> bool;

    /// It has ended.
    fn end(&self, index: usize, ending: Ending) -> Notices;

    /// What it runs, if somebody listened when it was submitted.
    fn name(&self) -> Option<Name> {
        None
    }

    /// What an error says, in a line, for those who listen to [events](crate::events).
    fn describe(&self, ending: &Ending) -> Option<Arc<str>> {
        let _ = ending;
        None
    }

    /// Whether the ending counts as an error.
    fn is_failure(&self, ending: &Ending) -> bool;
}

/// A call on its way: in the queue, or with a worker.
pub(crate) struct Call {
    pub(crate) of: Arc<dyn Remote>,
    pub(crate) index: usize,
    /// Counts the tasks of the pool.
    pub(crate) number: u64,
    pub(crate) parcel: Option<Parcel>,
    /// How often it has been run without success.
    pub(crate) attempts: u32,
    /// At how many deaths of workers it was the next to be begun.
    pub(crate) losses: u32,
    /// Where its last attempt was run, if somebody listens.
    pub(crate) ran: Option<Ran>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("number", &self.number).field("index", &self.index).finish_non_exhaustive()
    }
}

impl Call {
    pub(crate) fn is_over(&self) -> bool {
        self.of.is_over(self.index)
    }

    /// Whether it is the task, or of the batch, at this address.
    pub(crate) fn is_of(&self, address: usize) -> bool {
        address_of(&self.of) == address
    }

    pub(crate) fn options(&self) -> Option<&Arc<Options>> {
        self.of.options()
    }

    pub(crate) fn has_retries(&self) -> bool {
        self.options().is_some_and(|options| options.retries > self.attempts)
    }

    pub(crate) fn label(&self) -> Option<Arc<str>> {
        self.options().and_then(|options| options.label.clone())
    }

    /// How many bytes it keeps.
    pub(crate) fn weight(&self) -> usize {
        self.parcel.as_ref().map_or(0, |parcel| parcel.bytes.weight())
    }
}

/// Tells a task or a batch from others as long as it lives.
pub(crate) fn address_of(of: &Arc<dyn Remote>) -> usize {
    Arc::as_ptr(of).cast::<()>().addr()
}

/// Entries of the queue: a call, or calls of a batch that have not been looked at yet.
pub(crate) enum Queued {
    One(Call),
    Many(Many),
}

/// Calls of one batch that come one after the other.
pub(crate) struct Many {
    pub(crate) of: Arc<dyn Remote>,
    /// The number of the first call of the batch.
    pub(crate) first_number: u64,
    /// The next call, and where they end.
    pub(crate) next: usize,
    pub(crate) end: usize,
    pub(crate) parcels: Option<Parcels>,
}

impl Many {
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.end
    }

    pub(crate) fn pop(&mut self) -> Call {
        let index = self.next;
        self.next += 1;
        let parcel = self.parcels.as_ref().map(|parcels| parcels.parcel(index));
        Call {
            of: Arc::clone(&self.of),
            index,
            number: self.first_number + index as u64,
            parcel,
            attempts: 0,
            losses: 0,
            ran: None,
        }
    }
}

/// What is sent for several calls of a batch, in one buffer.
#[derive(Clone, Debug)]
pub struct Parcels {
    bytes: Bytes,
    /// Where each ends.
    ends: Arc<[usize]>,
    first: usize,
    needs: Option<u64>,
}

impl Parcels {
    /// Parcels one after the other in a buffer, each with where it ends; the first is that of the call `first`.
    pub fn new(bytes: Vec<u8>, ends: Vec<usize>, first: usize, needs: Option<u64>) -> Self {
        Self { bytes: bytes.into(), ends: ends.into(), first, needs }
    }

    /// One parcel, of the call of this index.
    pub fn one(bytes: Bytes, index: usize, needs: Option<u64>) -> Self {
        Self { ends: [bytes.len()].into(), bytes, first: index, needs }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn weight(&self) -> usize {
        // Each of them has all that lies apart.
        self.bytes.len().saturating_add(self.bytes.apart().saturating_mul(self.len()))
    }

    fn parcel(&self, index: usize) -> Parcel {
        let at = index - self.first;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Parcel { bytes: self.bytes.part(start..self.ends[at]), needs: self.needs }
    }
}
