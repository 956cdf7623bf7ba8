//! The thread pool from outside: what a Rust program may rely on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use raddle::{Failure, Options, ReturnWhen, SubmitError, TaskError, ThreadPoolExecutor, as_completed, wait};

const LONG_ENOUGH: Duration = Duration::from_secs(3600);

/// A task that runs until the sender is dropped.
fn gate() -> (Sender<()>, impl FnOnce() + Send + 'static) {
    let (open, closed): (Sender<()>, Receiver<()>) = channel();
    (open, move || {
        let _ = closed.recv();
    })
}

/// Occupies the only worker of `pool` until the sender is dropped.
fn occupy(pool: &ThreadPoolExecutor) -> Sender<()> {
    let (open, wait_for_it) = gate();
    let (begun, has_begun) = channel();
    drop(pool.submit(move || {
        begun.send(()).expect("the test waits");
        wait_for_it();
    }));
    has_begun.recv().expect("the task begins");
    open
}

#[test]
fn a_panic_is_the_error_of_its_task_and_the_worker_goes_on() {
    let pool = ThreadPoolExecutor::new(1);
    let error = pool.submit(|| -> u32 { panic!("number {}", 7) }).result();
    assert_eq!(error, Err(TaskError::Panicked("number 7".into())));
    assert_eq!(pool.submit(|| 1).result(), Ok(1));
    assert_eq!(pool.statistics().workers, 1);
}

#[test]
fn a_cancelled_task_never_runs_and_drops_its_closure_at_once() {
    let pool = ThreadPoolExecutor::new(1);
    let open = occupy(&pool);
    let held = Arc::new(());
    let in_closure = Arc::clone(&held);
    let queued = pool.submit(move || drop(in_closure));
    assert!(queued.cancel() && queued.cancel());
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(queued.result(), Err(TaskError::Cancelled));
    let figures = pool.statistics();
    assert_eq!((figures.cancelled, figures.running, figures.waiting), (1, 1, 0));
    drop(open);
}

#[test]
fn a_running_task_cannot_be_cancelled() {
    let pool = ThreadPoolExecutor::new(1);
    let (open, wait_for_it) = gate();
    let (begun, has_begun) = channel();
    let running = pool.submit(move || {
        begun.send(()).expect("the test waits");
        wait_for_it();
    });
    has_begun.recv().expect("the task begins");
    assert!(!running.cancel());
    drop(open);
    assert_eq!(running.result(), Ok(()));
}

#[test]
fn a_value_can_be_taken_once() {
    let pool = ThreadPoolExecutor::new(1);
    let mut future = pool.submit(|| String::from("once"));
    assert_eq!(future.result_timeout(LONG_ENOUGH), Some(Ok("once".into())));
    assert_eq!(future.result_timeout(LONG_ENOUGH), Some(Err(TaskError::Taken)));
}

#[test]
fn a_task_that_overruns_fails_on_time_and_its_thread_is_replaced() {
    let pool = ThreadPoolExecutor::new(1);
    let options = Options { task_timeout: Some(Duration::from_millis(5)), ..Options::default() };
    let (open, wait_for_it) = gate();
    let late = pool.options(options).submit(wait_for_it);
    assert!(matches!(late.result(), Err(TaskError::Failed(Failure::TimedOut { .. }))));
    assert_eq!(pool.submit(|| 1).result(), Ok(1));
    let figures = pool.statistics();
    assert_eq!((figures.abandoned, figures.failed, figures.workers), (1, 1, 1));
    pool.shutdown(true);
    drop(open);
}

#[test]
fn retries_stop_at_the_first_success_and_count() {
    let pool = ThreadPoolExecutor::new(1);
    let options = Options { retries: 5, ..Options::default() };
    let mut attempts = 0;
    let third = pool.options(options.clone()).submit_retrying(move || {
        attempts += 1;
        assert_eq!(attempts, 3, "not the third");
        attempts
    });
    assert_eq!(third.result(), Ok(3));
    let never = pool.options(options).submit_retrying(|| -> u32 { panic!("never") });
    assert_eq!(never.result(), Err(TaskError::Panicked("never".into())));
    assert_eq!(pool.statistics().retried, 2 + 5);
}

#[test]
fn shutdown_runs_what_is_queued_and_takes_nothing_more() {
    let pool = ThreadPoolExecutor::new(1);
    let open = occupy(&pool);
    let queued: Vec<_> = (0..10).map(|n| pool.submit(move || n)).collect();
    pool.shutdown(false);
    assert_eq!(pool.try_submit(|| 1).map(drop), Err(SubmitError::ShutDown));
    drop(open);
    let values: Vec<_> = queued.into_iter().map(|future| future.result().expect("it is run")).collect();
    assert_eq!(values, (0..10).collect::<Vec<_>>());
}

#[test]
fn dropping_a_map_cancels_what_has_not_begun() {
    let pool = ThreadPoolExecutor::new(1);
    let open = occupy(&pool);
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&ran);
    drop(pool.map(0..100, move |_| counter.fetch_add(1, SeqCst)));
    drop(open);
    pool.shutdown(true);
    assert_eq!((ran.load(SeqCst), pool.statistics().cancelled), (0, 100));
}

#[test]
fn a_map_over_many_items_is_in_order_and_complete() {
    let pool = ThreadPoolExecutor::new(4);
    let doubled: Result<Vec<_>, _> = pool.map(0..100_000_u64, |n| n * 2).collect();
    assert_eq!(doubled.expect("nothing fails"), (0..100_000).map(|n| n * 2).collect::<Vec<_>>());
}

#[test]
fn all_workers_take_part_when_tasks_wait_for_each_other() {
    let pool = ThreadPoolExecutor::new(8);
    let meeting = Arc::new(Barrier::new(8));
    let met: Vec<_> = (0..8)
        .map(|_| {
            let meeting = Arc::clone(&meeting);
            pool.submit(move || meeting.wait().is_leader())
        })
        .collect();
    let leaders = met.into_iter().map(|future| future.result()).filter(|r| *r == Ok(true)).count();
    assert_eq!(leaders, 1);
}

#[test]
fn a_task_that_waits_for_a_later_one_is_relieved() {
    let pool = Arc::new(ThreadPoolExecutor::new(2));
    let (send, receive) = channel();
    let first = pool.submit(move || receive.recv());
    let second = pool.submit(move || send.send(5).is_ok());
    assert_eq!((first.result().expect("no panic"), second.result()), (Ok(5), Ok(true)));
}

#[test]
fn wait_ends_at_the_first_failure_when_asked() {
    let pool = ThreadPoolExecutor::new(2);
    let (open, wait_for_it) = gate();
    let futures = [pool.submit(wait_for_it), pool.submit(|| panic!("first"))];
    assert_eq!(wait(&futures, ReturnWhen::FirstException, None), [false, true]);
    assert_eq!(wait(&futures, ReturnWhen::AllCompleted, Some(Duration::ZERO)), [false, true]);
    drop(open);
    assert_eq!(wait(&futures, ReturnWhen::AllCompleted, None), [true, true]);
}

#[test]
fn as_completed_gives_each_future_once_whether_done_or_not() {
    let pool = ThreadPoolExecutor::new(2);
    let (open, wait_for_it) = gate();
    let futures = vec![pool.submit(wait_for_it), pool.submit(|| ())];
    let mut completed = as_completed(futures);
    assert_eq!(completed.next().map(|f| f.result()), Some(Ok(())));
    drop(open);
    assert_eq!(completed.next().map(|f| f.result()), Some(Ok(())));
    assert!(completed.next().is_none());
}

#[test]
fn a_future_can_be_awaited() {
    let pool = ThreadPoolExecutor::new(1);
    let (open, wait_for_it) = gate();
    let sum = async { (pool.submit(wait_for_it).await, pool.submit(|| 2).await) };
    let opener = std::thread::spawn(move || drop(open));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(runtime.block_on(sum), (Ok(()), Ok(2)));
    opener.join().expect("no panic");
}

#[test]
fn a_scope_waits_for_its_tasks_even_when_its_body_panics() {
    let pool = ThreadPoolExecutor::new(2);
    let ran = AtomicUsize::new(0);
    let body = catch_unwind(AssertUnwindSafe(|| {
        pool.scope(|scope| {
            for _ in 0..10 {
                let _ = scope.submit(|| ran.fetch_add(1, SeqCst));
            }
            panic!("the body");
        })
    }));
    assert!(body.is_err());
    assert_eq!(ran.load(SeqCst), 10);
}

#[test]
fn a_task_of_a_scope_that_is_cancelled_says_so() {
    let pool = ThreadPoolExecutor::new(1);
    let open = occupy(&pool);
    let borrowed = String::from("borrowed");
    pool.scope(|scope| {
        let queued = scope.submit(|| borrowed.len());
        assert_eq!(pool.cancel_queued(), 1);
        assert_eq!(queued.result(), Err(TaskError::Cancelled));
    });
    drop(open);
}

#[test]
fn every_future_ends_once_under_submits_cancels_and_waits_of_many_threads() {
    let pool = ThreadPoolExecutor::new(4);
    let (ran, called) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let cancelled = std::thread::scope(|threads| {
        let submitters: Vec<_> = (0..8)
            .map(|thread| {
                let (pool, ran, called) = (&pool, Arc::clone(&ran), Arc::clone(&called));
                threads.spawn(move || submit_and_cancel(pool, thread, &ran, &called))
            })
            .collect();
        submitters.into_iter().map(|submitter| submitter.join().expect("no panic")).sum::<usize>()
    });
    // A future is done before its callbacks have been called.
    pool.shutdown(true);
    assert_eq!(ran.load(SeqCst) + cancelled, 8 * 10_000);
    assert_eq!(called.load(SeqCst), 8 * 10_000);
    let figures = pool.statistics();
    assert_eq!((figures.done as usize, figures.cancelled as usize), (ran.load(SeqCst), cancelled));
    assert_eq!((figures.running, figures.waiting), (0, 0));
}

/// Submits tasks, cancels some of them, waits for all; gives the number of those that were cancelled.
fn submit_and_cancel(
    pool: &ThreadPoolExecutor,
    thread: usize,
    ran: &Arc<AtomicUsize>,
    called: &Arc<AtomicUsize>,
) -> usize {
    let mut cancelled = 0;
    for round in 0..100 {
        let futures: Vec<_> = (0..100)
            .map(|_| {
                let (ran, called) = (Arc::clone(ran), Arc::clone(called));
                let future = pool.submit(move || ran.fetch_add(1, SeqCst));
                future.on_done(move || {
                    called.fetch_add(1, SeqCst);
                });
                future
            })
            .collect();
        cancelled += futures.iter().skip(thread).step_by(7 + round % 3).filter(|future| future.cancel()).count();
        assert!(wait(&futures, ReturnWhen::AllCompleted, None).into_iter().all(|is_done| is_done));
    }
    cancelled
}

#[test]
fn a_callback_that_panics_costs_the_pool_no_worker() {
    let pool = ThreadPoolExecutor::new(1);
    let open = occupy(&pool);
    let future = pool.submit(|| 1);
    let (called, was_called) = channel();
    future.on_done(|| panic!("planned"));
    future.on_done(move || called.send(()).expect("the test waits"));
    drop(open);
    assert_eq!(future.result(), Ok(1));
    was_called.recv().expect("the next callback has its turn");
    assert_eq!(pool.submit(|| 2).result(), Ok(2));
}

#[test]
fn shutdown_does_not_wait_for_the_rest_of_a_limit() {
    let pool = ThreadPoolExecutor::new(1);
    let (open, wait_for_it) = gate();
    let options = Options { task_timeout: Some(LONG_ENOUGH), ..Options::default() };
    let limited = pool.options(options).submit(wait_for_it);
    let closer = std::thread::spawn(move || pool.shutdown(true));
    drop(open);
    closer.join().expect("the shutdown ends with the task");
    assert!(limited.is_done());
}

#[test]
fn dropping_an_awaited_future_forgets_its_waker() {
    struct Flag;
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {}
    }
    let pool = ThreadPoolExecutor::new(1);
    let open = occupy(&pool);
    let flag = Arc::new(Flag);
    let waker = std::task::Waker::from(Arc::clone(&flag));
    let mut queued = Box::pin(pool.submit(|| ()));
    let polled = std::future::Future::poll(queued.as_mut(), &mut std::task::Context::from_waker(&waker));
    assert!(polled.is_pending());
    assert_eq!(Arc::strong_count(&flag), 3);
    drop(queued);
    assert_eq!(Arc::strong_count(&flag), 2);
    drop(open);
}

#[test]
fn many_short_lived_pools_leave_no_thread_behind() {
    for _ in 0..200 {
        let pool = ThreadPoolExecutor::new(3);
        let values: Vec<_> = pool.map(0..10, |n| n).map(|n| n.expect("no failure")).collect();
        assert_eq!(values.len(), 10);
    }
}

#[test]
#[should_panic(expected = "max_workers must be greater than 0")]
fn a_pool_without_workers_is_refused() {
    let _ = ThreadPoolExecutor::new(0);
}
