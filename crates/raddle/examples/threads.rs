//! The lecture's thread half in Rust: waiting together, results in order and in the order in which they come, computing.
//!
//! `cargo run --release --example threads`

use std::thread::sleep;
use std::time::{Duration, Instant};

use raddle::{Options, ReturnWhen, TaskError, ThreadPoolExecutor, as_completed, wait};

fn main() -> Result<(), TaskError> {
    downloads();
    in_order()?;
    as_they_come()?;
    computing()?;
    borrowing();
    what_goes_wrong()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// Three "downloads" of 200 ms: one after the other, and in threads.
fn downloads() {
    println!("Waiting: three downloads of 200 ms");
    let download = || sleep(Duration::from_millis(200));
    let ((), in_a_row) = timed(|| (0..3).for_each(|_| download()));
    let pool = ThreadPoolExecutor::new(3);
    let (done, together) = timed(|| {
        let futures: Vec<_> = (0..3).map(|_| pool.submit(download)).collect();
        wait(&futures, ReturnWhen::AllCompleted, None)
    });
    assert_eq!(done, [true; 3]);
    let ratio = in_a_row.as_secs_f64() / together.as_secs_f64();
    println!("  one after the other {in_a_row:.2?}, together {together:.2?}: {ratio:.1}x\n");
}

/// `map` gives the results in the order of the items.
fn in_order() -> Result<(), TaskError> {
    println!("Map: five pages with three workers, in order");
    let pool = ThreadPoolExecutor::new(3);
    let pages = ["/a", "/bb", "/ccc", "/dddd", "/eeeee"];
    let sizes = pool.map(pages, |page: &str| {
        sleep(Duration::from_millis(20));
        (page, page.len() * 1000)
    });
    for size in sizes {
        let (page, bytes) = size?;
        println!("  {page}: {bytes} bytes");
    }
    println!();
    Ok(())
}

/// Tasks that take 3, 1 and 2 units finish as 1, 2, 3.
fn as_they_come() -> Result<(), TaskError> {
    println!("As completed: submitted 3, 1, 2");
    let pool = ThreadPoolExecutor::new(3);
    let submit = |units: u64| {
        pool.submit(move || {
            sleep(Duration::from_millis(50 * units));
            units
        })
    };
    for future in as_completed([3, 1, 2].map(submit).into()) {
        println!("  item {} is there", future.result()?);
    }
    println!();
    Ok(())
}

/// Threads of Rust compute at the same time: no interpreter lets only one of them run.
fn computing() -> Result<(), TaskError> {
    const LIMIT: u64 = 100_000_000;
    println!("Computing: the sum of squares up to {LIMIT}, four times");
    let sum = |limit: u64| (0..limit).fold(0_u64, |sum, n| sum.wrapping_add(std::hint::black_box(n) * n));
    let (in_a_row, one) = timed(|| [LIMIT; 4].map(sum));
    let pool = ThreadPoolExecutor::new(4);
    let (in_threads, four) = timed(|| pool.map([LIMIT; 4], sum).collect::<Result<Vec<_>, _>>());
    assert_eq!(in_threads?, in_a_row);
    println!("  sequential {one:.2?}, four threads {four:.2?}: {:.1}x\n", one.as_secs_f64() / four.as_secs_f64());
    Ok(())
}

/// A scope waits for its tasks, so they may borrow.
fn borrowing() {
    let words = vec!["warp".to_string(), "weft".to_string()];
    let pool = ThreadPoolExecutor::new(2);
    let lengths = pool.scope(|scope| {
        let futures: Vec<_> = words.iter().map(|word| scope.submit(|| word.len())).collect();
        futures.into_iter().map(|future| future.result()).collect::<Result<Vec<_>, _>>()
    });
    println!("Scope: the lengths of {words:?} are {lengths:?}\n");
}

/// A panic, a time limit: each is the error of its own task, and the pool works on.
fn what_goes_wrong() -> Result<(), TaskError> {
    println!("Errors (the panic's own message goes to stderr)");
    let pool = ThreadPoolExecutor::new(1);
    let failed = pool.submit(|| -> u32 { panic!("no such page") });
    println!("  {}", failed.result().expect_err("it panics"));
    let limit = Options {
        label: Some("the endless page".into()),
        task_timeout: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let endless = pool.options(limit).submit(|| sleep(Duration::from_secs(3600)));
    println!("  {}", endless.result().expect_err("it never ends"));
    println!("  and still: 6 * 7 = {}", pool.submit(|| 6 * 7).result()?);
    println!("  {:?}", pool.statistics());
    Ok(())
}
