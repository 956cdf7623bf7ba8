//! A known program gives the known picture.

#![cfg(not(loom))]

use std::sync::{Arc, Barrier};

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

fn names<'a>(timeline: &'a Timeline, name: Option<usize>) -> &'a str {
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
                pool.options(options.clone()).submit(move || drop(barrier.wait()))
            })
            .collect();
        futures.into_iter().for_each(|future| future.result().unwrap());
    });
    let [one, other] = &timeline.tasks[..] else { panic!("two tasks: {:?}", timeline.tasks) };
    assert_ne!(one.lane, other.lane);
    assert!(other.started < one.ended && one.started < other.ended);
    for task in [one, other] {
        assert_eq!(task.state, TaskState::Finished);
        assert_eq!(names(&timeline, task.name), "meet");
        assert!(task.submitted <= task.started && task.started <= task.ended);
        assert_eq!(timeline.lanes[task.lane.unwrap()].kind, LaneKind::Thread);
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
    let first = pool.submit(move || drop(other.wait()));
    let second = pool.submit(|| ());
    let recorder = Recorder::start();
    gate.wait();
    first.result().unwrap();
    second.result().unwrap();
    let timeline = recorder.finish();
    let second = timeline.tasks.last().unwrap();
    assert_eq!((second.submitted, second.state), (None, TaskState::Finished));
    assert!(second.started.is_some());
}

#[test]
fn two_recordings_at_a_time_see_the_same() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let outer = Recorder::start();
    let pool = ThreadPoolExecutor::new(1);
    pool.submit(|| ()).result().unwrap();
    let inner = Recorder::start();
    pool.submit(|| ()).result().unwrap();
    assert_eq!(inner.finish().tasks.len(), 1);
    pool.submit(|| ()).result().unwrap();
    assert_eq!(outer.finish().tasks.len(), 3);
}
