//! The engine's process pool, from one submitter, two workers, beside a socket to a process of this program; and the pool of
//! registered functions, beside procspawn's.
//!
//! | case | raddle | socket |
//! |---|---|---|
//! | process-submit-all | a future a task | - |
//! | process-one-by-one | a future a task | written to a process, read from it |
//! | process-function | a registered function | - |
//! | process-map | a batch, results in order | - |
//!
//! `cargo bench -p raddle --bench processes [-- --quick]`; with `RADDLE_BENCH_JSON=1` it prints a line of JSON for each case
//! and contender, which `python -m benchmarks rust` keeps. A worker is this program, started with `RADDLE_BENCH_WORKER`.

mod measure;

use std::collections::HashMap;
use std::env;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use raddle::future::Outcome;
use raddle::host::ThreadBody;
use raddle::process::batch::{RemoteBatch, RemoteJob};
use raddle::process::launcher::{Exit, Launcher, Started};
use raddle::process::link::Reply;
use raddle::process::mapping::Mapping;
use raddle::process::pool::{Plan, ProcessPool};
use raddle::process::remote::{Ending, Parcel, Parcels, Remote};
use raddle::process::seat::words_for;
use raddle::process::task::SendJob;
use raddle::process::worker::{Handler, end_with, ring_eventfd, serve};
use raddle::process::{Function, init};
use raddle::task::{Job, Task};
use raddle::{Failure, ProcessPoolExecutor};

use measure::{Case, WORKERS};

static ECHO: Function<u64, u64> = Function::new("echo", |number| number);

const WORKER: &str = "RADDLE_BENCH_WORKER";
const NUMBER: usize = size_of::<u64>();

// --- The worker ------------------------------------------------------------------------------------------------------

struct Echo(OwnedFd);

impl Handler for Echo {
    fn define(&mut self, _number: u64, _bytes: Vec<u8>) {}

    fn forget(&mut self, _number: u64) {}

    fn run(&mut self, task: Vec<u8>, reply: &mut Vec<u8>) -> u16 {
        reply.extend(task);
        0
    }

    fn ring_elsewhere(&mut self) {
        ring_eventfd(self.0.as_fd());
    }
}

/// Takes a descriptor over that the program has left open for this process.
fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the program has duplicated it for this process alone, and told its number once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Serves a seat of the pool.
fn serve_seat(memory: i32, bell: i32, seat: usize) {
    let mapping = Mapping::open(inherited(memory), words_for(WORKERS)).expect("it is the program's memory");
    end_with(std::os::unix::process::parent_id()).expect("the program is there");
    let served = serve(&mapping, seat, &mut Echo(inherited(bell)));
    assert!(served.is_ok(), "the program writes what it means");
}

/// Gives back what comes over the socket.
fn serve_socket(socket: i32) {
    let mut stream = UnixStream::from(inherited(socket));
    let mut number = [0; NUMBER];
    while stream.read_exact(&mut number).is_ok() && stream.write_all(&number).is_ok() {}
}

fn be_a_worker(plan: &str) {
    let numbers: Vec<i32> = plan.split(' ').map(|number| number.parse().expect("a number")).collect();
    match numbers[..] {
        [memory, bell, seat] => serve_seat(memory, bell, seat as usize),
        [socket] => serve_socket(socket),
        _ => panic!("three numbers for a seat, one for a socket"),
    }
}

fn start_worker(plan: &[i32]) -> std::io::Result<Child> {
    let numbers: Vec<String> = plan.iter().map(i32::to_string).collect();
    Command::new(env::current_exe()?).env(WORKER, numbers.join(" ")).stdin(Stdio::null()).spawn()
}

// --- The pool --------------------------------------------------------------------------------------------------------

#[derive(Default)]
struct Programs {
    pool: OnceLock<Weak<ProcessPool>>,
    children: Mutex<HashMap<u32, Child>>,
}

/// A copy of a descriptor that a started program has open too.
fn left_open(descriptor: BorrowedFd<'_>) -> OwnedFd {
    rustix::io::dup(descriptor).expect("the system copies a descriptor")
}

impl Launcher for Programs {
    fn supervise(&self, body: ThreadBody) -> Result<(), String> {
        std::thread::spawn(body);
        Ok(())
    }

    fn start(&self, seat: usize, _number: usize) -> Result<Started, String> {
        let pool = self.pool.get().and_then(Weak::upgrade).expect("the pool starts its workers");
        let (memory, bell) = (left_open(pool.mapping().descriptor()), left_open(pool.eventfd()));
        let child = start_worker(&[memory.as_raw_fd(), bell.as_raw_fd(), seat as i32]).map_err(|e| e.to_string())?;
        let pid = child.id();
        self.children.lock().expect("nobody panics with it").insert(pid, child);
        Ok(Started { pid, watch: None })
    }

    fn reap(&self, pid: u32) -> Exit {
        let child = self.children.lock().expect("nobody panics with it").remove(&pid);
        let status = child.expect("it was started here").wait().expect("it has ended");
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or_default());
        Exit { code, ..Exit::default() }
    }
}

struct Number(Option<u64>);

impl Outcome for Number {
    fn is_failure(&self) -> bool {
        self.0.is_none()
    }
}

impl From<Failure> for Number {
    fn from(_: Failure) -> Self {
        Self(None)
    }
}

impl From<Ending> for Number {
    fn from(ending: Ending) -> Self {
        if let Ending::Reply(reply) = ending { Self::of(&reply) } else { Self(None) }
    }
}

impl Number {
    fn of(reply: &Reply) -> Self {
        Self(reply.payload[..].try_into().ok().map(u64::from_le_bytes))
    }

    fn get(self) -> u64 {
        self.0.expect("no worker dies")
    }
}

fn parcel(number: u64) -> Parcel {
    Parcel { bytes: number.to_le_bytes().to_vec().into(), needs: None }
}

struct EchoJob;

impl Job for EchoJob {
    type Outcome = Number;

    fn run(&mut self) -> Number {
        unreachable!("it runs in a process")
    }
}

impl SendJob for EchoJob {
    fn encode(&mut self) -> Result<Parcel, Number> {
        unreachable!("each is submitted with its parcel")
    }

    fn outcome(reply: Reply) -> Number {
        Number::of(&reply)
    }

    fn is_failure(_kind: u16) -> bool {
        false
    }
}

impl RemoteJob for EchoJob {
    type Outcome = Number;

    fn encode(&self, _index: usize) -> Result<Parcel, Number> {
        unreachable!("they are submitted with their parcels")
    }

    fn is_failure(&self, _kind: u16) -> bool {
        false
    }
}

fn parcels(count: u64) -> Parcels {
    let bytes = (0..count).flat_map(u64::to_le_bytes).collect();
    let ends = (1..=count as usize).map(|index| index * NUMBER).collect();
    Parcels::new(bytes, ends, 0, None)
}

fn result(task: &Task<EchoJob>) -> u64 {
    while let Some(waiting) = task.cell.waiting() {
        let drive = task.drive();
        let _ = waiting.wait_driving(None, None, drive.as_deref());
    }
    task.cell.look(Option::take).expect("it has ended").get()
}

struct Pools {
    pool: Arc<ProcessPool>,
    socket: Mutex<UnixStream>,
    echo: Child,
    functions: ProcessPoolExecutor,
    procspawn: procspawn::Pool,
}

impl Pools {
    fn open() -> Self {
        let programs = Arc::new(Programs::default());
        let plan = Plan::new(WORKERS);
        let pool = ProcessPool::new(Arc::clone(&programs) as _, plan).expect("the system gives memory");
        programs.pool.set(Arc::downgrade(&pool)).expect("it is new");
        let (mine, theirs) = UnixStream::pair().expect("the system gives a pair of sockets");
        let theirs = left_open(theirs.as_fd());
        let echo = start_worker(&[theirs.as_raw_fd()]).expect("this program can be started once more");
        let functions = ProcessPoolExecutor::new(WORKERS).expect("the system gives memory");
        let procspawn = procspawn::Pool::new(WORKERS).expect("this program can be started once more");
        // Both have their processes when the first figure is taken.
        let warm: Vec<_> = (0..100).map(|number| functions.submit(&ECHO, number)).collect();
        assert!(warm.into_iter().all(|future| future.result().is_ok()));
        assert!(procspawn.spawn((), |()| ()).join().is_ok());
        Self { pool, socket: Mutex::new(mine), echo, functions, procspawn }
    }

    fn submit(&self, number: u64) -> Arc<Task<EchoJob>> {
        let task = Arc::new(Task::new(EchoJob, None));
        self.pool.submit_task(&task, Some(parcel(number))).expect("the pool is open");
        task
    }

    fn submit_all(&self, tasks: u64) -> u64 {
        let futures: Vec<_> = (0..tasks).map(|number| self.submit(number)).collect();
        futures.iter().map(|task| result(task)).sum()
    }

    fn one_by_one(&self, tasks: u64) -> u64 {
        (0..tasks).map(|number| result(&self.submit(number))).sum()
    }

    fn socket_one_by_one(&self, tasks: u64) -> u64 {
        let mut socket = self.socket.lock().expect("nobody panics with it");
        let mut trip = |number: u64| {
            let mut answer = [0; NUMBER];
            socket.write_all(&number.to_le_bytes()).and_then(|()| socket.read_exact(&mut answer)).expect("it echoes");
            u64::from_le_bytes(answer)
        };
        (0..tasks).map(&mut trip).sum()
    }

    fn function_by_function(&self, tasks: u64) -> u64 {
        (0..tasks).map(|number| self.functions.submit(&ECHO, number).result().expect("it echoes")).sum()
    }

    fn procspawn_by_procspawn(&self, tasks: u64) -> u64 {
        let one = |number: u64| self.procspawn.spawn(number, |number| number).join().expect("it echoes");
        (0..tasks).map(one).sum()
    }

    fn map(&self, tasks: u64) -> u64 {
        let batch = RemoteBatch::new(EchoJob, &self.pool);
        batch.add(tasks as usize);
        let of = Arc::clone(&batch) as Arc<dyn Remote>;
        self.pool.submit_many(of, 0, tasks as usize, Some(parcels(tasks))).expect("the pool is open");
        let mut sum = 0;
        while batch.remaining() > 0 {
            match batch.try_take() {
                Some(number) => sum += number.get(),
                None => drop(batch.wait(None)),
            }
        }
        sum
    }

    fn cases(&self) -> Vec<Case<'_>> {
        vec![
            Case {
                name: "process-submit-all",
                tasks: 100_000,
                contenders: vec![("raddle", Box::new(|tasks| self.submit_all(tasks)))],
            },
            Case {
                name: "process-one-by-one",
                tasks: 20_000,
                contenders: vec![
                    ("raddle", Box::new(|tasks| self.one_by_one(tasks))),
                    ("socket", Box::new(|tasks| self.socket_one_by_one(tasks))),
                ],
            },
            Case {
                name: "process-function",
                tasks: 2_000,
                contenders: vec![
                    ("raddle", Box::new(|tasks| self.function_by_function(tasks))),
                    ("procspawn", Box::new(|tasks| self.procspawn_by_procspawn(tasks))),
                ],
            },
            Case {
                name: "process-map",
                tasks: 1_000_000,
                contenders: vec![("raddle", Box::new(|tasks| self.map(tasks)))],
            },
        ]
    }

    fn close(mut self) {
        self.pool.close();
        self.pool.ended().wait_as_caller(None);
        drop(self.socket);
        drop(self.functions);
        self.procspawn.shutdown();
        self.echo.wait().expect("it ends with the socket");
    }
}

fn main() {
    if let Ok(plan) = env::var(WORKER) {
        return be_a_worker(&plan);
    }
    procspawn::init();
    init(&[&ECHO]);
    let pools = Pools::open();
    measure::run(&pools.cases());
    pools.close();
}
