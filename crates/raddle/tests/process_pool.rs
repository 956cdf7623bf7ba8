//! A pool of worker processes that are this very program: results, deaths, limits, cancelling, breaking, ending.
#![cfg(not(loom))]

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use raddle::future::{Outcome, State};
use raddle::host::ThreadBody;
use raddle::process::launcher::{Exit, Launcher, Started};
use raddle::process::link::Reply;
use raddle::process::mapping::Mapping;
use raddle::process::pool::{Plan, ProcessPool};
use raddle::process::remote::Parcel;
use raddle::process::seat::words_for;
use raddle::process::task::SendJob;
use raddle::process::worker::{Handler, end_with, ring_eventfd, serve};
use raddle::task::{Job, Task};
use raddle::{Failure, Options, Phase};

const PEER: &str = "RADDLE_POOL_PEER";

// --- The worker ------------------------------------------------------------------------------------------------------

const REVERSE: u8 = 0;
const BLOCK: u8 = 1;
const EXIT: u8 = 2;
const FAIL: u8 = 3;
const SLEEP: u8 = 4;
const PID: u8 = 5;

const VALUE: u16 = 0;
const ERROR: u16 = 1;

struct Servant {
    bell: OwnedFd,
    is_fit: bool,
}

impl Handler for Servant {
    fn start(&mut self) -> Result<(), String> {
        if self.is_fit { Ok(()) } else { Err("the initializer failed".into()) }
    }

    fn define(&mut self, _number: u64, _bytes: Vec<u8>) {}

    fn forget(&mut self, _number: u64) {}

    fn run(&mut self, task: Vec<u8>, reply: &mut Vec<u8>) -> u16 {
        match task[0] {
            REVERSE => reply.extend(task[1..].iter().rev()),
            BLOCK => loop {
                std::thread::park();
            },
            EXIT => std::process::exit(3),
            FAIL => return ERROR,
            SLEEP => std::thread::sleep(Duration::from_millis(task[1].into())),
            PID => reply.extend(std::process::id().to_le_bytes()),
            other => unreachable!("no test sends {other}"),
        }
        VALUE
    }

    fn ring_elsewhere(&mut self) {
        ring_eventfd(self.bell.as_fd());
    }
}

/// In a process that was started as a worker, serves and leaves.
fn serve_if_started() {
    let Ok(plan) = std::env::var(PEER) else { return };
    let numbers: Vec<i32> = plan.split(' ').map(|number| number.parse().expect("a number")).collect();
    let [memory, bell, seats, seat, is_fit] = numbers[..] else { panic!("five numbers") };
    if is_fit < 0 {
        std::process::exit(7);
    }
    // SAFETY: the parent has left these descriptors open for this process, and nobody else here uses them.
    let (memory, bell) = unsafe { (OwnedFd::from_raw_fd(memory), OwnedFd::from_raw_fd(bell)) };
    let mapping = Mapping::open(memory, words_for(seats as usize)).expect("it is the parent's memory");
    end_with(std::os::unix::process::parent_id()).expect("the parent is there");
    let mut servant = Servant { bell, is_fit: is_fit > 0 };
    let _ = serve(&mapping, seat as usize, &mut servant);
    std::process::exit(0);
}

// --- The program -----------------------------------------------------------------------------------------------------

struct Programs {
    test: &'static str,
    seats: usize,
    /// 1: fit, 0: the initializer fails, -1: it dies at once.
    fitness: i32,
    pool: OnceLock<Weak<ProcessPool>>,
    children: Mutex<HashMap<u32, Child>>,
    started: AtomicUsize,
}

fn inherited(descriptor: BorrowedFd<'_>) -> OwnedFd {
    rustix::io::dup(descriptor).expect("the system copies a descriptor")
}

impl Launcher for Programs {
    fn supervise(&self, body: ThreadBody) -> Result<(), String> {
        std::thread::spawn(body);
        Ok(())
    }

    fn start(&self, seat: usize, _number: usize) -> Result<Started, String> {
        self.started.fetch_add(1, SeqCst);
        let pool = self.pool.get().and_then(Weak::upgrade).expect("the pool starts its workers");
        let (memory, bell) = (inherited(pool.mapping().descriptor()), inherited(pool.eventfd()));
        let plan = [memory.as_raw_fd(), bell.as_raw_fd(), self.seats as i32, seat as i32, self.fitness];
        let child = Command::new(std::env::current_exe().expect("a test knows its own program"))
            .args([self.test, "--exact", "--nocapture"])
            .env(PEER, plan.map(|number| number.to_string()).join(" "))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let pid = child.id();
        self.children.lock().expect("no test panics with it").insert(pid, child);
        Ok(Started { pid, watch: None })
    }

    fn reap(&self, pid: u32) -> Exit {
        let child = self.children.lock().expect("no test panics with it").remove(&pid);
        let status = child.expect("it was started here").wait().expect("it has ended");
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or_default());
        Exit { code, ..Exit::default() }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Value(Vec<u8>),
    Error,
    Failed(Failure),
}

impl Outcome for End {
    fn is_failure(&self) -> bool {
        !matches!(self, Self::Value(_))
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

struct Send;

impl Job for Send {
    type Outcome = End;

    fn run(&mut self) -> End {
        unreachable!("it runs in a process")
    }
}

impl SendJob for Send {
    fn encode(&mut self) -> Result<Parcel, End> {
        Ok(Parcel { bytes: vec![REVERSE, 1, 2].into(), needs: None })
    }

    fn outcome(reply: Reply) -> End {
        if reply.kind == VALUE { End::Value(reply.payload.to_vec()) } else { End::Error }
    }

    fn is_failure(kind: u16) -> bool {
        kind != VALUE
    }
}

struct Program {
    pool: Arc<ProcessPool>,
    programs: Arc<Programs>,
}

impl Program {
    /// `None`: this process is a worker, and has served.
    fn new(test: &'static str, plan: Plan, fitness: i32) -> Self {
        serve_if_started();
        let programs = Arc::new(Programs {
            test,
            seats: plan.max_workers,
            fitness,
            pool: OnceLock::new(),
            children: Mutex::default(),
            started: AtomicUsize::new(0),
        });
        let pool = ProcessPool::new(Arc::clone(&programs) as _, plan).expect("the system gives memory");
        programs.pool.set(Arc::downgrade(&pool)).expect("it is new");
        Self { pool, programs }
    }

    fn submit_with(&self, operation: u8, argument: &[u8], options: Options) -> Arc<Task<Send>> {
        let task = Arc::new(Task::new(Send, Some(Arc::new(options))));
        let bytes: Vec<u8> = [&[operation], argument].concat();
        let parcel = Parcel { bytes: bytes.into(), needs: None };
        self.pool.submit_task(&task, Some(parcel)).expect("the pool is open");
        task
    }

    fn submit(&self, operation: u8, argument: &[u8]) -> Arc<Task<Send>> {
        self.submit_with(operation, argument, Options::default())
    }

    fn end(self) {
        self.pool.close();
        let ended = self.pool.ended();
        ended.wait_as_caller(None);
        assert!(self.programs.children.lock().expect("no test panics with it").is_empty(), "all are reaped");
        assert_eq!(self.pool.processes(), []);
    }
}

fn plan(max_workers: usize) -> Plan {
    Plan::new(max_workers)
}

fn wait(task: &Task<Send>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(waiting) = task.cell.waiting() {
        let drive = task.drive();
        let _ = waiting.wait_driving(Some(deadline), None, drive.as_deref());
        assert!(Instant::now() < deadline, "the task does not end");
    }
}

fn take(task: &Task<Send>) -> End {
    wait(task);
    task.cell.look(Option::take).expect("it has ended")
}

fn wait_begun(task: &Task<Send>) {
    while task.look() != State::Running {
        std::thread::yield_now();
    }
}

#[test]
fn tasks_end_with_their_replies() {
    let program = Program::new("tasks_end_with_their_replies", plan(2), 1);
    for round in 0..3_000_u32 {
        let size = if round % 500 == 250 { 300_000 } else { 4 };
        let mut argument = vec![7; size];
        argument[..4].copy_from_slice(&round.to_le_bytes());
        let task = program.submit(REVERSE, &argument);
        argument.reverse();
        assert_eq!(take(&task), End::Value(argument));
    }
    let tasks: Vec<_> = (0..20_000_u32).map(|n| program.submit(REVERSE, &n.to_be_bytes())).collect();
    for (n, task) in tasks.iter().enumerate() {
        assert_eq!(take(task), End::Value((n as u32).to_le_bytes().to_vec()));
    }
    assert_eq!(program.pool.statistics().done, 23_000);
    program.end();
}

#[test]
fn they_end_while_nobody_waits() {
    let program = Program::new("they_end_while_nobody_waits", plan(2), 1);
    let tasks: Vec<_> = (0..5_000_u32).map(|n| program.submit(REVERSE, &n.to_be_bytes())).collect();
    while tasks.iter().any(|task| task.cell.state() != State::Finished) {
        std::thread::yield_now();
    }
    program.end();
}

#[test]
fn many_callers_wait_at_once() {
    let program = Program::new("many_callers_wait_at_once", plan(2), 1);
    std::thread::scope(|scope| {
        for caller in 0..6_u32 {
            let program = &program;
            scope.spawn(move || {
                for round in 0..2_000_u32 {
                    let number = (caller << 16 | round).to_be_bytes();
                    let mut expected = number.to_vec();
                    expected.reverse();
                    assert_eq!(take(&program.submit(REVERSE, &number)), End::Value(expected));
                }
            });
        }
    });
    program.end();
}

#[test]
fn a_death_fails_only_the_task_that_ran() {
    let program = Program::new("a_death_fails_only_the_task_that_ran", plan(2), 1);
    let before: Vec<_> = (0..200_u32).map(|n| program.submit(REVERSE, &n.to_le_bytes())).collect();
    let fatal = program.submit(EXIT, &[]);
    let after: Vec<_> = (0..200_u32).map(|n| program.submit(REVERSE, &n.to_le_bytes())).collect();
    let End::Failed(Failure::Died { death, .. }) = take(&fatal) else { panic!("its worker died") };
    assert_eq!(death.exit.code, 3);
    assert!(before.iter().chain(&after).all(|task| matches!(take(task), End::Value(_))));
    program.end();
}

#[test]
fn a_lost_task_is_tried_again() {
    let program = Program::new("a_lost_task_is_tried_again", plan(1), 1);
    let retried = program.submit_with(EXIT, &[], Options { retries: 2, ..Options::default() });
    assert!(matches!(take(&retried), End::Failed(Failure::Died { .. })));
    assert_eq!(program.pool.statistics().retried, 2);
    assert_eq!(program.programs.started.load(SeqCst), 3);
    let failing = program.submit_with(FAIL, &[], Options { retries: 5, ..Options::default() });
    assert_eq!(take(&failing), End::Error);
    assert_eq!(program.pool.statistics().retried, 7);
    program.end();
}

#[test]
fn an_overrunning_task_is_ended() {
    let program = Program::new("an_overrunning_task_is_ended", plan(1), 1);
    let limit = Duration::from_millis(30);
    let options = Options { task_timeout: Some(limit), ..Options::default() };
    let stuck = program.submit_with(BLOCK, &[], options.clone());
    let behind = program.submit_with(REVERSE, b"ab", options);
    assert!(matches!(take(&stuck), End::Failed(Failure::Overran { limit: said, .. }) if said == limit));
    assert_eq!(take(&behind), End::Value(b"ba".to_vec()));
    program.end();
}

#[test]
fn a_running_task_can_be_killed_and_a_waiting_one_cancelled() {
    let program = Program::new("a_running_task_can_be_killed_and_a_waiting_one_cancelled", plan(1), 1);
    let running = program.submit(BLOCK, &[]);
    wait_begun(&running);
    let waiting = program.submit(REVERSE, b"ab");
    let other = program.submit(REVERSE, b"cd");
    assert_eq!(waiting.look(), State::Pending);
    assert_eq!(waiting.kill(), Some(false), "nobody runs it");
    assert!(matches!(waiting.cancel(), raddle::future::Cancel::Now(_)));
    assert!(matches!(running.cancel(), raddle::future::Cancel::Refused));
    assert_eq!(running.kill(), Some(true));
    assert!(matches!(take(&running), End::Failed(Failure::Killed { .. })));
    assert_eq!(take(&other), End::Value(b"dc".to_vec()));
    let figures = program.pool.statistics();
    assert_eq!((figures.done, figures.failed, figures.cancelled), (1, 1, 1));
    program.end();
}

#[test]
fn no_task_waits_behind_a_running_one() {
    let program = Program::new("no_task_waits_behind_a_running_one", plan(2), 1);
    // Short ones first, so that the workers are trusted with many.
    let warm: Vec<_> = (0..2_000_u32).map(|n| program.submit(REVERSE, &n.to_le_bytes())).collect();
    warm.iter().for_each(|task| wait(task));
    let stuck = program.submit(BLOCK, &[]);
    let rest: Vec<_> = (0..500_u32).map(|n| program.submit(REVERSE, &n.to_le_bytes())).collect();
    assert!(rest.iter().all(|task| matches!(take(task), End::Value(_))));
    assert_eq!(stuck.look(), State::Running);
    assert_eq!(stuck.kill(), Some(true));
    program.end();
}

#[test]
fn a_pool_whose_workers_are_not_fit_breaks() {
    let program = Program::new("a_pool_whose_workers_are_not_fit_breaks", plan(2), 0);
    let End::Failed(Failure::Broken { reason }) = take(&program.submit(REVERSE, b"a")) else { panic!("it is broken") };
    assert_eq!(&*reason, "the initializer failed");
    assert!(matches!(program.pool.phase(), Phase::Broken(_)));
    program.end();
}

#[test]
fn a_pool_whose_workers_die_at_once_breaks() {
    let program = Program::new("a_pool_whose_workers_die_at_once_breaks", plan(2), -1);
    let End::Failed(Failure::Broken { reason }) = take(&program.submit(REVERSE, b"a")) else { panic!("it is broken") };
    assert_eq!(&*reason, "worker processes die before they are ready: exit code 7");
    assert!(program.programs.started.load(SeqCst) <= 4);
    program.end();
}

#[test]
fn a_pool_can_break_at_a_death() {
    let breaking = Plan { breaks_at_death: true, ..plan(1) };
    let program = Program::new("a_pool_can_break_at_a_death", breaking, 1);
    let (fatal, behind) = (program.submit(EXIT, &[]), program.submit(REVERSE, b"a"));
    assert!(matches!(take(&fatal), End::Failed(Failure::Died { .. })));
    assert!(matches!(take(&behind), End::Failed(Failure::Broken { .. })));
    program.end();
}

#[test]
fn a_worker_leaves_after_so_many_tasks() {
    let program = Program::new("a_worker_leaves_after_so_many_tasks", Plan { tasks_per_worker: Some(3), ..plan(1) }, 1);
    let tasks: Vec<_> = (0..9).map(|_| program.submit(PID, &[])).collect();
    let pids: Vec<_> = tasks.iter().map(|task| take(task)).collect();
    assert!(pids.chunks(3).all(|chunk| chunk.iter().all(|pid| *pid == chunk[0])));
    assert!(pids[0] != pids[3] && pids[3] != pids[6]);
    assert_eq!(program.pool.statistics().abandoned, 0, "none died before its time");
    program.end();
}

#[test]
fn what_is_queued_is_done_after_close_or_cancelled() {
    let program = Program::new("what_is_queued_is_done_after_close_or_cancelled", plan(1), 1);
    let tasks: Vec<_> = (0..5_000_u32).map(|n| program.submit(REVERSE, &n.to_le_bytes())).collect();
    let last = program.submit(SLEEP, &[20]);
    program.pool.close();
    let ended = program.pool.ended();
    ended.wait_as_caller(None);
    assert!(tasks.iter().chain([&last]).all(|task| task.cell.state() == State::Finished));

    let program = Program::new("what_is_queued_is_done_after_close_or_cancelled", plan(1), 1);
    let running = program.submit(SLEEP, &[50]);
    wait_begun(&running);
    let tasks: Vec<_> = (0..5_000_u32).map(|n| program.submit(REVERSE, &n.to_le_bytes())).collect();
    assert_eq!(program.pool.cancel_queued(), 5_000);
    assert!(tasks.iter().all(|task| task.cell.state().is_cancelled()));
    program.end();
    assert_eq!(running.cell.state(), State::Finished);
}

#[test]
fn a_call_can_be_encoded_when_its_turn_comes() {
    let program = Program::new("a_call_can_be_encoded_when_its_turn_comes", plan(1), 1);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let task = Arc::new(Task::new(Send, None));
            program.pool.submit_task(&task, None).expect("the pool is open");
            task
        })
        .collect();
    assert!(tasks.iter().all(|task| take(task) == End::Value(vec![2, 1])));
    program.end();
}

#[test]
fn tasks_survive_a_storm_of_deaths() {
    let program = Program::new("tasks_survive_a_storm_of_deaths", plan(4), 1);
    let retried = Options { retries: 100, ..Options::default() };
    let tasks: Vec<_> =
        (0..2_000_u32).map(|n| program.submit_with(REVERSE, &n.to_be_bytes(), retried.clone())).collect();
    for round in 0..20 {
        wait(&tasks[round * 60]);
        for pid in program.pool.processes().into_iter().take(1) {
            let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process has a number");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    for (n, task) in tasks.iter().enumerate() {
        assert_eq!(take(task), End::Value((n as u32).to_le_bytes().to_vec()));
    }
    program.end();
}
