//! Models of the lock-free and the sleeping parts, explored by loom in all interleavings (bounded in preemptions).
//!
//! Each protocol is modelled as it stands, and once more with each of its [mutants](crate::mutant), which the model must
//! catch: a model that passes with a fault built in proves nothing.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p raddle --release --lib models`.

use std::process::Command;
use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::batch::{Batch, BatchJob, Found, RunBatch};
use crate::error::Failure;
use crate::future::{FutureCell, Outcome, State};
use crate::group::{Arrivals, Countdown, ReturnWhen};
use crate::mutant::{Mutant, with_mutant};
use crate::roster::{Call, Entry, Phase, Rest, Roster, Seat};
use crate::signal::Waited;
use crate::statistics::Record;

pub(crate) fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// The model must fail with the fault built in. A lost wake-up shows as a deadlock, which loom reports by a panic; what
/// that panic drops may panic again and abort, so the faulty model runs in a process of its own.
pub(crate) fn assert_caught(test: &str, mutant: Mutant, model: impl Fn() + Sync + Send + 'static) {
    const CHILD: &str = "RADDLE_EXPLORE_MUTANT";
    if std::env::var_os(CHILD).is_some() {
        println!("exploring {mutant:?}");
        return with_mutant(mutant, || explore(model));
    }
    let this = std::env::current_exe().expect("a test knows its own program");
    let child = Command::new(this).args([test, "--exact", "--nocapture"]).env(CHILD, "1").output();
    let child = child.expect("a test can start its own program");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains(&format!("exploring {mutant:?}")), "{test} was not run: {said}");
    assert!(!child.status.success(), "the model does not notice {mutant:?}");
}

impl Outcome for usize {
    fn is_failure(&self) -> bool {
        false
    }
}

impl From<Failure> for usize {
    fn from(_: Failure) -> Self {
        usize::MAX
    }
}

/// A task that a test counts.
struct Token;

impl Entry for Token {
    fn share(&self) -> Option<Self> {
        None
    }

    fn is_spent(&self) -> bool {
        false
    }
}

/// A roster with its workers, as the pool drives them.
struct Crew {
    roster: Roster<Token>,
    taken: (Mutex<usize>, Condvar),
    threads: std::sync::Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Crew {
    fn new(max_workers: usize) -> Arc<Self> {
        Arc::new(Self {
            roster: Roster::new(max_workers),
            taken: (Mutex::new(0), Condvar::new()),
            threads: std::sync::Mutex::default(),
        })
    }

    fn submit(self: &Arc<Self>) {
        let call = self.roster.push(Token, |_| ()).map_err(|(phase, _)| phase).expect("the roster is open");
        self.answer(call);
    }

    fn answer(self: &Arc<Self>, call: Call) {
        match call {
            Call::Nobody => {}
            Call::Wake(seat) => seat.wake(),
            Call::Start(seat) => {
                let crew = Arc::clone(self);
                let handle = thread::spawn(move || crew.work(&seat));
                self.threads.lock().expect("no panic under this lock").push(handle);
            }
        }
    }

    fn work(self: &Arc<Self>, seat: &Arc<Seat>) {
        loop {
            if let Some((_token, call)) = self.roster.look(seat) {
                self.answer(call);
                *self.taken.0.lock().expect("no panic under this lock") += 1;
                self.taken.1.notify_all();
            } else if self.roster.rest(seat, false) == Rest::Leave {
                return;
            }
        }
    }

    fn wait_taken(&self, count: usize) {
        let mut taken = self.taken.0.lock().expect("no panic under this lock");
        while *taken < count {
            taken = self.taken.1.wait(taken).expect("no panic under this lock");
        }
    }

    fn close_and_join(&self) {
        self.roster.close(Phase::Closed).iter().for_each(|seat| seat.wake());
        let ended = self.roster.ended();
        assert_eq!(ended.sleep_until(None), Waited::Ready);
        let threads = std::mem::take(&mut *self.threads.lock().expect("no panic under this lock"));
        threads.into_iter().for_each(|handle| handle.join().expect("a worker does not panic"));
    }
}

/// Two tasks, one after the other: the second may find the worker at work, on its way to sleep, or asleep. The roster is
/// closed only when both are done, so that closing wakes nobody who should have been awake.
fn one_worker_gets_all() {
    let crew = Crew::new(1);
    crew.submit();
    crew.submit();
    crew.wait_taken(2);
    crew.close_and_join();
}

/// Nobody waits for the tasks: what is queued at the close is still run.
fn the_close_loses_nothing() {
    let crew = Crew::new(2);
    crew.submit();
    crew.submit();
    crew.close_and_join();
    crew.wait_taken(2);
}

#[test]
fn no_task_is_left_when_the_worker_falls_asleep() {
    explore(one_worker_gets_all);
}

#[test]
fn what_is_queued_at_the_close_is_run() {
    explore(the_close_loses_nothing);
}

#[test]
fn sleeping_without_a_last_look_is_caught() {
    assert_caught("models::sleeping_without_a_last_look_is_caught", Mutant::SleepWithoutLooking, one_worker_gets_all);
}

#[test]
fn sleeping_through_the_close_is_caught() {
    assert_caught("models::sleeping_through_the_close_is_caught", Mutant::SleepThroughClose, one_worker_gets_all);
}

#[test]
fn keeping_the_standbys_role_is_caught() {
    assert_caught("models::keeping_the_standbys_role_is_caught", Mutant::KeepTheRole, one_worker_gets_all);
}

/// Workers whose tasks wait for each other: neither ends before both have begun.
fn two_tasks_that_meet() {
    let roster: Arc<Roster<Token>> = Arc::new(Roster::new(2));
    let arrived = Arc::new((Mutex::new(0), Condvar::new()));
    let threads = Arc::new(std::sync::Mutex::new(Vec::new()));
    // Both are in the queue before a worker looks: only the standby's duty brings the second worker.
    let first = roster.push(Token, |_| ()).map_err(|_| ()).expect("open");
    let second = roster.push(Token, |_| ()).map_err(|_| ()).expect("open");
    assert!(matches!(second, Call::Nobody), "the first worker is on its way");
    start_meeting(&roster, &arrived, &threads, first);
    let mut count = arrived.0.lock().expect("no panic under this lock");
    while *count < 2 {
        count = arrived.1.wait(count).expect("no panic under this lock");
    }
    drop(count);
    roster.close(Phase::Closed).iter().for_each(|seat| seat.wake());
    while let Some(handle) = { threads.lock().expect("no panic under this lock").pop() } {
        let handle: thread::JoinHandle<()> = handle;
        handle.join().expect("a worker does not panic");
    }
}

type Meeting = Arc<(Mutex<usize>, Condvar)>;
type Threads = Arc<std::sync::Mutex<Vec<thread::JoinHandle<()>>>>;

fn start_meeting(roster: &Arc<Roster<Token>>, arrived: &Meeting, threads: &Threads, call: Call) {
    let seat = match call {
        Call::Nobody => return,
        Call::Wake(seat) => return seat.wake(),
        Call::Start(seat) => seat,
    };
    let (own_roster, own_arrived, own_threads) = (Arc::clone(roster), Arc::clone(arrived), Arc::clone(threads));
    let handle = thread::spawn(move || {
        loop {
            if let Some((_token, call)) = own_roster.look(&seat) {
                start_meeting(&own_roster, &own_arrived, &own_threads, call);
                let mut count = own_arrived.0.lock().expect("no panic under this lock");
                *count += 1;
                own_arrived.1.notify_all();
                while *count < 2 {
                    count = own_arrived.1.wait(count).expect("no panic under this lock");
                }
            } else if own_roster.rest(&seat, false) == Rest::Leave {
                return;
            }
        }
    });
    threads.lock().expect("no panic under this lock").push(handle);
}

#[test]
fn a_task_that_waits_for_the_next_is_relieved_by_the_standby() {
    explore(two_tasks_that_meet);
}

#[test]
fn not_passing_the_role_on_is_caught() {
    assert_caught("models::not_passing_the_role_on_is_caught", Mutant::DoNotPassTheRole, two_tasks_that_meet);
}

struct Identity;

impl BatchJob for Identity {
    type Item = usize;
    type Outcome = usize;

    fn run(&self, item: usize) -> usize {
        item
    }
}

/// A worker runs the items while the consumer takes them in order, asleep or not.
fn results_arrive_in_order() {
    let batch = Arc::new(Batch::new(Identity, [10, 11], None));
    let worker = {
        let batch = Arc::clone(&batch);
        thread::spawn(move || {
            if let Some(signal) = batch.run_items(&Record::new(0)) {
                signal.set();
            }
        })
    };
    for index in 0..2 {
        let outcome = loop {
            match batch.try_take(index) {
                Found::Outcome(outcome) => break outcome,
                Found::Ended(ended) => panic!("nobody ended the batch: {ended:?}"),
                Found::NotYet => drop(batch.wait(index, None, false)),
            };
        };
        assert_eq!(outcome, 10 + index);
    }
    worker.join().expect("the worker does not panic");
}

#[test]
fn a_batch_wakes_its_consumer_for_each_result() {
    explore(results_arrive_in_order);
}

#[test]
fn sleeping_beside_a_full_slot_is_caught() {
    assert_caught(
        "models::sleeping_beside_a_full_slot_is_caught",
        Mutant::SleepBesideAFullSlot,
        results_arrive_in_order,
    );
}

#[test]
fn a_stamp_without_release_is_caught() {
    assert_caught("models::a_stamp_without_release_is_caught", Mutant::RelaxedStamp, results_arrive_in_order);
}

#[test]
fn a_batch_that_is_ended_wakes_its_consumer() {
    explore(|| {
        let batch = Arc::new(Batch::new(Identity, [10], None));
        let ender = {
            let batch = Arc::clone(&batch);
            thread::spawn(move || batch.end(crate::batch::Ended::Cancelled).1.deliver())
        };
        loop {
            match batch.try_take(0) {
                Found::Outcome(_) => panic!("nobody runs the item"),
                Found::Ended(_) => break,
                Found::NotYet => drop(batch.wait(0, None, false)),
            };
        }
        ender.join().expect("the ender does not panic");
    });
}

#[test]
fn a_future_wakes_its_waiter_and_ends_once() {
    explore(|| {
        let cell = Arc::new(FutureCell::<usize>::new());
        let finishers: Vec<_> = (1..=2)
            .map(|value| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || cell.finish(value).map(|notices| notices.deliver()).is_ok())
            })
            .collect();
        while let Some(waiting) = cell.waiting() {
            let _ = waiting.wait(None, None);
        }
        let first = cell.look(|outcome| *outcome);
        let won = finishers.into_iter().map(|f| f.join().expect("no panic")).filter(|won| *won).count();
        assert_eq!((won, cell.look(|outcome| *outcome)), (1, first));
    });
}

#[test]
fn a_future_is_cancelled_or_begun_but_not_both() {
    explore(|| {
        let cell = Arc::new(FutureCell::<usize>::new());
        let canceller = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || matches!(cell.cancel(true), crate::future::Cancel::Now(_)))
        };
        let began = matches!(cell.begin(), crate::future::Begin::Started);
        let cancelled = canceller.join().expect("no panic");
        assert!(began != cancelled, "began {began}, cancelled {cancelled}");
        assert_eq!(cell.state() == State::Running, began);
    });
}

#[test]
fn a_countdown_ends_whether_futures_settle_before_or_after_it_registers() {
    explore(|| {
        let cells: Vec<_> = (0..2).map(|_| Arc::new(FutureCell::<usize>::new())).collect();
        let finisher = {
            let cells = cells.clone();
            thread::spawn(move || cells.iter().for_each(|cell| cell.finish(1).expect("finished once").deliver()))
        };
        let countdown = Countdown::new(2, ReturnWhen::AllCompleted);
        cells.iter().enumerate().for_each(|(index, cell)| countdown.register(index, cell));
        assert_eq!(countdown.wait(None, None), Ok(Waited::Ready));
        assert!(cells.iter().all(|cell| cell.state().is_settled()));
        finisher.join().expect("no panic");
    });
}

#[test]
fn arrivals_name_every_future_once() {
    explore(|| {
        let cells: Vec<_> = (0..2).map(|_| Arc::new(FutureCell::<usize>::new())).collect();
        let finisher = {
            let cells = cells.clone();
            thread::spawn(move || cells.iter().for_each(|cell| cell.finish(1).expect("finished once").deliver()))
        };
        let arrivals = Arrivals::new();
        cells.iter().enumerate().for_each(|(index, cell)| {
            let _ = arrivals.register(index, cell);
        });
        let mut seen = Vec::new();
        while seen.len() < 2 {
            match arrivals.try_next() {
                Some(index) => seen.push(index),
                None => assert_eq!(arrivals.wait(None, None), Ok(Waited::Ready)),
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
        finisher.join().expect("no panic");
    });
}
