//! The world in which tasks run, behind one trait: plain threads here, CPython in the binding.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::pool::Pool;
use crate::primitives::Mutex;

/// The part of a thread in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It runs tasks.
    Worker(usize),
    /// It ends tasks whose time is over.
    Timer,
    /// It calls the callbacks of the task for which this worker was given up.
    Callbacks(usize),
}

/// What a pool asks of the world in which its tasks run.
pub trait Host: Send + Sync {
    /// Starts a thread of the pool that calls `body`, with the interpreter held if there is one.
    ///
    /// # Errors
    /// The system's own words, if it does not start one.
    fn start(&self, pool: &Arc<Pool>, role: Role, body: ThreadBody) -> Result<(), String>;

    /// What the pool is called, for those who listen to [events](crate::events).
    fn name(&self) -> Option<Arc<str>> {
        None
    }

    /// Whether new workers have an initialiser to run.
    fn has_initializer(&self) -> bool {
        false
    }

    /// Runs the initialiser of a new worker, on its thread.
    ///
    /// # Errors
    /// Why the pool is broken now.
    fn initialize(&self) -> Result<(), Arc<str>> {
        Ok(())
    }

    /// The worker of this number has been given up: nobody is to wait for its thread.
    fn abandoned(&self, worker: usize) {
        let _ = worker;
    }

    /// Calls `wait` with the interpreter released, so that others can run meanwhile.
    fn release_and(&self, wait: &mut (dyn FnMut() + Send)) {
        wait();
    }

    /// Whether only one thread can run tasks at a time, so that it matters who holds the interpreter.
    fn has_interpreter(&self) -> bool {
        false
    }
}

/// What a thread of a pool does.
pub type ThreadBody = Box<dyn FnOnce() + Send>;

/// Plain threads of the operating system.
#[derive(Debug)]
pub(crate) struct Threads {
    name: String,
    handles: Mutex<Vec<(Role, JoinHandle<()>)>>,
}

impl Threads {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), handles: Mutex::new(Vec::new()) }
    }

    /// Waits for all threads to end, but for those given up and the calling one.
    pub(crate) fn join(&self) {
        loop {
            let handle = self.handles.lock().pop();
            match handle {
                None => return,
                // A worker that drops the executor cannot wait for itself: it ends when its task has.
                Some((_, handle)) if handle.thread().id() == std::thread::current().id() => {}
                Some((_, handle)) => handle.join().expect("the body of a pool's thread lets no panic out"),
            }
        }
    }
}

impl Host for Threads {
    fn start(&self, _pool: &Arc<Pool>, role: Role, body: ThreadBody) -> Result<(), String> {
        let name = match role {
            Role::Worker(number) => format!("{}-{number}", self.name),
            Role::Timer => format!("{}-timer", self.name),
            Role::Callbacks(number) => format!("{}-callbacks-{number}", self.name),
        };
        let handle = std::thread::Builder::new().name(name).spawn(body).map_err(|error| error.to_string())?;
        self.handles.lock().push((role, handle));
        Ok(())
    }

    fn abandoned(&self, worker: usize) {
        self.handles.lock().retain(|(role, _)| *role != Role::Worker(worker));
    }
}
