//! No alarm while a pool starts or replaces a worker: whoever does that is stopped at each of its allocations in turn, and
//! meanwhile another thread waits for the queue, with a lock that the pool's other worker wants.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raddle::events::{Event, EventKind, Observer, subscribe};
use raddle::sync::{Lock, LockError, Thread};
use raddle::{Options, TaskError, ThreadPoolExecutor};

/// The label of the task with which the thread that is to be stopped has to do.
const STOPS: &str = "stops";

/// The system's allocator, where a thread may stand still.
struct Stopping;

#[global_allocator]
static ALLOCATOR: Stopping = Stopping;

// SAFETY: what is given out and taken back is the system allocator's, layouts and pointers unchanged. Before that a thread may
// wait, which neither allocates nor unwinds.
unsafe impl GlobalAlloc for Stopping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_down();
        // SAFETY: the caller's promises are the ones that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above; `place` comes from `System`, for nothing else is given out.
        unsafe { System.dealloc(place, layout) }
    }
}

thread_local! {
    /// How many allocations the thread has left before it stops; `None`: it does not.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

fn count_down() {
    // A thread that ends may allocate when this is gone.
    let left = LEFT.try_with(|left| left.replace(left.get().and_then(|left| left.checked_sub(1)))).ok().flatten();
    if left == Some(0) {
        STOP.stand_still();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The thread is to stop.
    Armed,
    /// It stands still.
    Stopped,
    /// It goes on, or has gone by.
    Open,
}

/// Where one thread stands still.
struct Stop {
    phase: Mutex<Phase>,
    changed: Condvar,
}

static STOP: Stop = Stop { phase: Mutex::new(Phase::Open), changed: Condvar::new() };

impl Stop {
    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_still(&self) {
        let mut phase = self.lock();
        if *phase == Phase::Armed {
            *phase = Phase::Stopped;
            self.changed.notify_all();
        }
        while *phase != Phase::Open {
            phase = self.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// All has been done without a stop.
    fn pass(&self) {
        let mut phase = self.lock();
        if *phase == Phase::Armed {
            *phase = Phase::Open;
            self.changed.notify_all();
        }
    }

    fn set(&self, phase: Phase) {
        *self.lock() = phase;
        self.changed.notify_all();
    }

    /// Blocks until the thread stands still, or has gone by; tells whether it stands.
    fn wait_settled(&self) -> bool {
        let mut phase = self.lock();
        while *phase == Phase::Armed {
            phase = self.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
        *phase == Phase::Stopped
    }
}

/// Has the thread on which it is told of a certain event stop, some allocations later.
struct StopAfter {
    kind: EventKind,
    allocations: AtomicU32,
}

impl Observer for StopAfter {
    fn observe(&self, event: &Event) {
        if event.kind == self.kind && event.label.as_deref() == Some(STOPS) {
            LEFT.set(Some(self.allocations.load(SeqCst)));
        }
    }
}

/// What the system calls a thread.
type Id = i32;

fn own_id() -> Id {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Waits until a thread sleeps, for ten looks in a row, or has ended. No test needs this to be right: it lets something happen
/// where it is interesting.
fn wait_asleep(id: Id) {
    let mut looks = 0;
    while looks < 10 {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")) else { return };
        let is_asleep = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'));
        looks = if is_asleep { looks + 1 } else { 0 };
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A pool of two workers, and a thread that holds a lock, waits for a task in the pool's queue, and lets go.
struct Scene {
    pool: Arc<ThreadPoolExecutor>,
    lock: Arc<Lock<()>>,
    waiter: Thread<Result<u32, TaskError>>,
    go: Sender<()>,
    begun: Receiver<Id>,
}

impl Scene {
    fn set_up() -> Self {
        let (pool, lock) = (Arc::new(ThreadPoolExecutor::new(2)), Arc::new(Lock::new(())));
        let ((go, may_go), (begins, begun)) = (channel(), channel());
        let (own_pool, own_lock) = (Arc::clone(&pool), Arc::clone(&lock));
        let body = move || {
            let _guard = own_lock.acquire().expect("nobody else wants it yet");
            begins.send(own_id()).expect("the test waits for it");
            may_go.recv().expect("the test says so");
            begins.send(own_id()).expect("the test waits for it");
            own_pool.submit(|| 7).result()
        };
        let waiter = Thread::spawn("waiter", body).expect("the system starts a thread");
        begun.recv().expect("the waiter has the lock");
        Self { pool, lock, waiter, go, begun }
    }

    /// One worker wants the lock, for good unless the waiter lets go.
    fn block_a_worker(&self) -> raddle::Future<Result<(), LockError>> {
        let (own_lock, (begins, begun)) = (Arc::clone(&self.lock), channel());
        let wants = self.pool.submit(move || {
            begins.send(own_id()).expect("the test waits for it");
            own_lock.acquire().map(drop)
        });
        wait_asleep(begun.recv().expect("a worker begins"));
        wants
    }

    /// The waiter does its part; tells whether somebody stood still meanwhile.
    fn play(self, wants: raddle::Future<Result<(), LockError>>) -> bool {
        let is_stopped = STOP.wait_settled();
        self.go.send(()).expect("the waiter waits for it");
        wait_asleep(self.begun.recv().expect("the waiter begins"));
        STOP.set(Phase::Open);
        assert_eq!(self.waiter.result(), Ok(Ok(7)), "a worker was on the way");
        assert_eq!(wants.result(), Ok(Ok(())), "the waiter has let go");
        is_stopped
    }
}

/// Only one test at a time can stop threads.
static TURN: Mutex<()> = Mutex::new(());

/// Plays with a stop at every allocation after the event; tells how many there were.
fn stop_everywhere(kind: EventKind, play: impl Fn() -> bool) -> u32 {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let observer = Arc::new(StopAfter { kind, allocations: AtomicU32::new(0) });
    let _subscription = subscribe(Arc::clone(&observer) as _);
    let mut stops = 0;
    loop {
        STOP.set(Phase::Armed);
        if !play() {
            return stops;
        }
        stops += 1;
        observer.allocations.store(stops, SeqCst);
    }
}

#[test]
fn a_worker_that_is_being_started_is_waited_for() {
    let stops = stop_everywhere(EventKind::Submitted, || {
        let scene = Scene::set_up();
        let wants = scene.block_a_worker();
        let own_pool = Arc::clone(&scene.pool);
        let submitter = Thread::spawn("submitter", move || {
            let options = Options { label: Some(STOPS.into()), ..Options::default() };
            own_pool.options(options).submit(|| STOP.pass()).result()
        });
        let is_stopped = scene.play(wants);
        assert_eq!(submitter.expect("the system starts a thread").result(), Ok(Ok(())));
        is_stopped
    });
    assert!(stops > 0, "to start a thread takes memory");
}

#[test]
fn a_worker_that_is_being_replaced_is_waited_for() {
    let stops = stop_everywhere(EventKind::TimedOut, || {
        let scene = Scene::set_up();
        let wants = scene.block_a_worker();
        let (hold, held) = channel::<()>();
        let limit = Some(Duration::from_millis(20));
        let options = Options { label: Some(STOPS.into()), task_timeout: limit, ..Options::default() };
        let late = scene.pool.options(options).submit(move || held.recv().is_err());
        // Only who takes the late one's place can run it.
        let next = scene.pool.submit(|| STOP.pass());
        let is_stopped = scene.play(wants);
        assert!(matches!(late.result(), Err(TaskError::Failed(raddle::Failure::TimedOut { .. }))));
        assert_eq!(next.result(), Ok(()));
        drop(hold);
        is_stopped
    });
    assert!(stops > 0, "to start a thread takes memory");
}
