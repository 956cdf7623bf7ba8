//! A thread that watches a plain loop: whether a call takes long, and who holds the interpreter lock meanwhile.
//!
//! The loop itself reads no clock between short items: it counts, and looks at a flag. The watch ticks, compares the counts,
//! and raises the flag when items have become slow; a call that goes on and on it reports while it runs.
//!
//! | word | who writes it | what it says |
//! |---|---|---|
//! | `count` | the loop, before and after each call | odd: a call is running; nothing else is published by it |
//! | `attention` | the watch sets it, the loop takes it back | the loop is to measure anew |
//! | `looks`, `held` | the watch adds, the loop takes | how often the lock was looked at, and held |
//! | `is_stopped` | whoever ends the loop | the watch is to leave |
//!
//! All are relaxed: each word stands alone, and a tick later is soon enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::os::ThreadClock;

/// From one look to the next.
const TICK: Duration = Duration::from_millis(2);
/// The ticks become longer to this, where nothing happens.
const LONGEST_TICK: Duration = Duration::from_millis(10);
/// A loop that has done fewer items than this in a tick is not so fast that measuring would slow it down.
const FEW: u64 = 32;
/// How long a call has run when it is reported; then again after twice the time.
const LONG_CALL: Duration = Duration::from_millis(15);

/// What the loop and its watch share.
#[derive(Debug, Default)]
pub struct Calls {
    count: AtomicU64,
    attention: AtomicBool,
    looks: AtomicU32,
    held: AtomicU32,
    is_stopped: AtomicBool,
}

impl Calls {
    /// A call begins.
    #[inline]
    pub fn begin(&self) {
        // One thread at a time runs the loop: no addition is lost.
        self.count.store(self.count.load(Relaxed) + 1, Relaxed);
    }

    /// It has ended.
    #[inline]
    pub fn end(&self) {
        self.count.store(self.count.load(Relaxed) + 1, Relaxed);
    }

    /// How many calls have begun.
    #[inline]
    pub fn begun(&self) -> u64 {
        self.count.load(Relaxed).div_ceil(2)
    }

    /// Whether a call is running.
    pub fn is_inside(&self) -> bool {
        self.count.load(Relaxed) % 2 == 1
    }

    /// Whether the loop is to measure anew.
    #[inline]
    pub fn wants_attention(&self) -> bool {
        self.attention.load(Relaxed)
    }

    /// Sets or takes back the wish for attention.
    pub fn set_attention(&self, wanted: bool) {
        self.attention.store(wanted, Relaxed);
    }

    /// Takes how often the lock was looked at, and was held.
    pub fn take_looks(&self) -> (u32, u32) {
        let held = self.held.swap(0, Relaxed);
        (self.looks.swap(0, Relaxed), held)
    }
}

/// A call that goes on and on.
#[derive(Clone, Copy, Debug)]
pub struct Stuck {
    /// For how long, at least.
    pub wall: Duration,
    /// How long a core has worked for its thread meanwhile, or would have if one had been free.
    pub busy: Duration,
}

/// Whose loop is watched.
pub trait Watched: Send + 'static {
    /// Takes the interpreter lock and gives it back; whether somebody held it. `None` where that cannot be told.
    fn look(&self) -> Option<bool>;

    /// A call goes on and on. The watch waits until this returns.
    fn report(&self, stuck: Stuck);
}

/// A thread that watches; dropped, it leaves by itself.
#[derive(Debug)]
pub struct Watch {
    calls: Arc<Calls>,
    thread: Thread,
}

impl Watch {
    /// Watches the calling thread's loop; `None` if no thread can be started.
    pub fn start(calls: &Arc<Calls>, watched: impl Watched) -> Option<Self> {
        let clock = ThreadClock::of_this_thread()?;
        let watcher = Watcher { calls: Arc::clone(calls), clock, watched };
        calls.is_stopped.store(false, Relaxed);
        let started = thread::Builder::new().name("raddle-watch".into()).spawn(move || watcher.run());
        // Never joined: in the child of a fork there is no such thread.
        started.ok().map(|handle| Self { calls: Arc::clone(calls), thread: handle.thread().clone() })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.calls.is_stopped.store(true, Relaxed);
        self.thread.unpark();
    }
}

struct Watcher<W> {
    calls: Arc<Calls>,
    clock: ThreadClock,
    watched: W,
}

/// A call as it was first seen.
struct Call {
    count: u64,
    since: Instant,
    busy: Duration,
    delay: Duration,
    next_report: Duration,
}

impl<W: Watched> Watcher<W> {
    fn run(self) {
        let mut last = self.first_seen(self.calls.count.load(Relaxed));
        let mut tick = TICK;
        while !self.calls.is_stopped.load(Relaxed) {
            thread::park_timeout(tick);
            let count = self.calls.count.load(Relaxed);
            let items = count.wrapping_sub(last.count) / 2;
            let is_slow = count % 2 == 1 && items < FEW;
            tick = if is_slow { TICK } else { (tick * 5 / 4).min(LONGEST_TICK) };
            if is_slow && !self.calls.is_stopped.load(Relaxed) {
                self.look();
                self.calls.set_attention(true);
            }
            if count != last.count {
                last = self.first_seen(count);
            } else if is_slow {
                self.report(&mut last);
            }
        }
    }

    fn first_seen(&self, count: u64) -> Call {
        Call {
            count,
            since: Instant::now(),
            busy: self.clock.elapsed(),
            delay: self.clock.delay(),
            next_report: LONG_CALL,
        }
    }

    fn look(&self) {
        if let Some(is_held) = self.watched.look() {
            self.calls.held.fetch_add(u32::from(is_held), Relaxed);
            self.calls.looks.fetch_add(1, Relaxed);
        }
    }

    fn report(&self, call: &mut Call) {
        let wall = call.since.elapsed();
        if wall < call.next_report || self.calls.count.load(Relaxed) != call.count {
            return;
        }
        call.next_report = wall * 2;
        let busy = self.clock.elapsed().saturating_sub(call.busy);
        let delay = self.clock.delay().saturating_sub(call.delay);
        self.watched.report(Stuck { wall, busy: (busy + delay).min(wall) });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Told(Sender<Stuck>);

    impl Watched for Told {
        fn look(&self) -> Option<bool> {
            Some(true)
        }

        fn report(&self, stuck: Stuck) {
            // The test may have ended.
            let _ = self.0.send(stuck);
        }
    }

    #[test]
    fn a_call_that_goes_on_is_reported_and_the_lock_looked_at() {
        let (sender, receiver) = channel();
        let calls = Arc::new(Calls::default());
        let watch = Watch::start(&calls, Told(sender)).expect("a thread can be started");
        calls.begin();
        let stuck = receiver.recv().expect("the watch goes on until it is dropped");
        calls.end();
        assert!(stuck.wall >= LONG_CALL);
        assert!(calls.wants_attention());
        let (looks, held) = calls.take_looks();
        assert!(looks > 0 && looks == held);
        drop(watch);
        assert!(receiver.recv().is_err() || receiver.recv().is_err(), "the watch leaves when it is dropped");
    }

    #[test]
    fn calls_are_counted_and_told_apart_from_what_is_between() {
        let calls = Calls::default();
        assert!(!calls.is_inside());
        calls.begin();
        assert!(calls.is_inside());
        assert_eq!(calls.begun(), 1);
        calls.end();
        assert!(!calls.is_inside());
        assert_eq!(calls.begun(), 1);
    }
}
