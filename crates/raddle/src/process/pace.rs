//! How many tasks to send to a worker ahead: enough to keep it busy until somebody looks after it again.

use std::time::{Duration, Instant};

use super::seat::PLACES;

/// For how long a worker is given work ahead. A guess: several times what it takes until somebody comes who sleeps, short
/// enough that little has to be taken back.
const AHEAD: Duration = Duration::from_micros(400);
/// Once it has shown how fast it is: one that runs, and one that is there when that ends. It can be taken back.
const FEWEST: usize = 2;

/// With this window tasks are so quick that to wake another worker costs more than several of them. A guess: 10 us each.
const QUICK: usize = 40;

/// The pace of one worker.
#[derive(Debug)]
pub(crate) struct Pace {
    window: usize,
    /// Nanoseconds a task lately.
    duration: Option<f64>,
    /// Since when what has come was being done.
    since: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { window: 1, duration: None, since: Instant::now() }
    }

    /// How many tasks it may have at a time.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Whether its tasks take less than it costs to wake somebody for them.
    pub(crate) fn is_quick(&self) -> bool {
        self.window >= QUICK
    }

    /// It had nothing to do, and gets something now.
    pub(crate) fn begins(&mut self) {
        self.since = Instant::now();
    }

    /// So many tasks have come back.
    pub(crate) fn came(&mut self, count: usize) {
        let now = Instant::now();
        let each = (now - self.since).as_nanos() as f64 / count as f64;
        self.since = now;
        let duration = self.duration.map_or(each, |before| before + (each - before) / 4.0);
        self.duration = Some(duration);
        let fitting = (AHEAD.as_nanos() as f64 / duration.max(1.0)) as usize;
        // It at most doubles, so that one short task does not draw hundreds of long ones.
        self.window = fitting.clamp(FEWEST, (2 * self.window).clamp(FEWEST, PLACES));
    }
}
