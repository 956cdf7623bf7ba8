//! Measuring the contenders of a case in turn, and telling what was found as a table or as lines of JSON.

use std::env;
use std::time::Instant;

/// Workers of every pool.
pub(crate) const WORKERS: usize = 2;

/// How much is measured.
struct Scale {
    rounds: usize,
    divisor: usize,
}

/// Runs one batch of so many tasks and returns the sum of their results.
pub(crate) type Batch<'pools> = Box<dyn Fn(u64) -> u64 + 'pools>;

/// A case: the same work given to each contender.
pub(crate) struct Case<'pools> {
    pub(crate) name: &'static str,
    pub(crate) tasks: u64,
    pub(crate) contenders: Vec<(&'static str, Batch<'pools>)>,
}

impl Case<'_> {
    /// Measures the contenders in turn; for each, the nanoseconds a task of every round.
    fn measure(&self, scale: &Scale) -> Vec<Vec<f64>> {
        let tasks = self.tasks / scale.divisor as u64;
        let mut figures = vec![Vec::new(); self.contenders.len()];
        for (_, batch) in &self.contenders {
            nanoseconds_a_task(batch, tasks);
        }
        for _ in 0..scale.rounds {
            for ((_, batch), taken) in self.contenders.iter().zip(&mut figures) {
                taken.push(nanoseconds_a_task(batch, tasks));
            }
        }
        figures
    }
}

fn nanoseconds_a_task(batch: &Batch<'_>, tasks: u64) -> f64 {
    let started = Instant::now();
    let sum = batch(tasks);
    let spent = started.elapsed();
    assert_eq!(sum, tasks * (tasks - 1) / 2, "results are missing: the figure is void");
    spent.as_nanos() as f64 / tasks as f64
}

fn print_json(case: &Case<'_>, figures: &[Vec<f64>]) {
    for ((contender, _), taken) in case.contenders.iter().zip(figures) {
        println!(r#"{{"case": "{}", "contender": "{contender}", "nanoseconds": {taken:?}}}"#, case.name);
    }
}

fn print_table(case: &Case<'_>, figures: &[Vec<f64>]) {
    println!("{}: nanoseconds a task, {WORKERS} workers", case.name);
    for ((contender, _), taken) in case.contenders.iter().zip(figures) {
        let mut sorted = taken.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
        println!("    {contender:<8} {:>9.0} ({low:.0}-{high:.0})", sorted[sorted.len() / 2]);
    }
}

/// Measures the cases as the command line asks for it.
pub(crate) fn run(cases: &[Case<'_>]) {
    // `cargo bench` passes --bench; without it this is `cargo test`, which asks only whether it runs.
    let arguments: Vec<String> = env::args().collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let scale = if has("--bench") && !has("--quick") {
        Scale { rounds: 11, divisor: 1 }
    } else {
        Scale { rounds: 3, divisor: 100 }
    };
    let json = env::var_os("RADDLE_BENCH_JSON").is_some_and(|value| value == "1");
    for case in cases {
        let figures = case.measure(&scale);
        if json {
            print_json(case, &figures);
        } else {
            print_table(case, &figures);
        }
    }
}
