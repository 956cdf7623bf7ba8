//! What happened when: a recorder of [events](crate::events), and the timeline that it makes of them.
//!
//! ```
//! use raddle::{ThreadPoolExecutor, timeline::Recorder};
//!
//! let recorder = Recorder::start();
//! let pool = ThreadPoolExecutor::new(2);
//! assert_eq!(pool.map(1..=3, |x| x * x).count(), 3);
//! let timeline = recorder.finish();
//! assert_eq!(timeline.tasks.len(), 3);
//! println!("{}", timeline.summary());
//! ```
//!
//! Threads note events in shards, each in the one of its lane, so they seldom wait for each other; the timeline is made
//! when the recording ends. A recorder keeps a bounded number of tasks and counts the others.

mod figures;
mod lanes;
mod merge;
mod picture;
mod recorder;
mod sampler;

pub use figures::Figures;
pub use recorder::Recorder;
pub use sampler::{Interpreter, note_interpreter_thread};

use std::time::{Duration, SystemTime};

/// What was recorded. Times count from the beginning of the recording; texts that repeat stand once in `names`, and the
/// rest refers to them by index.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeline {
    /// When the recording began.
    pub began: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Labels, executors, errors.
    pub names: Vec<String>,
    /// The program, which is the first, and the worker processes.
    pub processes: Vec<Process>,
    /// Who ran tasks, or submitted them.
    pub lanes: Vec<Lane>,
    /// The attempts of tasks, in the order in which they began; those that never began come last.
    pub tasks: Vec<Task>,
    /// Who held the interpreter lock, and who waited for it, where that was looked at.
    pub interpreter: Option<InterpreterLock>,
    /// What was fetched over HTTP, in the order of the ends.
    pub fetches: Vec<Fetch>,
    /// Waits for locks, in the order of their ends.
    pub locks: Vec<LockSpan>,
    /// Tasks that were not kept, because there were too many.
    pub dropped: u64,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Its number in the system.
    pub pid: u32,
    /// What it is: `program`, or which worker of which executor.
    pub name: String,
    /// When it ended, if that was seen.
    pub ended: Option<Duration>,
    /// How: the name of a signal, `exit code 1`, `idle`.
    pub end: Option<String>,
}

/// What a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneKind {
    /// A thread that runs tasks.
    Thread,
    /// A process that runs tasks.
    Process,
    /// A thread that has submitted tasks and run none.
    Caller,
    /// A host from which pages are fetched, several at a time.
    Fetch,
}

/// One exchange over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetch {
    /// The lane of its host.
    pub lane: usize,
    /// What was fetched.
    pub url: usize,
    /// What was done, one after the other, each from when to when.
    pub phases: Vec<(&'static str, Duration, Duration)>,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The bytes of its body.
    pub bytes: u64,
    /// Why there was none.
    pub error: Option<usize>,
}

/// A thread, or a worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lane {
    /// The index of its process.
    pub process: usize,
    /// The name of the executor whose tasks it runs, by index.
    pub executor: Option<usize>,
    /// What it is.
    pub kind: LaneKind,
    /// What it is called.
    pub name: String,
    /// The number of the thread in the system.
    pub tid: u32,
}

/// How an attempt stood at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// It gave a value.
    Finished = 0,
    /// It ended with an error.
    Failed = 1,
    /// It was cancelled before it began.
    Cancelled = 2,
    /// It ran longer than it may.
    TimedOut = 3,
    /// Its worker process died.
    WorkerDied = 4,
    /// It had not ended when the recording did.
    Running = 5,
    /// It ended with an error, and another attempt follows.
    Retried = 6,
}

/// One attempt of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// Where it ran, if it began.
    pub lane: Option<usize>,
    /// What it is called, or what it runs.
    pub name: Option<usize>,
    /// The name of its executor.
    pub executor: Option<usize>,
    /// When it was submitted, if that was during the recording.
    pub submitted: Option<Duration>,
    /// When it began.
    pub started: Option<Duration>,
    /// When it ended.
    pub ended: Option<Duration>,
    /// How it stood at the end.
    pub state: TaskState,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// The error.
    pub error: Option<usize>,
    /// Bytes sent to a worker process.
    pub bytes_in: u64,
    /// Bytes that came back.
    pub bytes_out: u64,
    /// Who submitted it.
    pub submitter: Option<usize>,
    /// The number of the task: its attempts have the same.
    pub number: u64,
}

/// A wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockSpan {
    /// Who waited.
    pub lane: usize,
    /// What the lock is called.
    pub lock: Option<usize>,
    /// Who held it when the wait began, if that is known.
    pub holder: Option<usize>,
    /// When the wait began.
    pub start: Duration,
    /// When the lock was had.
    pub end: Duration,
}

/// Spans of time in a lane.
pub type Spans = Vec<(usize, Duration, Duration)>;

/// Who held the interpreter lock, sampled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterpreterLock {
    /// From one look to the next, on average.
    pub period: Duration,
    /// How often it was looked at.
    pub looks: u64,
    /// This lane held it.
    pub holder: Spans,
    /// This lane waited for it. `None`: the system does not say what threads wait for.
    pub waiting: Option<Spans>,
}
