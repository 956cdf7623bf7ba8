//! Makes a timeline of what was noted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use super::lanes::LiveLane;
use super::recorder::{Log, Noted, NotedWorker, Step};
use super::{Fetch, InterpreterLock, Lane, LaneKind, LockSpan, Process, Task, TaskState, Timeline};
use crate::events::{self, Name};

pub(super) fn merge(
    log: &Log,
    began: SystemTime,
    duration: Duration,
    interpreter: Option<InterpreterLock>,
) -> Timeline {
    let mut noted = log.take_noted();
    // What happens to one task is noted by several threads, each after what the one before had noted.
    noted.sort_by_key(|noted| (noted.at, noted.step));
    let mut names = Names::default();
    let are_processes = log.lanes.all().iter().map(|lane| lane.pid.is_some()).collect();
    let present = HashMap::with_capacity(noted.len() / 3);
    let mut tasks = Tasks { log, names: &mut names, are_processes, present, all: Vec::new(), numbers: 0 };
    noted.into_iter().for_each(|noted| tasks.take(noted));
    let mut tasks = tasks.all;
    tasks.sort_by_key(|task| (task.started.is_none(), task.started.or(task.submitted)));
    let locks = lock_spans(log, &mut names);
    let (processes, mut lanes) = people(log, &mut names);
    name_own_threads(&tasks, &mut lanes, &names.texts);
    let fetches = fetches(log, &mut names, &mut lanes);
    let mut timeline = Timeline {
        began,
        duration,
        names: names.texts,
        processes,
        lanes,
        tasks,
        interpreter,
        fetches,
        locks,
        dropped: log.dropped.load(Relaxed),
    };
    cut_off(&mut timeline);
    timeline
}

/// What was noted while the recording ended is not after its end.
fn cut_off(timeline: &mut Timeline) {
    let end = timeline.duration;
    for task in &mut timeline.tasks {
        for time in [&mut task.submitted, &mut task.started, &mut task.ended].into_iter().flatten() {
            *time = (*time).min(end);
        }
    }
}

/// Texts, each once.
#[derive(Debug, Default)]
struct Names {
    texts: Vec<String>,
    by_text: HashMap<String, usize>,
    by_bits: HashMap<u32, usize>,
    executors: HashMap<u64, usize>,
}

impl Names {
    fn add(&mut self, text: &str) -> usize {
        if let Some(index) = self.by_text.get(text) {
            return *index;
        }
        self.texts.push(text.into());
        self.by_text.insert(text.into(), self.texts.len() - 1);
        self.texts.len() - 1
    }

    fn of(&mut self, bits: u32) -> Option<usize> {
        let name = Name::from_bits(bits)?;
        if let Some(index) = self.by_bits.get(&bits) {
            return Some(*index);
        }
        let index = self.add(&name.text());
        self.by_bits.insert(bits, index);
        Some(index)
    }

    fn executor(&mut self, number: u64) -> Option<usize> {
        if number == 0 {
            return None;
        }
        if let Some(index) = self.executors.get(&number) {
            return Some(*index);
        }
        let name = events::executor(number).map_or_else(|| format!("executor {number}").into(), |known| known.name);
        let index = self.add(&name);
        self.executors.insert(number, index);
        Some(index)
    }
}

struct Tasks<'a> {
    log: &'a Log,
    names: &'a mut Names,
    /// Of each lane.
    are_processes: Vec<bool>,
    /// The last attempt of each task.
    present: HashMap<(u32, u64), usize>,
    all: Vec<Task>,
    numbers: u64,
}

impl Tasks<'_> {
    fn take(&mut self, noted: Noted) {
        let at = Duration::from_nanos(noted.at);
        let Some(index) = self.index_of(&noted) else { return };
        match noted.step {
            Step::Submitted => {
                let task = &mut self.all[index];
                task.submitted = Some(at);
                task.submitter = Some(noted.lane as usize);
            }
            Step::Started => {
                let name = self.names.of(noted.name);
                let task = &mut self.all[index];
                // It may have been told twice: when it was seen running, and when it ended.
                task.started = Some(task.started.map_or(at, |before| before.min(at)));
                task.lane = Some(noted.lane as usize);
                task.bytes_in = noted.bytes;
                task.name = task.name.or(name);
            }
            Step::Retried => self.retry(index, &noted, at),
            step => self.end(index, &noted, at, state_after(step)),
        }
    }

    /// The attempt that is meant; a new task if it has not been heard of.
    fn index_of(&mut self, noted: &Noted) -> Option<usize> {
        let key = (noted.executor, noted.task);
        if let Some(index) = self.present.get(&key) {
            return Some(*index);
        }
        if noted.step != Step::Submitted && self.log.was_dropped(noted.executor, noted.task) {
            return None;
        }
        self.numbers += 1;
        let has_name = matches!(noted.step, Step::Submitted | Step::Started);
        self.all.push(Task {
            lane: None,
            name: if has_name { self.names.of(noted.name) } else { None },
            executor: self.names.executor(u64::from(noted.executor)),
            submitted: None,
            started: None,
            ended: None,
            state: TaskState::Running,
            attempt: 1,
            error: None,
            bytes_in: 0,
            bytes_out: 0,
            submitter: None,
            number: self.numbers,
        });
        self.present.insert(key, self.all.len() - 1);
        Some(self.all.len() - 1)
    }

    fn end(&mut self, index: usize, noted: &Noted, at: Duration, state: TaskState) {
        let error = self.names.of(noted.name);
        let task = &mut self.all[index];
        if task.started.is_none() && matches!(noted.step, Step::Finished | Step::Failed) && task.submitted.is_none() {
            // It had begun before the recording did.
            (task.started, task.lane) = (Some(Duration::ZERO), Some(noted.lane as usize));
        }
        task.ended = Some(at);
        task.state = state;
        task.error = error;
        task.bytes_out = noted.bytes;
    }

    fn retry(&mut self, index: usize, noted: &Noted, at: Duration) {
        self.end(index, noted, at, TaskState::Retried);
        let before = &self.all[index];
        // A thread goes on with the next attempt at once; a process is sent it anew.
        let stays = !self.are_processes.get(noted.lane as usize).copied().unwrap_or(false);
        let next = Task {
            lane: before.lane.filter(|_| stays),
            started: stays.then_some(at),
            ended: None,
            submitted: Some(at),
            state: TaskState::Running,
            attempt: before.attempt + 1,
            error: None,
            bytes_out: 0,
            ..before.clone()
        };
        self.all.push(next);
        self.present.insert((noted.executor, noted.task), self.all.len() - 1);
    }
}

fn state_after(step: Step) -> TaskState {
    match step {
        Step::Submitted | Step::Started => TaskState::Running,
        Step::Retried => TaskState::Retried,
        Step::Finished => TaskState::Finished,
        Step::Failed => TaskState::Failed,
        Step::Cancelled => TaskState::Cancelled,
        Step::TimedOut => TaskState::TimedOut,
        Step::Died => TaskState::WorkerDied,
    }
}

/// A host has no thread: its number is one that the system gives to none.
const FIRST_HOST: u32 = 1 << 30;

/// What was fetched, in lanes of the hosts.
fn fetches(log: &Log, names: &mut Names, lanes: &mut Vec<Lane>) -> Vec<Fetch> {
    let mut hosts = HashMap::new();
    let mut made = Vec::new();
    for fetch in log.take_fetches() {
        let lane = *hosts.entry(fetch.host.clone()).or_insert_with(|| {
            let tid = FIRST_HOST + (lanes.len() as u32);
            let name = format!("fetch {}", fetch.host);
            lanes.push(Lane { process: 0, executor: None, kind: LaneKind::Fetch, name, tid });
            lanes.len() - 1
        });
        let since = |at: std::time::Instant| at.saturating_duration_since(log.began);
        let phases = fetch.phases.iter().map(|(phase, from, to)| (*phase, since(*from), since(*to)));
        made.push(Fetch {
            lane,
            phases: phases.collect(),
            url: names.add(&fetch.url),
            status: fetch.status,
            bytes: fetch.bytes,
            error: fetch.error.as_deref().map(|error| names.add(error)),
        });
    }
    made
}

fn lock_spans(log: &Log, names: &mut Names) -> Vec<LockSpan> {
    let spans = log.take_locks().into_iter().map(|(lane, wait)| LockSpan {
        lane,
        lock: names.of(Name::bits(wait.lock)),
        holder: wait.holder.and_then(|holder| log.lanes.of_thread(holder)),
        start: wait.since.saturating_duration_since(log.began),
        end: wait.until.saturating_duration_since(log.began),
    });
    spans.collect()
}

/// The processes, and the lanes in the order of their numbers.
fn people(log: &Log, names: &mut Names) -> (Vec<Process>, Vec<Lane>) {
    let program = Process { pid: std::process::id(), name: "program".into(), ended: None, end: None };
    let mut processes = vec![program];
    let workers = log.take_workers();
    let mut lanes = Vec::new();
    for lane in log.lanes.all() {
        let executor = lane.executor.load(Relaxed);
        let name = names.executor(executor);
        let executor_name = name.map(|index| names.texts[index].clone());
        let process = lane.pid.map_or(0, |pid| {
            processes.push(process_of(&lane, pid, &workers, executor_name.as_deref()));
            processes.len() - 1
        });
        let kind = match (lane.pid, lane.has_run.load(Relaxed)) {
            (Some(_), _) => LaneKind::Process,
            (None, true) => LaneKind::Thread,
            (None, false) => LaneKind::Caller,
        };
        let called = name_of(&lane, executor_name.as_deref(), kind);
        lanes.push(Lane { process, executor: name, kind, name: called, tid: lane.tid });
    }
    (processes, lanes)
}

/// A thread that runs but one task is called as that is.
fn name_own_threads(tasks: &[Task], lanes: &mut [Lane], names: &[String]) {
    for task in tasks.iter().filter(|task| task.executor.is_none()) {
        let (Some(lane), Some(name)) = (task.lane, task.name) else { continue };
        if lanes[lane].executor.is_none() && lanes[lane].kind == LaneKind::Thread {
            let name = names[name].strip_prefix("thread ").unwrap_or(&names[name]);
            lanes[lane].name = name.trim_matches(['\'', '"']).into();
        }
    }
}

fn process_of(lane: &LiveLane, pid: u32, workers: &[NotedWorker], executor: Option<&str>) -> Process {
    let (number, worker) = (lane.executor.load(Relaxed), lane.worker());
    let is_it = |known: &&NotedWorker| known.executor == number && Some(known.worker as u64) == worker;
    let ended = workers.iter().find(is_it).and_then(|known| known.ended.clone());
    Process {
        pid,
        name: format!("worker {} of {}", worker.unwrap_or(0), executor.unwrap_or("an executor")),
        ended: ended.as_ref().map(|(at, _)| Duration::from_nanos(*at)),
        end: ended.and_then(|(_, how)| how).map(|how: Arc<str>| how.to_string()),
    }
}

fn name_of(lane: &LiveLane, executor: Option<&str>, kind: LaneKind) -> String {
    match (executor, lane.worker(), &lane.thread_name) {
        (Some(executor), Some(worker), _) if kind != LaneKind::Caller => format!("{executor}_{worker}"),
        (_, _, Some(name)) => name.clone(),
        _ => format!("thread {}", lane.tid),
    }
}
