//! `Choice`: the engine's controller, for `raddle.map` and `raddle.advise`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use raddle::choice::{self, Controller, Decision, Machine, Observation, Plan, Way};

/// A plan: the way, workers, items a task, predicted seconds.
type PlanTuple = (&'static str, usize, usize, f64);
/// Cores, and seconds: a thread's start and task, a process's start, a further worker's, a process's task, a byte.
type MachineTuple = (usize, f64, f64, f64, f64, f64, f64);

/// Decides how a map goes on, from what it is told of the items so far.
#[pyclass(frozen, module = "raddle._native")]
pub(crate) struct Choice(Mutex<Controller>);

fn way_of(name: &str) -> PyResult<Way> {
    let found = Way::ALL.into_iter().find(|way| way.name() == name);
    found.ok_or_else(|| PyValueError::new_err(format!("there is no way {name:?}")))
}

fn tuple_of(plan: &Plan) -> PlanTuple {
    (plan.way.name(), plan.workers, plan.chunk, plan.seconds)
}

fn machine_of(parts: MachineTuple) -> Machine {
    let (cores, thread_start, thread_task, process_start, worker_start, process_task, byte) = parts;
    Machine { cores, thread_start, thread_task, process_start, worker_start, process_task, byte }
}

impl Choice {
    fn controller(&self) -> MutexGuard<'_, Controller> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Choice {
    #[new]
    fn new(machine: MachineTuple, total: Option<u64>, limit: Option<usize>) -> Self {
        Self(Mutex::new(Controller::new(machine_of(machine), total, limit, true)))
    }

    fn observe(&self, items: u64, wall: f64, busy: f64) {
        self.controller().observe(Observation { items, wall, busy });
    }

    fn observe_lock(&self, looks: u32, held: u32) {
        self.controller().observe_lock(looks, held);
    }

    fn observe_pace(&self, items: u64, seconds: f64) {
        self.controller().observe_pace(items, seconds);
    }

    fn observe_sending(&self, sending: f64, receiving: f64) {
        self.controller().observe_sending(sending, receiving);
    }

    fn count_done(&self, items: u64) {
        self.controller().count_done(items);
    }

    fn set_examined(&self) {
        self.controller().set_examined();
    }

    fn keep_all(&self) {
        self.controller().keep_all();
    }

    fn set_machine(&self, machine: MachineTuple) {
        self.controller().set_machine(machine_of(machine));
    }

    fn forbid(&self, way: &str, reason: &str) -> PyResult<()> {
        self.controller().forbid(way_of(way)?, reason);
        Ok(())
    }

    fn start(&self, way: &str) -> PyResult<()> {
        // An executor of the user's is used as threads are: what it costs is not known.
        self.controller().start(if way == "executor" { Way::Threads } else { way_of(way)? });
        Ok(())
    }

    fn chunk(&self, workers: usize) -> usize {
        self.controller().chunk(workers)
    }

    fn go_back(&self, reason: &str) {
        self.controller().go_back(reason);
    }

    /// None to go on, an empty plan to examine first, or where to go.
    fn decide(&self) -> Option<PlanTuple> {
        match self.controller().decide() {
            Decision::Stay => None,
            Decision::Examine => Some(("examine", 0, 0, 0.0)),
            Decision::Move(plan) => Some(tuple_of(&plan)),
        }
    }

    /// What the present way takes for what remains.
    fn present(&self) -> Option<PlanTuple> {
        self.controller().present().as_ref().map(tuple_of)
    }

    /// What each way that is possible takes for so many items.
    fn forecast(&self, items: u64) -> Vec<PlanTuple> {
        self.controller().forecast(items).iter().map(tuple_of).collect()
    }

    /// Seconds of an item: waiting, holding the interpreter lock, computing without, sending, receiving.
    fn costs(&self) -> Option<(f64, f64, f64, f64, f64)> {
        let costs = self.controller().costs()?;
        Some((costs.waiting, costs.holding, costs.released, costs.sending, costs.receiving))
    }

    /// One sentence of advice for so many items, and the plan to follow.
    fn advise(&self, items: u64) -> Option<(String, PlanTuple)> {
        let controller = self.controller();
        let (costs, plans) = (controller.costs()?, controller.forecast(items));
        let best = choice::worthwhile(&plans)?;
        Some((choice::sentence(&costs, &plans, &best, controller.forbidden()), tuple_of(&best)))
    }

    /// The reason of the last move.
    fn reason(&self) -> Option<String> {
        self.controller().moves().last().map(|one| one.reason.clone())
    }

    fn report(&self) -> Vec<String> {
        self.controller().report()
    }

    #[getter]
    fn remaining(&self) -> u64 {
        self.controller().remaining()
    }

    #[getter]
    fn done(&self) -> u64 {
        self.controller().done()
    }
}

/// Seconds for which the calling thread has been ready while no core was free for it.
#[pyfunction]
pub(crate) fn thread_delay() -> f64 {
    raddle::os::thread_delay().as_secs_f64()
}

/// A time with three figures and its unit.
#[pyfunction]
pub(crate) fn duration_text(seconds: f64) -> String {
    choice::duration_text(seconds)
}
