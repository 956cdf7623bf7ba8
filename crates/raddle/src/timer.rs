//! Ends attempts that overrun: one thread a pool, started with the first attempt that has a limit.
//!
//! Invariant: an alarm is in the table exactly while its attempt runs, so the table has at most one alarm a worker.
//!
//! The thread is woken only for an alarm earlier than the end of its sleep. While alarms come and go it sleeps for the
//! shortest limit seen so far, before which no new alarm can ring; so short tasks under a limit wake nobody. After such a
//! sleep in which nothing was armed, it sleeps until it is woken.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::future::Notices;
use crate::host::Host;
use crate::primitives::Mutex;
use crate::signal::Signal;
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
    /// Until when the thread sleeps; `None` if it sleeps until it is woken.
    sleeps_until: Option<Instant>,
    shortest_limit: Option<Duration>,
    was_armed: bool,
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
            let mut table = self.timer.table.lock();
            let armed = table.alarms.remove(&key);
            // Whoever closed the timer waits for its thread, which may sleep for this very alarm.
            let must_leave = table.is_closed && table.alarms.is_empty();
            drop(table);
            drop(armed);
            if must_leave {
                self.timer.signal.set();
            }
        }
    }
}

impl Timer {
    /// Adds an alarm that rings after `limit`; one beyond the end of time never does. The flag asks for the thread.
    pub(crate) fn arm(&self, limit: Duration, armed: Armed) -> (Alarm<'_>, bool) {
        let Some(deadline) = Instant::now().checked_add(limit) else {
            return (Alarm { timer: self, key: None }, false);
        };
        let mut table = self.table.lock();
        let key = (deadline, table.next_key);
        table.next_key += 1;
        table.alarms.insert(key, armed);
        table.was_armed = true;
        table.shortest_limit = Some(table.shortest_limit.map_or(limit, |shortest| shortest.min(limit)));
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

    /// The body of the timer's thread. `ring` is called for every alarm that is due, with no lock held and with the
    /// interpreter; the thread asks for the interpreter for nothing else.
    pub(crate) fn run(&self, host: &dyn Host, mut ring: impl FnMut(Armed)) {
        loop {
            let mut due = None;
            host.release_and(&mut || due = self.wait_due());
            match due {
                Some(armed) => ring(armed),
                None => return,
            }
        }
    }

    /// Sleeps until an alarm is due. `None`: the timer has been closed.
    fn wait_due(&self) -> Option<Armed> {
        loop {
            match self.next() {
                Next::Due(armed) => return Some(armed),
                Next::Sleep(until) => {
                    self.signal.sleep_until(until);
                }
                Next::Leave => return None,
            }
        }
    }

    fn next(&self) -> Next {
        let mut table = self.table.lock();
        let now = Instant::now();
        let was_armed = std::mem::take(&mut table.was_armed);
        let first = table.alarms.first_key_value().map(|(key, _)| *key);
        table.sleeps_until = match first {
            Some(key) if key.0 <= now => return table.alarms.remove(&key).map_or(Next::Sleep(Some(now)), Next::Due),
            Some((at, _)) => Some(at),
            None if table.is_closed => {
                // A task still in the queue may arm again: then a new thread is started.
                table.is_started = false;
                return Next::Leave;
            }
            None if was_armed => table.shortest_limit.and_then(|limit| now.checked_add(limit)),
            None => None,
        };
        Next::Sleep(table.sleeps_until)
    }
}

enum Next {
    Due(Armed),
    Sleep(Option<Instant>),
    Leave,
}
