//! The lecture's tour in Rust, and a picture of each part: waiting and computing in threads, results as they come, worker
//! processes, one of which dies, and a map that chooses for itself.
//!
//! `cargo run --release --example tour`

use std::io;
use std::thread::{available_parallelism, sleep};
use std::time::Duration;

use raddle::process::{Function, init};
use raddle::sync::Lock;
use raddle::timeline::Recorder;
use raddle::{Options, ProcessPoolExecutor, ThreadPoolExecutor, as_completed};

const UP_TO: u64 = 20_000_000;
const WIDTH: usize = 60;

static SUM_OF_SQUARES: Function<u64, u64> = Function::new("sum_of_squares", sum_of_squares);
static CRASH: Function<(), ()> = Function::new("crash", |()| std::process::abort());

fn sum_of_squares(n: u64) -> u64 {
    (0..n).fold(0, |sum, i| std::hint::black_box(sum ^ (i * i)))
}

/// Runs a part of the tour, and shows what happened.
fn part(title: &str, run: impl FnOnce()) {
    println!("== {title}");
    let recorder = Recorder::start();
    run();
    let timeline = recorder.finish();
    print!("{}", timeline.picture(WIDTH));
    println!("{}\n", timeline.summary());
}

fn labelled(label: &str) -> Options {
    Options { label: Some(label.into()), ..Options::default() }
}

/// Six pages of 50 ms on three threads.
fn waiting() {
    let pool = ThreadPoolExecutor::new(3);
    let download = |_: u32| sleep(Duration::from_millis(50));
    assert!(pool.options(labelled("download")).map(0..6, download).all(|page| page.is_ok()));
}

/// Tasks of 3, 1 and 2 units come as 1, 2, 3.
fn as_they_come() {
    let pool = ThreadPoolExecutor::new(3);
    let submit = |units: u64| {
        pool.submit(move || {
            sleep(Duration::from_millis(40 * units));
            units
        })
    };
    let come: Vec<_> = as_completed([3, 1, 2].map(submit).into()).map(|future| future.result()).collect();
    println!("submitted as 3, 1, 2; they came as {come:?}");
}

/// Threads of Rust compute at the same time.
fn computing(workers: usize) {
    let pool = ThreadPoolExecutor::new(workers);
    let sums = pool.map(vec![UP_TO; 2 * workers], sum_of_squares);
    assert!(sums.collect::<Result<Vec<_>, _>>().is_ok_and(|sums| sums.len() == 2 * workers));
}

/// A lock, for which threads wait.
fn locking() {
    let pool = ThreadPoolExecutor::new(2);
    let balance = std::sync::Arc::new(Lock::with_name(0, "balance"));
    let deposits: Vec<_> = (0..4)
        .map(|_| {
            let balance = std::sync::Arc::clone(&balance);
            pool.submit(move || {
                let mut balance = balance.acquire().expect("nobody waits in a circle");
                sleep(Duration::from_millis(20));
                *balance += 1;
            })
        })
        .collect();
    assert!(deposits.into_iter().all(|deposit| deposit.result().is_ok()));
    println!("the balance is {}", *balance.acquire().expect("nobody holds it any more"));
}

/// The same sums in processes; a task that ends its worker costs nobody else's.
fn processes(pool: &ProcessPoolExecutor, workers: usize) {
    let crashed = pool.submit(&CRASH, ());
    let sums: Vec<_> = pool.map(&SUM_OF_SQUARES, vec![UP_TO; 2 * workers]).collect();
    assert!(sums.iter().all(|sum| sum.is_ok()));
    println!("{}", crashed.result().expect_err("its worker is gone"));
}

fn main() -> io::Result<()> {
    init(&[&SUM_OF_SQUARES, &CRASH]);
    let workers = available_parallelism().map_or(2, usize::from);
    part("Waiting: six pages of 50 ms, three threads", waiting);
    part("As completed: submitted 3, 1, 2", as_they_come);
    part("Computing: threads of Rust hold no interpreter", || computing(workers));
    part("A lock: one at a time", locking);
    let pool = ProcessPoolExecutor::new(workers)?;
    part("Processes: one of them dies", || processes(&pool, workers));
    part("Map: it measures, and chooses", || {
        let sums = raddle::map(vec![UP_TO / 10; 40], sum_of_squares);
        println!("{} of 40 sums are there", sums.filter(Result::is_ok).count());
    });
    Ok(())
}
