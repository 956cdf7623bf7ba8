//! What a timeline amounts to: figures, and what they say in plain words.

use std::fmt::Write as _;
use std::time::Duration;

use super::{LaneKind, TaskState, Timeline};

/// Shares from which on something is worth a word. Guesses, all of them.
const MUCH_WAITING: f64 = 0.15;
const BUSY: f64 = 0.85;
const IDLE: f64 = 0.5;
const LONG_TAIL: f64 = 0.25;
const SHORT_TASK: Duration = Duration::from_micros(100);

/// Figures of a timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Figures {
    /// Tasks; attempts of one are one.
    pub tasks: usize,
    /// Attempts that were followed by another.
    pub retries: usize,
    /// Tasks that ended with an error, overran, or died with their worker.
    pub failed: usize,
    /// Of these, those whose worker died.
    pub died: usize,
    /// Tasks that were cancelled before they began.
    pub cancelled: usize,
    /// Tasks that had begun and not ended.
    pub running: usize,
    /// Threads and processes that ran tasks.
    pub workers: usize,
    /// From the first submission, or beginning, to the last end.
    pub took: Duration,
    /// How long tasks ran, added up.
    pub ran: Duration,
    /// Of that, how long they waited for the interpreter lock, as far as that was seen.
    pub waited: Duration,
    /// How long threads that run tasks waited for locks, where that took long enough to sleep.
    pub locked: Duration,
    /// How long tasks lay in the queue, on average.
    pub queued: Duration,
    /// How long, at the end, but one task ran.
    pub alone_at_end: Duration,
}

fn share(part: Duration, of: Duration) -> f64 {
    if of.is_zero() { 0.0 } else { part.as_secs_f64() / of.as_secs_f64() }
}

impl Figures {
    /// Which part of their time the workers were busy.
    pub fn busy(&self) -> f64 {
        if self.workers == 0 { 0.0 } else { (share(self.ran, self.took) / self.workers as f64).min(1.0) }
    }

    /// How long the tasks would have taken one after the other: they would have waited neither for the interpreter lock nor
    /// for others.
    pub fn alone(&self) -> Duration {
        self.ran.saturating_sub(self.waited).saturating_sub(self.locked)
    }

    /// How many times as fast as one after the other it was.
    pub fn speedup(&self) -> f64 {
        share(self.alone(), self.took)
    }

    /// Which part of the time that tasks ran they waited for the interpreter lock.
    pub fn waiting(&self) -> f64 {
        share(self.waited, self.ran).min(1.0)
    }
}

impl Timeline {
    /// What it amounts to.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures { workers: self.workers(), ..Figures::default() };
        let (mut first, mut last, mut queued, mut begun) = (self.duration, Duration::ZERO, Duration::ZERO, 0_u32);
        for task in &self.tasks {
            figures.count(task.state, task.started.is_some());
            first = task.submitted.or(task.started).map_or(first, |at| at.min(first));
            let Some(started) = task.started else { continue };
            let ended = task.ended.unwrap_or(self.duration).max(started);
            last = last.max(ended);
            figures.ran += ended - started;
            if let Some(submitted) = task.submitted {
                queued += started.saturating_sub(submitted);
                begun += 1;
            }
        }
        figures.took = last.saturating_sub(first);
        figures.queued = queued.checked_div(begun).unwrap_or_default();
        figures.waited = self.waited();
        figures.locked = self.locked();
        figures.alone_at_end = self.alone_at_end(last);
        figures
    }

    /// How many lanes have run something.
    fn workers(&self) -> usize {
        self.have_run().into_iter().filter(|has_run| *has_run).count()
    }

    /// Which lanes have run something.
    fn have_run(&self) -> Vec<bool> {
        let mut have_run = vec![false; self.lanes.len()];
        for lane in self.tasks.iter().filter_map(|task| task.lane) {
            have_run[lane] = true;
        }
        have_run
    }

    fn locked(&self) -> Duration {
        let have_run = self.have_run();
        let waits = self.locks.iter().filter(|wait| have_run[wait.lane]);
        waits.map(|wait| wait.end.saturating_sub(wait.start)).sum()
    }

    /// The lock that was waited for longest.
    fn worst_lock(&self) -> Option<&str> {
        let mut waits = std::collections::HashMap::new();
        for wait in &self.locks {
            *waits.entry(wait.lock).or_insert(Duration::ZERO) += wait.end.saturating_sub(wait.start);
        }
        let (lock, _) = waits.into_iter().max_by_key(|(_, waited)| *waited)?;
        self.names.get(lock?).map(String::as_str)
    }

    fn waited(&self) -> Duration {
        let waiting = self.interpreter.as_ref().and_then(|lock| lock.waiting.as_ref());
        waiting.into_iter().flatten().map(|(_, from, to)| to.saturating_sub(*from)).sum()
    }

    fn alone_at_end(&self, last: Duration) -> Duration {
        // The end before the last one.
        let ends = self.tasks.iter().filter(|task| task.started.is_some()).map(|task| task.ended.unwrap_or(last));
        let (mut latest, mut before) = (Duration::ZERO, Duration::ZERO);
        for end in ends {
            if end >= latest {
                before = latest;
                latest = end;
            } else {
                before = before.max(end);
            }
        }
        latest.saturating_sub(before)
    }

    /// What happened, in a few plain sentences: how many tasks, how long, how busy the workers were, how much faster than
    /// one after the other, and what held it back.
    pub fn summary(&self) -> String {
        let figures = self.figures();
        if figures.tasks == 0 && self.fetches.is_empty() {
            return format!("No tasks in {}.", seconds(self.duration));
        }
        if figures.tasks == 0 {
            return self.pages();
        }
        let mut text = self.counted(&figures);
        if figures.workers > 0 {
            let busy = format!(" The workers were busy {} of the time.", percent(figures.busy()));
            text.push_str(if figures.workers == 1 { "" } else { &busy });
            text.push_str(&self.speed(&figures));
        }
        for reason in self.reasons(&figures) {
            let _ = write!(text, " {reason}");
        }
        if !self.fetches.is_empty() {
            let _ = write!(text, " {}", self.pages());
        }
        if self.dropped > 0 {
            let _ = write!(text, " {} more tasks were not recorded: there were too many.", self.dropped);
        }
        text
    }

    /// What was fetched.
    fn pages(&self) -> String {
        let phases = || self.fetches.iter().flat_map(|fetch| &fetch.phases);
        let first = phases().map(|(_, from, _)| *from).min().unwrap_or_default();
        let last = phases().map(|(.., to)| *to).max().unwrap_or_default();
        let (took, alone) = (last.saturating_sub(first), phases().map(|(_, from, to)| to.saturating_sub(*from)).sum());
        let failed = self.fetches.iter().filter(|fetch| fetch.error.is_some()).count();
        let failed = if failed > 0 { format!(", {failed} of which failed") } else { String::new() };
        let (count, took, times) = (counted(self.fetches.len(), "page"), seconds(took), share(alone, took));
        format!("{count} fetched in {took}{failed}; one after the other: {}, {times:.1} times as long.", seconds(alone))
    }

    fn counted(&self, figures: &Figures) -> String {
        let have_run = self.have_run();
        let processes = self.lanes.iter().zip(have_run);
        let processes = processes.filter(|(lane, has_run)| *has_run && lane.kind == LaneKind::Process).count();
        let kind = match (processes, figures.workers) {
            (0, 1) => "thread",
            (0, _) => "threads",
            (1, 1) => "process",
            (all, workers) if all >= workers => "processes",
            _ => "workers",
        };
        let mut text = counted(figures.tasks, "task");
        if figures.workers > 0 {
            let _ = write!(text, " on {} {kind}", figures.workers);
        }
        let _ = write!(text, " in {}", seconds(figures.took));
        let others = [
            (figures.failed, "failed"),
            (figures.cancelled, "cancelled"),
            (figures.running, "still running"),
            (figures.retries, if figures.retries == 1 { "retry" } else { "retries" }),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            let _ = write!(text, ", {count} {what}");
        }
        text.push('.');
        text
    }

    fn speed(&self, figures: &Figures) -> String {
        let speedup = figures.speedup();
        let alone = seconds(figures.alone());
        if speedup >= 1.05 {
            return format!(" One after the other they would have taken about {alone}: {speedup:.1} times as long.");
        }
        format!(" One after the other they would have taken about {alone}: nothing was gained.")
    }

    /// What held it back.
    fn reasons(&self, figures: &Figures) -> Vec<String> {
        let mut reasons = Vec::new();
        if figures.waiting() >= MUCH_WAITING {
            let part = percent(figures.waiting());
            reasons.push(format!("Threads waited for the GIL {part} of the time: use processes."));
        }
        let locked = share(figures.locked, figures.ran);
        if locked >= MUCH_WAITING {
            let lock = self.worst_lock().map_or_else(|| "locks".into(), |name| format!("lock {name:?}"));
            let part = percent(locked.min(1.0));
            reasons.push(format!("Threads waited for {lock} {part} of the time: hold it for less, or use a Counter."));
        }
        if figures.workers > 1 && share(figures.alone_at_end, figures.took) >= LONG_TAIL {
            let alone = seconds(figures.alone_at_end);
            reasons.push(format!(
                "At the end one task ran alone for {alone}: begin with the long ones, or make them smaller."
            ));
        } else if figures.workers > 1 && figures.busy() < IDLE {
            reasons.push("The workers had too little to do: fewer would be as fast.".into());
        }
        let mean = figures.ran.checked_div(u32::try_from(figures.tasks).unwrap_or(u32::MAX)).unwrap_or_default();
        if mean < SHORT_TASK && figures.tasks > 100 {
            let mean = seconds(mean);
            reasons
                .push(format!("A task took {mean} on average: handing it over costs as much; put several into one."));
        } else if figures.busy() >= BUSY && figures.queued > mean && figures.waiting() < MUCH_WAITING {
            let queued = seconds(figures.queued);
            reasons.push(format!("Tasks waited {queued} for a worker on average: all were busy."));
        }
        if figures.died > 0 {
            reasons.push(format!(
                "{} ended with {} worker process.",
                counted(figures.died, "task"),
                if figures.died == 1 { "its" } else { "their" }
            ));
        }
        reasons
    }
}

impl Figures {
    fn count(&mut self, state: TaskState, has_begun: bool) {
        self.tasks += usize::from(state != TaskState::Retried);
        match state {
            TaskState::Finished => {}
            TaskState::Failed | TaskState::TimedOut => self.failed += 1,
            TaskState::WorkerDied => {
                self.failed += 1;
                self.died += 1;
            }
            TaskState::Cancelled => self.cancelled += 1,
            TaskState::Running => self.running += usize::from(has_begun),
            TaskState::Retried => self.retries += 1,
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// A time in words of two or three digits.
pub(super) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds >= 100.0 => format!("{seconds:.0} s"),
        _ if seconds >= 1.0 => format!("{seconds:.1} s"),
        _ if seconds >= 0.001 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{:.0} us", seconds * 1e6),
    }
}
