//! Squares in worker processes: computing on all cores, and tasks that crash or hang.
//!
//! `cargo run --release --example processes`

use std::io;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use raddle::process::{Function, init};
use raddle::{Options, ProcessPoolExecutor, ThreadPoolExecutor};

const TASKS: u64 = 4;
const UP_TO: u64 = 100_000_000;

static SUM_OF_SQUARES: Function<u64, u64> = Function::new("sum_of_squares", sum_of_squares);
static CRASH: Function<(), ()> = Function::new("crash", |()| std::process::abort());
static HANG: Function<(), ()> = Function::new("hang", |()| {
    loop {
        std::thread::park();
    }
});
static FAIL: Function<String, usize> = Function::new("fail", |text| text.parse().expect("a number"));

fn sum_of_squares(n: u64) -> u64 {
    (0..n).fold(0, |sum, i| std::hint::black_box(sum ^ (i * i)))
}

/// Runs a program, tells how long it took, and gives its results.
fn timed<R>(what: &str, program: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = program();
    println!("{what:<24}{:>8.3} s", start.elapsed().as_secs_f64());
    result
}

/// The same sum four times: one after the other, in threads, and in processes.
fn compute(threads: &ThreadPoolExecutor, processes: &ProcessPoolExecutor) {
    let in_a_row = timed("sequential", || (0..TASKS).map(|_| sum_of_squares(UP_TO)).sum::<u64>());
    let in_threads = timed("threads", || {
        threads.map(vec![UP_TO; TASKS as usize], sum_of_squares).map(Result::unwrap_or_default).sum::<u64>()
    });
    let in_processes = timed("processes", || {
        let sums = processes.map(&SUM_OF_SQUARES, vec![UP_TO; TASKS as usize]);
        sums.map(Result::unwrap_or_default).sum::<u64>()
    });
    assert!(in_a_row == in_threads && in_a_row == in_processes, "all three compute the same");
}

/// What would end or stop a program of threads costs one task here.
fn go_wrong(processes: &ProcessPoolExecutor) {
    let limit = Options { task_timeout: Some(Duration::from_millis(100)), ..Options::default() };
    let crashed = processes.submit(&CRASH, ());
    let hanging = processes.options(limit).submit(&HANG, ());
    let failed = processes.submit(&FAIL, "seven".into());
    let ended = [crashed.result().map(drop), hanging.result().map(drop), failed.result().map(drop)];
    for error in ended.iter().filter_map(|end| end.as_ref().err()) {
        println!("{error}");
    }
    assert!(ended.iter().all(Result::is_err), "none of these can end well");
    println!("and the pool goes on: {:?}", processes.submit(&SUM_OF_SQUARES, 4).result());
}

fn main() -> io::Result<()> {
    init(&[&SUM_OF_SQUARES, &CRASH, &HANG, &FAIL]);
    let workers = available_parallelism().map_or(2, usize::from);
    let processes = ProcessPoolExecutor::new(workers)?;
    compute(&ThreadPoolExecutor::new(workers), &processes);
    go_wrong(&processes);
    Ok(())
}
