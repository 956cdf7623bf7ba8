//! `ProcessPoolExecutor` of Rust programs, from outside: each test is its own program, whose workers are started with its name.
#![cfg(all(not(loom), feature = "processes"))]

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use raddle::process::pool::Plan;
use raddle::process::{Function, Registered, init};
use raddle::{Failure, Options, ProcessPoolExecutor, ReturnWhen, SubmitError, TaskError, as_completed, wait};

static SQUARE: Function<u64, u64> = Function::new("square", |number| number * number);
static PID: Function<(), u32> = Function::new("pid", |()| std::process::id());
static JOIN: Function<(String, Vec<Option<i32>>), String> =
    Function::new("join", |(text, numbers)| format!("{text}{numbers:?}"));
static PANIC: Function<String, ()> = Function::new("panic", |message| panic!("{message}"));
static EXIT: Function<i32, ()> = Function::new("exit", |code| std::process::exit(code));
static HANG: Function<(), ()> = Function::new("hang", |()| {
    loop {
        std::thread::park();
    }
});
/// Fails at its first attempt: a file says that there was one.
static SECOND: Function<String, bool> = Function::new("second", |path| {
    let path = Path::new(&path);
    if path.exists() {
        return true;
    }
    std::fs::write(path, "tried").expect("a file can be written");
    std::process::exit(3)
});
static HOLD: Function<usize, usize> = Function::new("hold", |bytes| {
    let block = vec![1_u8; bytes];
    loop {
        std::thread::park_timeout(Duration::from_secs(1));
        std::hint::black_box(&block);
    }
});
static UNKNOWN: Function<u64, u64> = Function::new("unknown", |number| number);

const FUNCTIONS: &[&dyn Registered] = &[&SQUARE, &PID, &JOIN, &PANIC, &EXIT, &HANG, &SECOND, &HOLD];

/// A pool whose workers are this very test. In a worker this does not return.
fn pool(test: &str, plan: Plan) -> ProcessPoolExecutor {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| init(FUNCTIONS));
    let arguments = [test, "--exact", "--nocapture", "--test-threads=1"].map(OsString::from);
    ProcessPoolExecutor::with_plan(plan, arguments).expect("the system gives memory")
}

#[test]
fn results_are_those_of_the_functions() {
    let pool = pool("results_are_those_of_the_functions", Plan::new(2));
    let futures: Vec<_> = (0..1_000).map(|number| pool.submit(&SQUARE, number)).collect();
    assert!(futures.into_iter().map(|future| future.result()).eq((0..1_000).map(|number| Ok(number * number))));
    let told = pool.submit(&JOIN, ("a".into(), vec![Some(-1), None])).result();
    assert_eq!(told.as_deref(), Ok("a[Some(-1), None]"));
    let long = "x".repeat(1_000_000);
    assert_eq!(pool.submit(&JOIN, (long.clone(), vec![])).result(), Ok(long + "[]"));
    assert_ne!(pool.submit(&PID, ()).result(), Ok(std::process::id()));
    assert_eq!(pool.statistics().failed, 0);
}

#[test]
fn a_map_is_in_order_and_futures_can_be_waited_for() {
    let pool = pool("a_map_is_in_order_and_futures_can_be_waited_for", Plan::new(2));
    assert!(pool.map(&SQUARE, 0..5_000).eq((0..5_000).map(|number| Ok(number * number))));
    let futures: Vec<_> = (0..10).map(|number| pool.submit(&SQUARE, number)).collect();
    assert_eq!(wait(&futures, ReturnWhen::AllCompleted, None), [true; 10]);
    assert_eq!(as_completed(futures).map(|future| future.result()).sum::<Result<u64, _>>(), Ok(285));
}

#[test]
fn a_crash_costs_its_own_task() {
    let pool = pool("a_crash_costs_its_own_task", Plan::new(1));
    let before = pool.submit(&SQUARE, 3);
    let fatal = pool.submit(&EXIT, 7);
    let after: Vec<_> = (0..50).map(|number| pool.submit(&SQUARE, number)).collect();
    assert_eq!(before.result(), Ok(9));
    let Err(TaskError::Failed(Failure::Died { death, .. })) = fatal.result() else { panic!("its worker died") };
    assert_eq!(death.exit.code, 7);
    assert!(death.exit.peak_memory.is_some_and(|bytes| bytes > 100_000));
    assert!(after.into_iter().all(|future| future.result().is_ok()));
}

#[test]
fn a_panic_is_told_and_costs_no_process() {
    let pool = pool("a_panic_is_told_and_costs_no_process", Plan::new(1));
    let pid = pool.submit(&PID, ()).result();
    assert_eq!(pool.submit(&PANIC, "of the task".into()).result(), Err(TaskError::Panicked("of the task".into())));
    assert_eq!(pool.submit(&PID, ()).result(), pid);
}

#[test]
fn what_hangs_is_ended_by_its_limit_or_by_hand() {
    let pool = pool("what_hangs_is_ended_by_its_limit_or_by_hand", Plan::new(2));
    let limit = Some(Duration::from_millis(50));
    let late = pool.options(Options { task_timeout: limit, ..Options::default() }).submit(&HANG, ());
    assert!(matches!(late.result(), Err(TaskError::Failed(Failure::Overran { .. }))));
    let hanging = pool.submit(&HANG, ());
    while !hanging.kill() {
        std::thread::yield_now();
    }
    assert!(matches!(hanging.result(), Err(TaskError::Failed(Failure::Killed { .. }))));
    assert_eq!(pool.submit(&SQUARE, 5).result(), Ok(25));
}

#[test]
fn a_lost_task_is_tried_again() {
    let pool = pool("a_lost_task_is_tried_again", Plan::new(1));
    let path = std::env::temp_dir().join(format!("raddle-second-{}", std::process::id()));
    let options = Options { retries: 1, ..Options::default() };
    let second = pool.options(options).submit(&SECOND, path.display().to_string());
    assert_eq!(second.result(), Ok(true));
    assert_eq!(pool.statistics().retried, 1);
    std::fs::remove_file(path).expect("the task has made it");
}

#[test]
fn a_task_beyond_the_memory_limit_is_ended() {
    let limit = 64 << 20;
    let plan = Plan { memory_limit: Some(limit), ..Plan::new(1) };
    let pool = pool("a_task_beyond_the_memory_limit_is_ended", plan);
    let greedy = pool.submit(&HOLD, 200 << 20).result();
    let Err(TaskError::Failed(Failure::Outgrew { limit: said, death, .. })) = greedy else { panic!("{greedy:?}") };
    assert_eq!(said, limit);
    assert!(death.exit.peak_memory.is_some_and(|bytes| bytes > limit));
    assert_eq!(pool.submit(&SQUARE, 5).result(), Ok(25));
}

#[test]
fn an_idle_worker_leaves_and_another_comes() {
    let plan = Plan { idle_timeout: Some(Duration::from_millis(20)), ..Plan::new(1) };
    let pool = pool("an_idle_worker_leaves_and_another_comes", plan);
    let first = pool.submit(&PID, ()).result();
    while pool.statistics().workers > 0 {
        std::thread::yield_now();
    }
    let second = pool.submit(&PID, ()).result();
    assert!(second.is_ok() && second != first);
    assert_eq!(pool.statistics().abandoned, 0);
}

#[test]
fn what_is_not_registered_or_comes_too_late_is_refused() {
    let pool = pool("what_is_not_registered_or_comes_too_late_is_refused", Plan::new(1));
    assert_eq!(pool.try_submit(&UNKNOWN, &1).err(), Some(SubmitError::Unregistered("unknown")));
    pool.shutdown(true);
    assert_eq!(pool.try_submit(&SQUARE, &1).err(), Some(SubmitError::ShutDown));
}
