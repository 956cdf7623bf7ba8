//! The engine's thread pool beside rayon's and tokio's, from one submitter, two workers each.
//!
//! Contenders take turns within a round, on pools that are opened once; a round's figure is the
//! time of one whole batch over its tasks, and every batch's results are checked. What is compared:
//!
//! | case | raddle | rayon | tokio |
//! |---|---|---|---|
//! | submit-all | a future a task | `spawn`, one channel for all | `spawn_blocking`, a handle a task |
//! | one-by-one | a future a task | `spawn`, the same channel | `spawn_blocking`, a handle a task |
//! | map | `map`, results in order | `par_iter`, which makes no task of an item | - |
//!
//! `cargo bench -p raddle --bench threads [-- --quick]`; with `RADDLE_BENCH_JSON=1` it prints a line
//! of JSON for each case and contender, which `python -m benchmarks rust` keeps.

mod measure;

use std::hint::black_box;
use std::sync::mpsc::{Receiver, Sender, channel};

use raddle::ThreadPoolExecutor;
use rayon::prelude::*;
use tokio::runtime::{Builder, Runtime};

use measure::{Case, WORKERS};

/// The pools under measurement, open for all cases.
struct Pools {
    raddle: ThreadPoolExecutor,
    rayon: rayon::ThreadPool,
    tokio: Runtime,
    sender: Sender<u64>,
    receiver: Receiver<u64>,
}

impl Pools {
    fn open() -> Self {
        let (sender, receiver) = channel();
        let rayon = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build();
        let tokio = Builder::new_current_thread().max_blocking_threads(WORKERS).build();
        Pools {
            raddle: ThreadPoolExecutor::new(WORKERS),
            rayon: rayon.expect("the system has two threads to give"),
            tokio: tokio.expect("a runtime without drivers needs nothing of the system"),
            sender,
            receiver,
        }
    }

    fn raddle_submit_all(&self, tasks: u64) -> u64 {
        let futures: Vec<_> = (0..tasks).map(|task| self.raddle.submit(move || black_box(task))).collect();
        futures.into_iter().map(|future| future.result().expect("no task panics")).sum()
    }

    fn rayon_submit_all(&self, tasks: u64) -> u64 {
        for task in 0..tasks {
            self.rayon_spawn(task);
        }
        self.receiver.iter().take(tasks as usize).sum()
    }

    fn tokio_submit_all(&self, tasks: u64) -> u64 {
        self.tokio.block_on(async {
            let handles: Vec<_> = (0..tasks).map(|task| tokio::task::spawn_blocking(move || black_box(task))).collect();
            let mut sum = 0;
            for handle in handles {
                sum += handle.await.expect("no task panics");
            }
            sum
        })
    }

    fn raddle_one_by_one(&self, tasks: u64) -> u64 {
        let trip = |task| self.raddle.submit(move || black_box(task)).result();
        (0..tasks).map(|task| trip(task).expect("no task panics")).sum()
    }

    fn rayon_one_by_one(&self, tasks: u64) -> u64 {
        let trip = |task| {
            self.rayon_spawn(task);
            self.receiver.recv()
        };
        (0..tasks).map(|task| trip(task).expect("this pool keeps a sender")).sum()
    }

    fn tokio_one_by_one(&self, tasks: u64) -> u64 {
        self.tokio.block_on(async {
            let mut sum = 0;
            for task in 0..tasks {
                let handle = tokio::task::spawn_blocking(move || black_box(task));
                sum += handle.await.expect("no task panics");
            }
            sum
        })
    }

    fn raddle_map(&self, tasks: u64) -> u64 {
        let results = self.raddle.map(0..tasks, black_box);
        let numbers: Vec<u64> = results.map(|result| result.expect("no task panics")).collect();
        numbers.iter().sum()
    }

    fn rayon_map(&self, tasks: u64) -> u64 {
        let numbers: Vec<u64> = self.rayon.install(|| (0..tasks).into_par_iter().map(black_box).collect());
        numbers.iter().sum()
    }

    fn rayon_spawn(&self, task: u64) {
        let sender = self.sender.clone();
        self.rayon.spawn(move || sender.send(black_box(task)).expect("the receiver is open"));
    }

    fn cases(&self) -> Vec<Case<'_>> {
        vec![
            Case {
                name: "submit-all",
                tasks: 100_000,
                contenders: vec![
                    ("raddle", Box::new(|tasks| self.raddle_submit_all(tasks))),
                    ("rayon", Box::new(|tasks| self.rayon_submit_all(tasks))),
                    ("tokio", Box::new(|tasks| self.tokio_submit_all(tasks))),
                ],
            },
            Case {
                name: "one-by-one",
                tasks: 20_000,
                contenders: vec![
                    ("raddle", Box::new(|tasks| self.raddle_one_by_one(tasks))),
                    ("rayon", Box::new(|tasks| self.rayon_one_by_one(tasks))),
                    ("tokio", Box::new(|tasks| self.tokio_one_by_one(tasks))),
                ],
            },
            Case {
                name: "map",
                tasks: 1_000_000,
                contenders: vec![
                    ("raddle", Box::new(|tasks| self.raddle_map(tasks))),
                    ("rayon", Box::new(|tasks| self.rayon_map(tasks))),
                ],
            },
        ]
    }
}

fn main() {
    measure::run(&Pools::open().cases());
}
