//! A batch on a thread of its own, for callers who do something else in between: iterators and event loops.
//!
//! Items go in by [`Stream::push`] and outcomes come out by [`Stream::take`]; neither waits. Invariants: the thread ends when
//! the input is closed and every outcome is there, or when the stream is dropped; it holds nothing of its caller.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::batch::{Batch, Eagerness, Outcome, Step};
use crate::error::{Error, ErrorKind};
use crate::options::Options;
use crate::request::Request;

/// What a caller finds when it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Outcomes are there.
    Outcomes,
    /// Places are free that no waiting item can have: more items are welcome.
    Hungry,
    /// Everything that was pushed has come out.
    Idle,
    /// Nothing yet.
    Nothing,
}

#[derive(Default)]
struct State {
    inbox: Vec<(u64, Result<Request, Error>)>,
    outbox: VecDeque<(u64, Outcome)>,
    /// Items that were pushed and not yet taken.
    outstanding: usize,
    is_closed: bool,
    is_cancelled: bool,
    is_hungry: bool,
    /// Requests wait for outcomes to be taken.
    is_held: bool,
    has_ended: bool,
    /// Written to when there is news, for event loops that watch its other end.
    doorbell: Option<UnixStream>,
    is_rung: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something is new for the caller.
    told: Condvar,
    /// Something is new for the thread.
    bell: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        if let (Some(doorbell), false) = (&state.doorbell, state.is_rung) {
            // A full socket is read sooner or later, and then everything is taken.
            let _ = std::io::Write::write(&mut &*doorbell, b"!");
            state.is_rung = true;
        }
        drop(state);
        self.told.notify_one();
    }
}

/// A batch that goes on by itself.
///
/// ```
/// use raddle_fetch::{News, Options, Request, Stream};
///
/// let stream = Stream::new(Options::default())?;
/// stream.push([(0, Request::new("no url"))]);
/// assert_eq!(stream.wait(None), News::Outcomes);
/// assert!(stream.take()[0].1.is_err());
/// # Ok::<(), raddle_fetch::Error>(())
/// ```
pub struct Stream {
    shared: Arc<Shared>,
    batch: Mutex<Option<Batch>>,
    generation: u32,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("outstanding", &self.shared.lock().outstanding).finish_non_exhaustive()
    }
}

impl Stream {
    /// A stream without items. Its thread starts with the first one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for options that cannot be met.
    pub fn new(options: Options) -> Result<Self, Error> {
        let generation = raddle::os::fork_generation();
        Ok(Self { shared: Arc::default(), batch: Mutex::new(Some(Batch::new(options)?)), generation })
    }

    /// Has news announced by a byte to be read from the socket that is returned; [`Stream::take`] has to be called for it.
    ///
    /// # Errors
    /// If the system has no more sockets.
    pub fn doorbell(&self) -> std::io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        self.shared.lock().doorbell = Some(ours);
        Ok(theirs)
    }

    /// Adds items. Lower indices go first.
    ///
    /// # Panics
    /// If the system cannot start a thread for the first item.
    pub fn push(&self, items: impl IntoIterator<Item = (u64, Result<Request, Error>)>) {
        let mut state = self.shared.lock();
        let before = state.inbox.len();
        state.inbox.extend(items);
        state.outstanding += state.inbox.len() - before;
        state.is_hungry = false;
        drop(state);
        self.shared.bell.notify_one();
        if let Some(batch) = self.unstarted().take() {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("raddle-fetch".into());
            thread.spawn(move || drive(batch, &shared)).expect("the system has room for one more thread");
        }
    }

    fn unstarted(&self) -> MutexGuard<'_, Option<Batch>> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that no more items will come.
    pub fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.bell.notify_one();
    }

    /// Ends what is under way, without outcomes.
    pub fn cancel(&self) {
        let mut state = self.shared.lock();
        state.is_cancelled = true;
        state.inbox.clear();
        state.outstanding = state.outbox.len();
        drop(state);
        self.shared.bell.notify_one();
    }

    /// Items that were pushed and whose outcomes were not taken.
    pub fn outstanding(&self) -> usize {
        self.shared.lock().outstanding
    }

    /// Whether the thread that does the work is in this process, and not in the parent of a fork.
    pub fn is_ours(&self) -> bool {
        self.generation == raddle::os::fork_generation()
    }

    /// The outcomes since the last time.
    pub fn take(&self) -> Vec<(u64, Outcome)> {
        let mut state = self.shared.lock();
        state.is_rung = false;
        let taken: Vec<_> = state.outbox.drain(..).collect();
        state.outstanding -= taken.len();
        let was_held = std::mem::take(&mut state.is_held);
        drop(state);
        if was_held {
            self.shared.bell.notify_one();
        }
        taken
    }

    /// Says that there is nothing more to add for now, so that [`News::Hungry`] is not told again before the next item.
    pub fn sate(&self) {
        self.shared.lock().is_hungry = false;
    }

    /// What there is now.
    pub fn news(&self) -> News {
        look(&self.shared.lock())
    }

    /// Waits for news until a moment; [`News::Nothing`] if there was none.
    pub fn wait(&self, until: Option<Instant>) -> News {
        let mut state = self.shared.lock();
        loop {
            let news = look(&state);
            if news != News::Nothing {
                return news;
            }
            let left = until.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return News::Nothing;
            }
            state = match left {
                None => self.shared.told.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.shared.told.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.is_ours() {
            self.cancel();
        }
    }
}

fn look(state: &State) -> News {
    match state {
        _ if !state.outbox.is_empty() => News::Outcomes,
        _ if state.outstanding == 0 => News::Idle,
        _ if state.is_hungry && !state.is_closed => News::Hungry,
        _ => News::Nothing,
    }
}

/// The thread: items from the inbox to the batch, outcomes from the batch to the outbox.
fn drive(mut batch: Batch, shared: &Shared) {
    // Should the batch panic, every item that is left gets an outcome that says so.
    let guard = Ended(shared);
    let mut eagerness = Eagerness::EachOutcome;
    loop {
        let mut state = shared.lock();
        if state.is_cancelled {
            break;
        }
        if !state.inbox.is_empty() {
            eagerness = Eagerness::EachOutcome;
        }
        for (index, item) in std::mem::take(&mut state.inbox) {
            batch.push(index, item);
        }
        if state.is_closed {
            batch.close();
        }
        batch.hold(state.outbox.len());
        // Whoever takes outcomes rings then; it is asked for under the lock, so that no taking is missed.
        state.is_held = !state.outbox.is_empty();
        drop(state);
        let step = batch.step(None, eagerness, Some(&shared.bell));
        let mut state = shared.lock();
        let before = state.outbox.len();
        state.outbox.extend(batch.take());
        match step {
            Step::Done => break,
            Step::Hungry if state.inbox.is_empty() => {
                state.is_hungry = true;
                eagerness = Eagerness::OutcomeOnly;
                shared.tell(state);
            }
            _ if state.outbox.len() > before => shared.tell(state),
            _ => {}
        }
    }
    drop(guard);
}

/// Tells the caller that the thread is gone, however it went.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.has_ended = true;
        for (index, item) in std::mem::take(&mut state.inbox) {
            let url = item.as_ref().map_or_else(|error| error.url().to_owned(), |request| request.url().to_owned());
            let error = Error::new(ErrorKind::Cancelled, url, "the batch ended before this request");
            state.outbox.push_back((index, Err(error)));
        }
        state.outstanding = if state.is_cancelled { 0 } else { state.outbox.len() };
        self.0.tell(state);
    }
}
