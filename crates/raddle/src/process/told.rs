//! What a pool of processes tells those who listen to [events](crate::events).
//!
//! When a task began and ended the worker notes itself, in its seat, while somebody listens: both processes read the same
//! clock. What it says is bounded by what the program has seen: it may have been overwritten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pool::ProcessPool;
use super::remote::{Call, Ending};
use crate::error::{Death, Failure};
use crate::events::{self, Event, EventKind, Present};
use crate::os;

/// Where a call was run, and from when to when, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    pub(crate) worker: usize,
    pub(crate) pid: Option<u32>,
    pub(crate) began: Option<u64>,
    pub(crate) ended: Option<u64>,
}

/// A moment of the monotonic clock, which has come.
fn instant_of(nanoseconds: Option<u64>, now: Instant) -> Instant {
    let ago = nanoseconds.map(|then| os::monotonic_nanoseconds().saturating_sub(then));
    ago.and_then(|ago| now.checked_sub(Duration::from_nanos(ago))).unwrap_or(now)
}

impl Call {
    fn event(&self, kind: EventKind, executor: u64) -> Event {
        let ran = self.ran.as_ref();
        Event {
            label: self.label(),
            name: self.of.name(),
            worker: ran.map(|ran| ran.worker),
            process: ran.and_then(|ran| ran.pid),
            ..Event::now(kind, executor, self.number)
        }
    }
}

impl ProcessPool {
    /// Calls of a batch have been taken.
    pub(crate) fn tell_submitted(&self, of: &Arc<dyn super::remote::Remote>, numbers: std::ops::Range<u64>) {
        if events::is_listening() {
            let label = of.options().and_then(|options| options.label.clone());
            for number in numbers {
                let event = Event::now(EventKind::Submitted, self.id(), number);
                events::emit(|| Event { label: label.clone(), name: of.name(), ..event });
            }
        }
    }

    pub(crate) fn tell_cancelled(&self, call: &Call) {
        events::emit(|| call.event(EventKind::Cancelled, self.id()));
    }

    /// An attempt has ended, and another will follow.
    pub(crate) fn tell_retried(&self, call: &Call, ending: &Ending) {
        if events::is_listening() {
            self.tell_ran(call, EventKind::Retried, ending);
        }
    }

    /// A call has ended; nobody has been told yet.
    pub(crate) fn tell_ended(&self, call: &Call, ending: &Ending) {
        if events::is_listening() {
            let kind = match ending {
                Ending::Failed(Failure::Overran { .. }) => EventKind::TimedOut,
                Ending::Failed(Failure::Died { .. } | Failure::Killed { .. } | Failure::Outgrew { .. }) => {
                    EventKind::Died
                }
                Ending::Cancelled => EventKind::Cancelled,
                Ending::Reply(_) | Ending::Failed(_) => EventKind::Ended { failed: call.of.is_failure(ending) },
            };
            self.tell_ran(call, kind, ending);
        }
    }

    fn tell_ran(&self, call: &Call, kind: EventKind, ending: &Ending) {
        let now = Instant::now();
        let Some(ran) = &call.ran else {
            // No worker has begun it.
            events::emit(|| Event { error: error_of(call, ending), ..call.event(kind, self.id()) });
            return;
        };
        let began = instant_of(ran.began, now);
        let ended = if ran.ended.is_some() { instant_of(ran.ended, now).max(began) } else { now };
        let sent = call.weight() as u64;
        events::emit(|| Event { at: began, bytes: sent, ..call.event(EventKind::Started, self.id()) });
        let came = if let Ending::Reply(reply) = ending { reply.payload.weight() as u64 } else { 0 };
        events::emit(|| Event { at: ended, bytes: came, error: error_of(call, ending), ..call.event(kind, self.id()) });
    }

    pub(crate) fn tell_worker_started(&self, worker: usize, pid: u32) {
        events::emit(|| self.of_worker(EventKind::WorkerStarted, worker, pid));
    }

    pub(crate) fn tell_worker_ended(&self, death: &Death, is_idle: bool) {
        events::emit(|| {
            let how = if is_idle { "idle".into() } else { how(death) };
            Event { error: Some(how.into()), ..self.of_worker(EventKind::WorkerEnded, death.worker, death.pid) }
        });
    }

    fn of_worker(&self, kind: EventKind, worker: usize, pid: u32) -> Event {
        Event { worker: Some(worker), process: Some(pid), ..Event::now(kind, self.id(), 0) }
    }
}

/// How a worker ended, in a word or two.
fn how(death: &Death) -> String {
    let code = death.exit.code;
    match os::signal_name(code.saturating_neg()) {
        Some(name) if code < 0 => name.into(),
        _ if code < 0 => format!("signal {}", -i64::from(code)),
        _ => format!("exit code {code}"),
    }
}

fn error_of(call: &Call, ending: &Ending) -> Option<Arc<str>> {
    match ending {
        Ending::Failed(failure) => Some(failure.to_string().into()),
        Ending::Reply(_) if call.of.is_failure(ending) => call.of.describe(ending),
        Ending::Reply(_) | Ending::Cancelled => None,
    }
}

impl Present for ProcessPool {
    fn tell(&self, listener: &mut dyn FnMut(Event)) {
        if self.is_forked() {
            return;
        }
        // What has ended is told as such.
        self.drain();
        self.note_listened();
        let now = Instant::now();
        let present: Vec<Event> = {
            let crew = self.crew.lock();
            let workers = crew.workers().filter_map(|worker| Some((worker, worker.process.as_ref()?.pid)));
            let events = workers.flat_map(|(worker, pid)| {
                let started = self.of_worker(EventKind::WorkerStarted, worker.number, pid);
                let running = worker.link.running().map(|(call, began)| Event {
                    at: instant_of(began, now),
                    bytes: call.weight() as u64,
                    worker: Some(worker.number),
                    process: Some(pid),
                    ..call.event(EventKind::Started, self.id())
                });
                std::iter::once(started).chain(running)
            });
            events.collect()
        };
        present.into_iter().for_each(listener);
    }
}
