//! A known program gives the known picture.

#![cfg(not(loom))]

use std::sync::{Arc, Barrier};
use std::time::Duration;

use raddle::sync::Lock;
use raddle::timeline::{LaneKind, Recorder, TaskState, Timeline};
use raddle::{Options, ThreadPoolExecutor};

/// The tests count what a whole process does: one at a time.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn recorded(program: impl FnOnce()) -> Timeline {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let recorder = Recorder::start();
    program();
    recorder.finish()
}

fn name(timeline: &Timeline, name: Option<usize>) -> &str {
    name.map_or("", |index| &timeline.names[index])
}

#[test]
fn tasks_that_meet_at_a_barrier_overlap_on_lanes_of_their_own() {
    let timeline = recorded(|| {
        let pool = ThreadPoolExecutor::new(2);
        let barrier = Arc::new(Barrier::new(2));
        let options = Options { label: Some("meet".into()), ..Options::default() };
        let futures: Vec<_> = (0..2)
            .map(|_| {
                let barrier = Arc::clone(&barrier);
                pool.options(options.clone()).submit(move || barrier.wait().is_leader())
            })
            .collect();
        assert!(futures.into_iter().all(|future| future.result().is_ok()));
    });
    let [one, other] = &timeline.tasks[..] else { panic!("two tasks: {:?}", timeline.tasks) };
    assert_ne!(one.lane, other.lane);
    assert!(other.started < one.ended && one.started < other.ended);
    for task in [one, other] {
        assert_eq!(task.state, TaskState::Finished);
        assert_eq!(name(&timeline, task.name), "meet");
        assert!(task.submitted <= task.started && task.started <= task.ended);
        assert_eq!(timeline.lanes[task.lane.expect("it ran")].kind, LaneKind::Thread);
        assert_eq!(task.submitter, Some(0));
    }
    assert_eq!(timeline.lanes[0].kind, LaneKind::Caller);
    assert!(timeline.summary().starts_with("2 tasks on 2 threads in "), "{}", timeline.summary());
    assert_eq!(timeline.picture(20).lines().count(), 3);
}

#[test]
fn one_worker_runs_one_task_after_the_other_in_the_order_of_the_queue() {
    let timeline = recorded(|| {
        let pool = ThreadPoolExecutor::new(1);
        assert_eq!(pool.map(0..5, |x: i32| x).count(), 5);
    });
    assert_eq!(timeline.tasks.len(), 5);
    let order: Vec<_> = timeline.tasks.iter().map(|task| task.number).collect();
    assert_eq!(order, [1, 2, 3, 4, 5]);
    assert!(timeline.tasks.windows(2).all(|pair| pair[0].ended <= pair[1].started));
}

#[test]
fn attempts_share_the_number_of_their_task_and_failures_say_why() {
    let timeline = recorded(|| {
        let pool = ThreadPoolExecutor::new(1);
        let options = Options { retries: 2, ..Options::default() };
        let future = pool.options(options).submit_retrying(|| panic!("never"));
        assert!(future.result().is_err());
    });
    let states: Vec<_> = timeline.tasks.iter().map(|task| (task.number, task.attempt, task.state)).collect();
    assert_eq!(states, [(1, 1, TaskState::Retried), (1, 2, TaskState::Retried), (1, 3, TaskState::Failed)]);
    assert!(timeline.summary().contains("1 failed, 2 retries"), "{}", timeline.summary());
}

#[test]
fn time_spent_waiting_for_a_lock_is_not_time_that_the_tasks_needed() {
    let wait_for_a_lock = || {
        let pool = ThreadPoolExecutor::new(2);
        let lock = Arc::new(Lock::with_name((), "door"));
        let (wants, wanted) = (Arc::clone(&lock), Arc::new(Barrier::new(2)));
        let wants_now = Arc::clone(&wanted);
        let guard = lock.acquire().expect("it is free");
        let waits = pool.submit(move || {
            wants_now.wait();
            drop(wants.acquire());
        });
        wanted.wait();
        std::thread::sleep(Duration::from_millis(5));
        drop(guard);
        waits.result().expect("it gets the lock");
    };
    // The thread may come to the lock when it is free again: then once more.
    let timelines = std::iter::repeat_with(|| recorded(wait_for_a_lock));
    let timeline = timelines.into_iter().find(|timeline| !timeline.locks.is_empty()).expect("they are endless");
    let [wait] = &timeline.locks[..] else { panic!("one wait: {:?}", timeline.locks) };
    assert_eq!((name(&timeline, wait.lock), Some(wait.lane)), ("door", timeline.tasks[0].lane));
    assert_eq!(wait.holder, Some(0));
    let figures = timeline.figures();
    assert!(figures.locked > Duration::ZERO && figures.alone() < figures.ran);
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let recorder = Recorder::start_with(10, None);
    let pool = ThreadPoolExecutor::new(2);
    assert_eq!(pool.map(0..25, |x: i32| x).count(), 25);
    let timeline = recorder.finish();
    assert_eq!((timeline.tasks.len(), timeline.dropped), (10, 15));
    assert!(timeline.tasks.iter().all(|task| task.state == TaskState::Finished));
}

#[test]
fn what_was_submitted_before_is_recorded_from_its_start() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let pool = ThreadPoolExecutor::new(1);
    let gate = Arc::new(Barrier::new(2));
    let other = Arc::clone(&gate);
    let first = pool.submit(move || other.wait().is_leader());
    let second = pool.submit(|| ());
    let recorder = Recorder::start();
    gate.wait();
    first.result().expect("it ends");
    second.result().expect("it ends");
    let timeline = recorder.finish();
    let [first, second] = &timeline.tasks[..] else { panic!("two tasks: {:?}", timeline.tasks) };
    for task in [first, second] {
        assert_eq!((task.submitted, task.state), (None, TaskState::Finished));
        assert!(task.started.is_some() && task.lane.is_some());
    }
    assert!(first.ended <= second.started);
}

#[test]
fn two_recordings_at_a_time_see_the_same() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let outer = Recorder::start();
    let pool = ThreadPoolExecutor::new(1);
    pool.submit(|| ()).result().expect("it ends");
    let inner = Recorder::start();
    pool.submit(|| ()).result().expect("it ends");
    assert_eq!(inner.finish().tasks.len(), 1);
    pool.submit(|| ()).result().expect("it ends");
    assert_eq!(outer.finish().tasks.len(), 3);
}
