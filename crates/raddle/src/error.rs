//! What can go wrong, one small enum per operation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::process::bytes::Bytes;
use crate::process::launcher::Exit;
use crate::waits::Deadlock;

/// Why the engine itself, not the task's code, ended a task with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It ran longer than its `task_timeout`.
    TimedOut {
        /// The label of the task, if it has one.
        label: Option<Arc<str>>,
        /// How long it was allowed to run.
        limit: Duration,
    },
    /// The pool broke before the task began.
    Broken {
        /// What broke it.
        reason: Arc<str>,
    },
    /// It ran longer than its `task_timeout` in a worker process, which was ended.
    Overran {
        /// Which task.
        task: LostTask,
        /// How long it was allowed to run.
        limit: Duration,
    },
    /// It was stopped by ending its worker process.
    Killed {
        /// Which task.
        task: LostTask,
        /// How the worker ended.
        death: Arc<Death>,
    },
    /// Its worker process came to hold more memory than it may, and was ended.
    Outgrew {
        /// Which task.
        task: LostTask,
        /// How many bytes the worker was allowed to hold.
        limit: u64,
        /// How the worker ended.
        death: Arc<Death>,
    },
    /// Its worker process ended while it ran.
    Died {
        /// Which task.
        task: LostTask,
        /// How the worker ended.
        death: Arc<Death>,
    },
}

/// A task that ended with its worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTask {
    /// The name that it was given.
    pub label: Option<Arc<str>>,
    /// What had been sent to the worker.
    pub call: Option<Bytes>,
}

impl LostTask {
    fn name(&self) -> &str {
        self.label.as_deref().unwrap_or("a task")
    }
}

/// The end of a worker process before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The number of the worker in its pool.
    pub worker: usize,
    /// Its process id.
    pub pid: u32,
    /// How its process ended.
    pub exit: Exit,
    /// Why the pool ended it, if it did so by itself.
    pub why: Option<String>,
}

impl Death {
    /// How it ended, in words.
    pub fn how(&self) -> String {
        let Exit { code, peak_memory, .. } = &self.exit;
        let end = match (u32::try_from(*code), crate::os::signal_name(code.wrapping_neg())) {
            (Ok(code), _) => format!("exit code {code}"),
            (Err(_), Some(name)) => format!("signal {name}"),
            (Err(_), None) => format!("signal {}", code.unsigned_abs()),
        };
        let peak = peak_memory.map(|bytes| format!(", peak memory {:.0} MB", bytes as f64 / 1e6)).unwrap_or_default();
        let why = self.why.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
        format!("{end}{peak}{why}")
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} (process {}) ended with {}", self.worker, self.pid, self.how())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { label, limit } => {
                let name = label.as_deref().unwrap_or("a task");
                write!(
                    f,
                    "{name} ran longer than its task_timeout of {} s; its thread cannot be stopped: it was abandoned \
                     and replaced",
                    limit.as_secs_f64()
                )
            }
            Self::Broken { reason } => f.write_str(reason),
            Self::Overran { task, limit } => write!(
                f,
                "{} ran longer than its task_timeout of {} s: its worker process was ended and replaced",
                task.name(),
                limit.as_secs_f64()
            ),
            Self::Killed { task, death } => write!(f, "{} was stopped: {death}", task.name()),
            Self::Outgrew { task, limit, death } => write!(
                f,
                "{} had its worker process hold more memory than the limit of {:.0} MB: {death}",
                task.name(),
                *limit as f64 / 1e6
            ),
            Self::Died { task, death } => write!(f, "{} was lost: {death}", task.name()),
        }
    }
}

/// Why a pool does not take a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitError {
    /// The pool has been shut down.
    ShutDown,
    /// The pool is broken: a worker could not be initialised.
    Broken(Arc<str>),
    /// The pool was made before a fork of which this process is the child: its threads are in the parent.
    Forked,
    /// There is no worker and the system does not start one.
    NoThread(Arc<str>),
    /// No function of this name was registered for worker processes.
    Unregistered(&'static str),
    /// The arguments of a function cannot be written.
    Unwritable(Arc<str>),
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown => f.write_str("cannot schedule new futures after shutdown"),
            Self::Broken(reason) => f.write_str(reason),
            Self::Forked => f.write_str(
                "this executor was made before os.fork(): its threads are in the parent process; make a new executor \
                 in the child",
            ),
            Self::NoThread(reason) => write!(f, "can't start new thread: {reason}"),
            Self::Unregistered(name) => {
                write!(f, "the function {name:?} is not among those that raddle::process::init was told")
            }
            Self::Unwritable(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for SubmitError {}

/// Why a task of a Rust program has no value.
///
/// ```
/// let pool = raddle::ThreadPoolExecutor::new(1);
/// let error = pool.submit(|| -> u32 { panic!("no such file") }).result().unwrap_err();
/// assert_eq!(error.to_string(), "the task panicked: no such file");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked, with this message.
    Panicked(String),
    /// It was cancelled before it began.
    Cancelled,
    /// The engine gave it up.
    Failed(Failure),
    /// Its value has been taken already.
    Taken,
    /// What was sent to a worker process, or came from it, could not be read.
    Unreadable(String),
    /// It goes on, but the caller cannot wait for it: threads would wait for each other in a circle.
    Deadlock(Deadlock),
}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "the task panicked: {message}"),
            Self::Cancelled => f.write_str("the task was cancelled before it began"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Unreadable(why) => write!(f, "it could not be read: {why}"),
            Self::Taken => f.write_str("the task's value has been taken already"),
            Self::Deadlock(deadlock) => deadlock.fmt(f),
        }
    }
}

impl std::error::Error for TaskError {}
