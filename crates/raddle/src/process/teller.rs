//! The thread that hands on what workers tell besides their replies (worker -> transport -> PROGRAM): log records, warnings.
//!
//! What hears them is the user's, and may take its time, so it has a thread of its own, which is started when there is
//! something to tell. Only the replies of a worker that has told something wait behind it, and of no worker more is read than
//! [`MOST_UNTOLD`] while it is untold: then the worker waits for room, as it does when the program is behind.
//!
//! Whoever hears may wait for a task of the same pool, whose reply may be behind what he is hearing. So while he waits,
//! replies pass what is untold, and all that is told is read.
//!
//! Invariant: entries are put under the pool's lock, in the order of what was received, and each counts as untold of its
//! worker, and as pending, until it has been carried out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::crew::Came;
use super::launcher::Note;
use super::notes;
use super::pool::{self, ProcessPool};
use super::remote::{Call, Ending};
use crate::os;
use crate::primitives::Mutex;
use crate::signal::Signal;

/// So many bytes of one worker may be untold. A guess: some thousand records.
const MOST_UNTOLD: usize = 4 << 20;
/// What a note costs beside its bytes.
const NOTE_BYTES: usize = 128;
/// So many notes are handed over in one go at most.
const MOST_NOTES: usize = 64;

/// What one worker has told and nobody has heard.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

impl Untold {
    /// Whether what comes from the worker has to wait behind something.
    pub(crate) fn is_pending(&self) -> bool {
        self.entries.load(SeqCst) > 0
    }

    /// Whether no more of what it tells is to be read for now.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(SeqCst) > MOST_UNTOLD
    }

    pub(crate) fn add(&self, note: &Note) {
        self.bytes.fetch_add(weight(note), SeqCst);
    }

    /// So much has been heard. Whether more may be read that could not be before.
    fn remove(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_sub(bytes, SeqCst);
        before > MOST_UNTOLD && before - bytes <= MOST_UNTOLD
    }
}

fn weight(note: &Note) -> usize {
    note.bytes.len() + NOTE_BYTES
}

/// What a dead worker leaves to be said, after what it has told.
pub(crate) struct Lost {
    /// Why the pool cannot go on.
    pub(crate) broken: Option<Arc<str>>,
    pub(crate) calls: Vec<(Call, Ending)>,
}

/// What is to be done, in order.
pub(crate) enum Entry {
    /// To tell what a worker has told.
    Tell(Vec<Note>),
    /// To end calls, after what their worker has told before.
    Settle(Came),
    /// The same for a worker that has died.
    Lose(Lost),
}

/// An entry, and the worker whose it is.
pub(crate) type Entries = Vec<(Arc<Untold>, Entry)>;

/// The thread, and what it has to do.
#[derive(Default)]
pub(crate) struct Teller {
    entries: Mutex<VecDeque<(Arc<Untold>, Entry)>>,
    /// Entries that have not been carried out.
    pending: AtomicUsize,
    signal: Signal,
    is_started: AtomicBool,
    /// The system gave no thread: the supervisor does it.
    is_refused: AtomicBool,
    is_over: AtomicBool,
    /// Whoever tells, by his number.
    thread: AtomicU64,
    /// Whoever hears has waited for a task of the pool.
    has_waited: AtomicBool,
    /// Something was told a while ago: the supervisor looks for more of it, when `LOOK` has passed since `told_at`.
    has_told: AtomicBool,
    told_at: AtomicU64,
}

impl Teller {
    /// Takes entries; the caller holds the pool's lock, and [wakes](Self::wake) the thread when he has released it. Whether
    /// the supervisor has to know.
    pub(crate) fn put(&self, entries: Entries) -> bool {
        if entries.is_empty() {
            return false;
        }
        let has_told = entries.iter().any(|(_, entry)| matches!(entry, Entry::Tell(_)));
        self.pending.fetch_add(entries.len(), SeqCst);
        for (untold, _) in &entries {
            untold.entries.fetch_add(1, SeqCst);
        }
        self.entries.lock().extend(entries);
        let mut is_news = !self.is_started.load(SeqCst) || self.is_refused.load(SeqCst);
        if has_told {
            self.told_at.store(os::monotonic_nanoseconds(), SeqCst);
            is_news |= !self.has_told.swap(true, SeqCst);
        }
        is_news
    }

    pub(crate) fn wake(&self) {
        self.signal.set();
    }

    fn next(&self) -> Option<(Arc<Untold>, Entry)> {
        self.entries.lock().pop_front()
    }

    /// Takes out what need not wait behind what is untold.
    fn take_endings(&self) -> VecDeque<(Arc<Untold>, Entry)> {
        let mut entries = self.entries.lock();
        let all = std::mem::take(&mut *entries);
        let (notes, endings) = all.into_iter().partition(|(_, entry)| matches!(entry, Entry::Tell(_)));
        *entries = notes;
        endings
    }

    /// Whether everything has been carried out.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.load(SeqCst) == 0
    }

    /// Whether the calling thread tells.
    pub(crate) fn is_current(&self) -> bool {
        self.thread.load(SeqCst) == os::thread_ident()
    }

    /// Has the thread end when it has nothing to do.
    pub(crate) fn close(&self) {
        self.is_over.store(true, SeqCst);
        self.signal.set();
    }

    /// The time until what workers tell is looked for: they do not ring for more of it at once. Whoever is told that it has
    /// come looks.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        if !self.has_told.load(SeqCst) {
            return None;
        }
        let passed = os::monotonic_nanoseconds().saturating_sub(self.told_at.load(SeqCst));
        let rest = notes::LOOK.saturating_sub(Duration::from_nanos(passed));
        if rest.is_zero() {
            self.has_told.store(false, SeqCst);
        }
        Some(rest)
    }
}

impl ProcessPool {
    /// Sees to it that what is to be told is told, on the thread that supervises.
    pub(crate) fn tend_teller(&self) {
        let teller = &self.teller;
        if !teller.is_idle() && !teller.is_started.swap(true, SeqCst) {
            let pool = self.this.upgrade().expect("its thread has the pool");
            let refused = self.launcher.listen(Box::new(move || pool.tell_all())).is_err();
            teller.is_refused.store(refused, SeqCst);
        }
        if teller.is_refused.load(SeqCst) && !teller.is_current() {
            teller.thread.store(os::thread_ident(), SeqCst);
            self.tell_pending();
            teller.thread.store(0, SeqCst);
        }
    }

    fn tell_pending(&self) {
        while let Some((untold, entry)) = self.teller.next() {
            self.carry_out(&untold, entry);
            self.stop_passing();
        }
    }

    /// The body of the thread: returns when the pool is over.
    fn tell_all(&self) {
        let teller = &self.teller;
        pool::note_own_thread();
        teller.thread.store(os::thread_ident(), SeqCst);
        loop {
            self.tell_pending();
            if teller.is_over.load(SeqCst) {
                break;
            }
            teller.signal.sleep_until(None);
        }
        teller.thread.store(0, SeqCst);
    }

    fn perform(&self, untold: &Untold, entry: Entry) {
        match entry {
            Entry::Tell(notes) => self.hear(untold, notes),
            Entry::Settle(came) => self.settle(came),
            Entry::Lose(lost) => self.lose(lost),
        }
    }

    fn carry_out(&self, untold: &Untold, entry: Entry) {
        self.perform(untold, entry);
        untold.entries.fetch_sub(1, SeqCst);
        if self.teller.pending.fetch_sub(1, SeqCst) == 1 {
            self.ring_if_closing();
        }
    }

    fn hear(&self, untold: &Untold, notes: Vec<Note>) {
        let mut rest = notes.into_iter();
        while rest.len() > 0 {
            let slice: Vec<_> = rest.by_ref().take(MOST_NOTES).collect();
            let bytes = slice.iter().map(weight).sum();
            self.launcher.hear(slice);
            self.stop_passing();
            if untold.remove(bytes) {
                self.drain();
            }
        }
    }

    /// Fails what a dead worker had begun. Who sees that a task was lost sees that the pool is broken, if it is.
    fn lose(&self, Lost { broken, calls }: Lost) {
        if let Some(reason) = broken {
            self.break_down(&reason);
        }
        for (call, ending) in calls {
            self.end_or_judge(call, ending);
            self.settling.fetch_sub(1, SeqCst);
        }
    }

    /// Whoever hears is about to wait for a task: its reply must not wait for him.
    pub(crate) fn let_pass(&self) {
        self.teller.has_waited.store(true, SeqCst);
        self.crew.lock().lets_pass = true;
        // What comes from now on is put into no queue.
        for (untold, entry) in self.teller.take_endings() {
            self.carry_out(&untold, entry);
        }
        // What was not read, because too much was untold.
        self.drain();
    }

    fn stop_passing(&self) {
        if self.teller.has_waited.swap(false, SeqCst) {
            self.crew.lock().lets_pass = false;
        }
    }

    /// Has a worker's endings wait behind what it has told, or carries them out now.
    pub(crate) fn put_behind(&self, untold: &Arc<Untold>, entry: Entry) {
        let mut crew = self.crew.lock();
        if !untold.is_pending() || crew.lets_pass {
            drop(crew);
            return self.perform(untold, entry);
        }
        if let Entry::Lose(Lost { broken: Some(_), .. }) = entry {
            crew.is_failing = true;
        }
        let _ = self.teller.put(vec![(Arc::clone(untold), entry)]);
        drop(crew);
        self.teller.wake();
    }
}
