//! Where things lie in a pool's mapping: a head for the program's side, and a seat for each worker.
//!
//! | part of a seat | words | who writes |
//! |---|---|---|
//! | the worker's doorbell, and its core | a cache line | the worker sleeps, the program rings |
//! | since when the present task runs; which segment it wants, and gets | a cache line | the worker; the program answers |
//! | claims | [`PLACES`] | the program sends and takes back, the worker begins |
//! | tasks | a ring | the program |
//! | replies | a ring | the worker |
//! | notes | a ring | the worker, from any of its threads |

use super::claim::Claims;
use super::cores::Core;
use super::doorbell::Doorbell;
use super::mapping::{Mapping, Part, SharedBell};
use super::ring::{COUNTER_WORDS, Words};
use crate::primitives::Ordering;

/// How many tasks can be with one worker, begun or not: enough that tasks of a microsecond keep it busy while the program
/// does something else for a fraction of a millisecond.
pub const PLACES: usize = 256;
/// Data words of a ring: 64 KB. Longer records pass piece by piece.
const RING_WORDS: usize = 1 << 13;

/// The same for what a worker tells besides: 256 KB, of which those that tell nothing never touch a page.
const NOTES_WORDS: usize = 1 << 15;

const LINE_WORDS: usize = 8;
const RING: usize = COUNTER_WORDS + RING_WORDS;
const NOTES: usize = COUNTER_WORDS + NOTES_WORDS;
const SEAT: usize = 2 * LINE_WORDS + PLACES + 2 * RING + NOTES;
const HEAD: usize = LINE_WORDS;

/// How many words a mapping for so many workers has.
pub fn words_for(seats: usize) -> usize {
    HEAD + seats * SEAT
}

/// The doorbell of the program's side.
pub(crate) fn program_bell(mapping: &Mapping) -> Doorbell<SharedBell> {
    Doorbell::new(mapping.part(0, HEAD).bell(0))
}

/// On which core the program waits.
pub(crate) fn program_core(mapping: &Mapping) -> Core {
    Core::new(mapping.part(1, 1))
}

/// One worker's part of a mapping.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) bell: Doorbell<SharedBell>,
    pub(crate) core: Core,
    pub(crate) claims: Claims<Part>,
    pub(crate) tasks: Part,
    pub(crate) replies: Part,
    pub(crate) notes: Part,
    /// The line of `begun`, of which [`lease`](super::lease) uses further words.
    pub(crate) leases: Part,
    begun: Part,
    whole: Part,
}

impl Seat {
    /// The seat of this number.
    pub(crate) fn new(mapping: &Mapping, number: usize) -> Self {
        let start = HEAD + number * SEAT;
        let claims = start + 2 * LINE_WORDS;
        let rings = claims + PLACES;
        Self {
            bell: Doorbell::new(mapping.part(start, LINE_WORDS).bell(0)),
            core: Core::new(mapping.part(start + 1, 1)),
            claims: Claims::new(mapping.part(claims, PLACES)),
            tasks: mapping.part(rings, RING),
            replies: mapping.part(rings + RING, RING),
            notes: mapping.part(rings + 2 * RING, NOTES),
            leases: mapping.part(start + LINE_WORDS, LINE_WORDS),
            begun: mapping.part(start + LINE_WORDS, LINE_WORDS),
            whole: mapping.part(start, SEAT),
        }
    }

    /// Makes it as new. No process may use it: the worker that did has ended.
    pub(crate) fn clear(&self) {
        // The data of the rings means nothing without their counters.
        let rings = 2 * LINE_WORDS + PLACES;
        let counters = [rings, rings + RING, rings + 2 * RING].into_iter().flat_map(|ring| ring..ring + COUNTER_WORDS);
        // A counter that is 0 is left alone: what nobody uses takes no memory.
        let used = (0..rings).chain(counters).filter(|index| self.whole.word(*index).load(Ordering::Relaxed) != 0);
        used.for_each(|index| self.whole.word(index).store(0, Ordering::Release));
    }

    /// The worker begins a task, or ends it (`None`). Nanoseconds of the system's monotonic clock.
    pub(crate) fn note_begun(&self, at: Option<u64>) {
        self.begun.word(0).store(at.unwrap_or_default(), Ordering::Relaxed);
    }

    /// Since when the worker's task runs, as far as it says itself.
    pub(crate) fn begun_at(&self) -> Option<u64> {
        Some(self.begun.word(0).load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}
