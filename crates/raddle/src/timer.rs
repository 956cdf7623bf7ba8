//! Ends attempts that overrun: one thread a pool, started with the first attempt that has a limit.
//!
//! Invariant: an alarm is in the table exactly while its attempt runs, so the table has at most one alarm a worker. The
//! thread is woken only for an alarm earlier than the one it sleeps for.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::future::Notices;
use crate::host::Host;
use crate::primitives::Mutex;
use crate::signal::{AdaptiveSpin, Signal};
use crate::statistics::Record;

/// Something that can overrun.
pub(crate) trait Expire: Send + Sync {
    /// Ends `attempt` if it still runs. `None`: it had ended by itself.
    fn expire(&self, attempt: u32, record: &Record) -> Option<Notices>;
}

/// One attempt that has a limit.
pub(crate) struct Armed {
    pub(crate) task: Weak<dyn Expire>,
    pub(crate) attempt: u32,
    pub(crate) record: Arc<Record>,
}

#[derive(Default)]
struct Table {
    alarms: BTreeMap<(Instant, u64), Armed>,
    next_key: u64,
    /// Until when the thread sleeps; `None` if it is awake or sleeps until it is woken.
    sleeps_until: Option<Instant>,
    is_started: bool,
    is_closed: bool,
}

/// The alarms of a pool.
#[derive(Default)]
pub(crate) struct Timer {
    table: Mutex<Table>,
    signal: Signal,
}

/// Takes its alarm off the table when dropped.
pub(crate) struct Alarm<'a> {
    timer: &'a Timer,
    key: Option<(Instant, u64)>,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let armed = self.timer.table.lock().alarms.remove(&key);
            drop(armed);
        }
    }
}

impl Timer {
    /// Adds an alarm; without a deadline (beyond the end of time) it never rings. The flag asks for the thread.
    pub(crate) fn arm(&self, deadline: Option<Instant>, armed: Armed) -> (Alarm<'_>, bool) {
        let Some(deadline) = deadline else { return (Alarm { timer: self, key: None }, false) };
        let mut table = self.table.lock();
        let key = (deadline, table.next_key);
        table.next_key += 1;
        table.alarms.insert(key, armed);
        let must_start = !std::mem::replace(&mut table.is_started, true);
        let must_wake = table.sleeps_until.is_none_or(|until| deadline < until);
        drop(table);
        if must_wake && !must_start {
            self.signal.set();
        }
        (Alarm { timer: self, key: Some(key) }, must_start)
    }

    /// The thread could not be started: the next alarm tries again.
    pub(crate) fn start_failed(&self) {
        self.table.lock().is_started = false;
    }

    /// Ends the thread as soon as no alarm is left.
    pub(crate) fn close(&self) {
        self.table.lock().is_closed = true;
        self.signal.set();
    }

    /// The body of the timer's thread. `ring` is called for every alarm that is due, with no lock held.
    pub(crate) fn run(&self, host: &dyn Host, mut ring: impl FnMut(Armed)) {
        while let Some(next) = self.next() {
            match next {
                Next::Due(armed) => ring(armed),
                Next::Sleep(until) => host.release_and(&mut || {
                    self.signal.wait(until, &NEVER_SPIN);
                }),
            }
        }
    }

    fn next(&self) -> Option<Next> {
        let mut table = self.table.lock();
        table.sleeps_until = None;
        let first = table.alarms.first_key_value().map(|(key, _)| key.0);
        match first {
            None if table.is_closed => {
                // A task still in the queue may arm again: then a new thread is started.
                table.is_started = false;
                None
            }
            None => Some(Next::Sleep(None)),
            Some(at) if at <= Instant::now() => table.alarms.pop_first().map(|(_, armed)| Next::Due(armed)),
            Some(at) => {
                table.sleeps_until = Some(at);
                Some(Next::Sleep(Some(at)))
            }
        }
    }
}

enum Next {
    Due(Armed),
    Sleep(Option<Instant>),
}

static NEVER_SPIN: AdaptiveSpin = AdaptiveSpin::never();
