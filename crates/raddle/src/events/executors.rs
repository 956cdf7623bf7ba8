//! What the executors are called, and what they can tell of themselves: for whoever makes a picture of events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Event, is_listening};
use crate::per_fork::PerFork;

/// What an executor's workers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workers {
    /// Threads of the program.
    Threads,
    /// Processes of their own.
    Processes,
}

/// An executor, as it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executor {
    /// What its workers are.
    pub workers: Workers,
    /// What it is called.
    pub name: Arc<str>,
}

/// Tells, in events, what there is now.
pub(crate) trait Present: Send + Sync {
    /// Its worker processes, and the tasks that they run.
    fn tell(&self, listener: &mut dyn FnMut(Event));
}

#[derive(Default)]
struct Executors {
    present: HashMap<u64, (Executor, Option<Weak<dyn Present>>)>,
    /// Those that have gone since somebody began to listen.
    gone: HashMap<u64, Executor>,
}

static EXECUTORS: PerFork<Mutex<Executors>> = PerFork::new();

fn executors() -> MutexGuard<'static, Executors> {
    EXECUTORS.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the executor of this number is called, if it is there, or has gone while somebody listened.
pub fn executor(number: u64) -> Option<Executor> {
    let executors = executors();
    let present = executors.present.get(&number).map(|(executor, _)| executor);
    present.or_else(|| executors.gone.get(&number)).cloned()
}

pub(crate) fn add_executor(number: u64, workers: Workers, name: Arc<str>, present: Option<Weak<dyn Present>>) {
    executors().present.insert(number, (Executor { workers, name }, present));
}

pub(crate) fn remove_executor(number: u64) {
    let mut executors = executors();
    let removed = executors.present.remove(&number);
    match removed {
        Some((executor, _)) if is_listening() => drop(executors.gone.insert(number, executor)),
        _ => executors.gone.clear(),
    }
}

/// Has all executors tell what there is now.
pub(crate) fn tell_present(listener: &mut dyn FnMut(Event)) {
    let present: Vec<_> = executors().present.values().filter_map(|(_, present)| present.clone()).collect();
    // Without the lock: an executor that is given up here takes it to leave.
    for executor in present.into_iter().filter_map(|present| present.upgrade()) {
        executor.tell(listener);
    }
}
