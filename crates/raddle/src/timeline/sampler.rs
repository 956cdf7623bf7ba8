//! Looks from time to time who holds the interpreter lock and who waits for it, and never takes it.
//!
//! The holder is what the interpreter says. A thread waits for the lock if it runs a task and sleeps on a futex inside the
//! lock's memory: the system tells on which address each thread sleeps. Between two looks it is taken to go on as it was
//! seen at the second, so a picture of spans shorter than a period is an estimate.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::recorder::Log;
use super::{InterpreterLock, Spans};
use crate::os::ThreadCalls;
use crate::per_fork::PerFork;
use crate::waits::ThreadNumber;

/// From one look to the next.
const PERIOD: Duration = Duration::from_micros(500);
/// The looks take one part in so many of a core: with many threads they come less often.
const SHARE: u32 = 50;
const LONGEST_PERIOD: Duration = Duration::from_millis(20);
/// So many spans are kept of each kind.
const MOST_SPANS: usize = 500_000;

/// An interpreter whose lock can be looked at by any thread without taking it.
pub trait Interpreter: Send + 'static {
    /// Which of its threads holds the lock, as that was [noted](note_interpreter_thread); 0: none.
    fn holder(&self) -> usize;

    /// Where the lock lies in memory: who sleeps on a word there waits for it.
    fn lock_memory(&self) -> Option<Range<usize>>;
}

/// What an interpreter calls threads of ours, the newest for each.
static THREADS: PerFork<Mutex<HashMap<usize, ThreadNumber>>> = PerFork::new();

thread_local! {
    static NOTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The interpreter calls the calling thread so. Cheap when that was noted before.
pub fn note_interpreter_thread(state: usize) {
    if NOTED.replace(state) != state {
        THREADS.get().lock().unwrap_or_else(PoisonError::into_inner).insert(state, ThreadNumber::current());
    }
}

fn thread_of(state: usize) -> Option<ThreadNumber> {
    THREADS.get().lock().unwrap_or_else(PoisonError::into_inner).get(&state).copied()
}

/// The thread that looks.
#[derive(Debug)]
pub(super) struct Sampler {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<InterpreterLock>>,
}

impl Sampler {
    /// `None` if no thread can be started.
    pub(super) fn start(log: Arc<Log>, interpreter: Box<dyn Interpreter>) -> Option<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut looks = Looks { log, memory: interpreter.lock_memory(), interpreter, calls: HashMap::new() };
        let told = Arc::clone(&is_over);
        let body = move || looks.run(&told);
        let thread = thread::Builder::new().name("raddle-timeline".into()).spawn(body).ok()?;
        Some(Self { is_over, thread: Some(thread) })
    }

    pub(super) fn finish(mut self) -> InterpreterLock {
        self.stop();
        let thread = self.thread.take();
        thread.map(|thread| thread.join().unwrap_or_default()).unwrap_or_default()
    }

    fn stop(&self) {
        self.is_over.store(true, Relaxed);
        self.thread.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Drop for Sampler {
    /// Of a recording that is given up: the thread leaves by itself.
    fn drop(&mut self) {
        self.stop();
    }
}

struct Looks {
    log: Arc<Log>,
    interpreter: Box<dyn Interpreter>,
    memory: Option<Range<usize>>,
    /// Threads that can be asked what they sleep on, by their numbers in the system.
    calls: HashMap<u32, Option<ThreadCalls>>,
}

impl Looks {
    fn run(&mut self, is_over: &AtomicBool) -> InterpreterLock {
        let (mut holder, mut waiting) = (Joined::default(), Joined::default());
        let mut running = Vec::new();
        let (mut looks, mut answers, mut last) = (0_u64, 0_u64, self.log.began.elapsed());
        let start = last;
        let mut period = PERIOD;
        while !is_over.load(Relaxed) {
            thread::park_timeout(period);
            let begun = Instant::now();
            let now = self.log.began.elapsed();
            looks += 1;
            if let Some(lane) = self.holder() {
                holder.add(lane, last, now);
            }
            self.log.lanes.running_threads(&mut running);
            for (lane, tid) in &running {
                let waits = self.waits(*tid);
                answers += u64::from(waits.is_some());
                if waits == Some(true) {
                    waiting.add(*lane, last, now);
                }
            }
            last = now;
            period = (begun.elapsed() * SHARE).clamp(PERIOD, LONGEST_PERIOD);
        }
        InterpreterLock {
            period: last.saturating_sub(start) / u32::try_from(looks.max(1)).unwrap_or(u32::MAX),
            looks,
            holder: holder.spans,
            // Where no thread could be asked, that none was seen to wait says nothing.
            waiting: (answers > 0 || self.memory.is_some() && ThreadCalls::can_be_read()).then_some(waiting.spans),
        }
    }

    fn holder(&self) -> Option<usize> {
        let state = self.interpreter.holder();
        if state == 0 { None } else { self.log.lanes.of_thread(thread_of(state)?) }
    }

    /// Whether the thread waits for the lock; `None` if that cannot be told.
    fn waits(&mut self, tid: u32) -> Option<bool> {
        let memory = self.memory.as_ref()?;
        let calls = self.calls.entry(tid).or_insert_with(|| ThreadCalls::open(tid)).as_ref()?;
        calls.futex().map(|address| address.is_some_and(|address| memory.contains(&address)))
    }
}

/// Spans, of which those that follow each other without a gap are one.
#[derive(Debug, Default)]
struct Joined {
    spans: Spans,
    /// The last span of each lane.
    last: HashMap<usize, usize>,
}

impl Joined {
    fn add(&mut self, lane: usize, from: Duration, to: Duration) {
        if let Some(last) = self.last.get(&lane).and_then(|index| self.spans.get_mut(*index))
            && last.2 == from
        {
            last.2 = to;
            return;
        }
        if self.spans.len() < MOST_SPANS {
            self.last.insert(lane, self.spans.len());
            self.spans.push((lane, from, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_without_a_gap_are_one() {
        let at = Duration::from_millis;
        let mut joined = Joined::default();
        joined.add(1, at(0), at(1));
        joined.add(2, at(0), at(1));
        joined.add(1, at(1), at(2));
        joined.add(1, at(3), at(4));
        assert_eq!(joined.spans, [(1, at(0), at(2)), (2, at(0), at(1)), (1, at(3), at(4))]);
    }
}
