//! The memory limit of workers: what each holds for itself, looked at from time to time while it runs something.

use std::time::{Duration, Instant};

use super::crew::Doom;
use super::pool::ProcessPool;
use crate::os;

/// How often a worker that runs something is looked at. A look costs about 20 us; meanwhile a task that only allocates takes
/// some tens of megabytes.
const PERIOD: Duration = Duration::from_millis(20);
/// How long a worker that was seen to share memory is taken to share it still: to find that out is slow.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// What is known of the memory of one worker.
#[derive(Debug, Default)]
pub(crate) struct Held {
    peak: Option<u64>,
    /// So much of what it holds was not its alone, and when that was found out.
    shared: Option<(u64, Instant)>,
}

impl Held {
    pub(crate) fn peak(&self) -> Option<u64> {
        self.peak
    }

    /// Whether the process holds more than `limit` for itself; `lent` bytes of that lie in the arena.
    fn is_beyond(&mut self, process: u32, lent: u64, limit: u64) -> bool {
        let Some(held) = os::memory_held(process) else { return false };
        let shared = self.shared.filter(|(_, found)| found.elapsed() < SHARED_FOR).map_or(0, |(bytes, _)| bytes);
        let mut own = held.saturating_sub(shared).saturating_add(lent);
        if own > limit && shared == 0 {
            // What a worker was forked with is its parent's as long as neither writes to it.
            let alone = held.min(os::memory_alone(process).unwrap_or(held));
            own = alone.saturating_add(lent);
            self.shared = Some((held - alone, Instant::now())).filter(|(bytes, _)| *bytes > 0);
        }
        self.peak = self.peak.max(Some(own));
        own > limit
    }
}

/// A worker that is looked at: its seat, its number, its process, how much it was lent to compute in, and what was known of it.
type Looked = (usize, usize, u32, u64, Held);

impl ProcessPool {
    /// Ends workers that hold too much memory; gives the time until the next look.
    pub(crate) fn end_outgrown(&self) -> Option<Duration> {
        let limit = self.memory_limit?;
        let (mut looked, is_busy) = self.to_be_looked_at();
        // Without the lock: for a worker that shares memory it takes a while.
        let are_beyond: Vec<_> =
            looked.iter_mut().map(|(_, _, pid, lent, held)| held.is_beyond(*pid, *lent, limit)).collect();
        let mut crew = self.crew.lock();
        for ((seat, number, .., held), is_beyond) in looked.into_iter().zip(are_beyond) {
            let worker = crew.seats[seat].as_mut().filter(|worker| worker.number == number);
            let Some(worker) = worker else { continue };
            worker.memory = held;
            if !is_beyond {
                continue;
            }
            match worker.link.running().map(|(call, _)| call.number) {
                // It may have ended meanwhile: then the worker is looked at again.
                Some(number) => drop(crew.doom_runner(number, Doom::Outgrew(Some(number)))),
                None => crew.doom(seat, Doom::Outgrew(None)),
            }
        }
        is_busy.then_some(PERIOD)
    }

    /// The workers that have a process, and whether one of them has something to do.
    fn to_be_looked_at(&self) -> (Vec<Looked>, bool) {
        let mut crew = self.crew.lock();
        let is_busy = crew.workers().any(|worker| worker.process.is_some() && worker.is_at_work());
        let workers = crew.seats.iter_mut().enumerate().filter_map(|(seat, worker)| {
            let worker = worker.as_mut().filter(|worker| worker.doom.is_none())?;
            let pid = worker.process.as_ref()?.pid;
            Some((seat, worker.number, pid, worker.link.in_use(), std::mem::take(&mut worker.memory)))
        });
        (workers.collect(), is_busy)
    }
}
