//! The cost model: what a number of items takes as a plain loop, on threads, and in processes.
//!
//! Every bound is a plain sentence: a worker does one item at a time, the interpreter lock is held by one thread at a time,
//! the cores compute what they can, and what is sent passes through the program's own thread. The slowest of them counts.

/// Where the items of a map are worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// A plain loop in the calling thread.
    Sequential,
    /// Threads of the program, which share an interpreter lock if there is one.
    Threads,
    /// Processes, to which arguments and results are sent.
    Processes,
}

impl Way {
    /// All ways, the cheapest to start first.
    pub const ALL: [Self; 3] = [Self::Sequential, Self::Threads, Self::Processes];

    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Threads => "threads",
            Self::Processes => "processes",
        }
    }
}

/// What the machine asks for parallel work; times in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// How many cores the program may use.
    pub cores: usize,
    /// To start a thread.
    pub thread_start: f64,
    /// To hand a task to a thread, and its results back.
    pub thread_task: f64,
    /// To start a pool of processes and its first worker.
    pub process_start: f64,
    /// To start each further worker process.
    pub worker_start: f64,
    /// To hand a task to a process, and its results back, without what they hold.
    pub process_task: f64,
    /// To send a byte there or back.
    pub byte: f64,
}

impl Machine {
    /// What a machine of so many cores asks, until it has been measured: guesses from one of 2 cores.
    pub fn guessed(cores: usize) -> Self {
        Self {
            cores: cores.max(1),
            thread_start: 60e-6,
            thread_task: 8e-6,
            process_start: 60e-3,
            worker_start: 6e-3,
            process_task: 40e-6,
            byte: 1e-9,
        }
    }
}

/// What an item takes, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Costs {
    /// Waiting: for the network, a file, a clock.
    pub waiting: f64,
    /// Computing with the interpreter lock held; 0 where there is none.
    pub holding: f64,
    /// Computing without it.
    pub released: f64,
    /// In the program, for a process: to pickle the arguments, send them, and unpickle the result.
    pub sending: f64,
    /// In a worker process: to unpickle the arguments and pickle the result.
    pub receiving: f64,
}

impl Costs {
    /// What it takes in a plain loop.
    pub fn total(&self) -> f64 {
        self.waiting + self.computing()
    }

    /// What of it is computing.
    pub fn computing(&self) -> f64 {
        self.holding + self.released
    }
}

/// How so many items would be worked on, and how long it would take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Where.
    pub way: Way,
    /// By how many workers.
    pub workers: usize,
    /// How many items make a task.
    pub chunk: usize,
    /// The predicted time.
    pub seconds: f64,
}

/// What lies before a map.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// What the machine asks.
    pub machine: Machine,
    /// What an item takes.
    pub costs: Costs,
    /// How many items there are to do.
    pub items: u64,
    /// The most workers that the user wants.
    pub limit: Option<usize>,
}

/// The most threads that are chosen: as many as a `ThreadPoolExecutor` of the standard library has at most.
const MOST_THREADS: usize = 32;
/// The most processes for each core, where items wait as well as compute. A guess.
const MOST_PROCESSES_A_CORE: usize = 4;
/// What of its time a task may be handed around at most: chunks are made so long.
const OVERHEAD: f64 = 0.02;
/// A task is not made longer than this by chunks, so that results come and the end is even: seconds.
const LONGEST_CHUNK: f64 = 0.05;
/// How many tasks a worker has at least, so that all end at about the same time.
const TASKS_A_WORKER: u64 = 4;
/// What threads lose by taking turns at the interpreter lock, as a share of what they compute with it. A guess.
const TURNS: f64 = 0.03;

impl Outlook {
    /// What a way would take. `is_running`: its workers are there already.
    pub fn plan(&self, way: Way, is_running: bool) -> Plan {
        match way {
            Way::Sequential => self.sequential(),
            Way::Threads => self.best(self.thread_counts(), |workers| self.threads(workers, is_running)),
            Way::Processes => self.best(self.process_counts(), |workers| self.processes(workers, is_running)),
        }
    }

    /// How many items make a task of one of so many workers.
    pub fn chunk(&self, way: Way, workers: usize) -> usize {
        match way {
            Way::Sequential => 1,
            Way::Threads => self.chunk_of(self.costs.total(), self.machine.thread_task, workers),
            Way::Processes => {
                self.chunk_of(self.costs.total() + self.costs.receiving, self.machine.process_task, workers)
            }
        }
    }

    fn best(&self, counts: impl Iterator<Item = usize>, plan: impl Fn(usize) -> Plan) -> Plan {
        // Of two that take the same, the one with fewer workers.
        let better = |best: Plan, next: Plan| if next.seconds < 0.97 * best.seconds { next } else { best };
        counts.map(plan).reduce(better).unwrap_or_else(|| self.sequential())
    }

    fn sequential(&self) -> Plan {
        Plan { way: Way::Sequential, workers: 1, chunk: 1, seconds: self.items as f64 * self.costs.total() }
    }

    fn thread_counts(&self) -> impl Iterator<Item = usize> + use<> {
        counts(2, self.limit.unwrap_or(MOST_THREADS), self.items)
    }

    fn process_counts(&self) -> impl Iterator<Item = usize> + use<> {
        let cores = self.machine.cores;
        let most = self.limit.unwrap_or(cores * MOST_PROCESSES_A_CORE);
        counts(cores.min(most), most, self.items)
    }

    fn threads(&self, workers: usize, is_running: bool) -> Plan {
        let Self { machine, costs, .. } = self;
        let chunk = self.chunk(Way::Threads, workers);
        let task = machine.thread_task / chunk as f64;
        let items = self.items as f64;
        let a_worker = self.rounds(workers, chunk) * (costs.total() + task);
        let interpreter = items * (costs.holding * (1.0 + TURNS) + task);
        let cores = items * (costs.computing() + task) / machine.cores as f64;
        let start = if is_running { 0.0 } else { workers as f64 * machine.thread_start };
        let seconds = a_worker.max(interpreter).max(cores) + start;
        Plan { way: Way::Threads, workers, chunk, seconds }
    }

    fn processes(&self, workers: usize, is_running: bool) -> Plan {
        let Self { machine, costs, .. } = self;
        let there = costs.total() + costs.receiving;
        let chunk = self.chunk(Way::Processes, workers);
        let task = machine.process_task / chunk as f64;
        let items = self.items as f64;
        let a_worker = self.rounds(workers, chunk) * (there + task / 2.0);
        let program = items * (costs.sending + task / 2.0);
        let all = costs.computing() + costs.receiving + costs.sending + task;
        let cores = items * all / machine.cores as f64;
        let start = machine.process_start + (workers - 1) as f64 * machine.worker_start;
        let seconds = a_worker.max(program).max(cores) + if is_running { 0.0 } else { start };
        Plan { way: Way::Processes, workers, chunk, seconds }
    }

    /// How many items the worker does that has the most to do.
    fn rounds(&self, workers: usize, chunk: usize) -> f64 {
        let chunks = self.items.div_ceil(chunk as u64);
        (chunks.div_ceil(workers as u64) * chunk as u64).min(self.items) as f64
    }

    fn chunk_of(&self, item: f64, task: f64, workers: usize) -> usize {
        let item = item.max(1e-9);
        let wanted = (task / OVERHEAD / item).min(LONGEST_CHUNK / item).ceil().max(1.0);
        let most = (self.items / (workers.max(1) as u64 * TASKS_A_WORKER)).max(1);
        (wanted as u64).min(most) as usize
    }
}

/// Numbers of workers to look at: the first, doubled until the most.
fn counts(first: usize, most: usize, items: u64) -> impl Iterator<Item = usize> + use<> {
    let most = most.min(usize::try_from(items).unwrap_or(usize::MAX));
    let doubled = std::iter::successors(Some(first.min(most)), |count| count.checked_mul(2));
    let all = doubled.take_while(move |count| *count < most).chain(std::iter::once(most));
    all.filter(|count| *count >= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook(costs: Costs, items: u64) -> Outlook {
        Outlook { machine: Machine::guessed(4), costs, items, limit: None }
    }

    fn best(outlook: &Outlook) -> Plan {
        let plans = Way::ALL.map(|way| outlook.plan(way, false));
        *plans.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds)).expect("there are three")
    }

    #[test]
    fn waiting_is_for_threads() {
        let plan = best(&outlook(Costs { waiting: 0.1, ..Costs::default() }, 64));
        assert_eq!((plan.way, plan.workers, plan.chunk), (Way::Threads, 32, 1));
        assert!((0.2..0.21).contains(&plan.seconds), "{plan:?}");
    }

    #[test]
    fn computing_with_the_interpreter_is_for_processes() {
        let plan = best(&outlook(Costs { holding: 0.01, ..Costs::default() }, 1000));
        assert_eq!((plan.way, plan.workers), (Way::Processes, 4));
        assert!((2.5..2.8).contains(&plan.seconds), "{plan:?}");
    }

    #[test]
    fn computing_without_the_interpreter_is_for_threads() {
        let plan = best(&outlook(Costs { released: 0.01, ..Costs::default() }, 1000));
        assert_eq!((plan.way, plan.workers), (Way::Threads, 4));
    }

    #[test]
    fn waiting_and_computing_in_turn_has_more_processes_than_cores() {
        let plan = best(&outlook(Costs { waiting: 0.03, holding: 0.01, ..Costs::default() }, 1000));
        assert_eq!((plan.way, plan.workers), (Way::Processes, 16));
    }

    #[test]
    fn tiny_items_and_few_items_stay_a_loop() {
        assert_eq!(best(&outlook(Costs { holding: 1e-7, ..Costs::default() }, 100_000)).way, Way::Sequential);
        assert_eq!(best(&outlook(Costs { holding: 0.01, ..Costs::default() }, 3)).way, Way::Sequential);
        assert_eq!(best(&outlook(Costs { waiting: 1.0, ..Costs::default() }, 1)).seconds, 1.0);
    }

    #[test]
    fn what_costs_more_to_send_than_to_compute_stays_a_loop() {
        let costs = Costs { holding: 0.01, sending: 0.02, receiving: 0.02, ..Costs::default() };
        assert_eq!(best(&outlook(costs, 1000)).way, Way::Sequential);
    }

    #[test]
    fn short_items_are_sent_in_chunks_and_long_ones_alone() {
        let chunk =
            |holding, items| outlook(Costs { holding, ..Costs::default() }, items).plan(Way::Processes, false).chunk;
        assert_eq!(chunk(0.5, 1000), 1);
        assert!((100..=400).contains(&chunk(1e-5, 100_000)));
        assert_eq!(chunk(1e-5, 160), 10);
    }

    #[test]
    fn no_more_workers_are_planned_than_items_or_than_the_user_wants() {
        let costs = Costs { waiting: 1.0, holding: 0.1, ..Costs::default() };
        for way in [Way::Threads, Way::Processes] {
            assert_eq!(outlook(costs, 3).plan(way, false).workers, 3);
            assert_eq!(Outlook { limit: Some(2), ..outlook(costs, 1000) }.plan(way, false).workers, 2);
            assert_eq!(Outlook { limit: Some(1), ..outlook(costs, 1000) }.plan(way, false).workers, 1);
        }
    }

    #[test]
    fn nothing_takes_no_time_in_a_loop() {
        assert_eq!(best(&outlook(Costs { holding: 1.0, ..Costs::default() }, 0)).way, Way::Sequential);
    }
}
