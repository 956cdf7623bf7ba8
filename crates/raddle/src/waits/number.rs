//! Numbers of threads: never used twice, not even by a forked child.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Waits;
use crate::os;

/// A thread, by a number that no other thread of the program gets, forked children included.
///
/// The upper bits are the fork generation in which the thread got it: a thread of an earlier one is gone, unless it is the
/// one that forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadNumber(u64);

/// Bits of a thread number below the generation: room for 10^12 threads.
const COUNTER_BITS: u32 = 40;
/// Bits of a thread number in all: one is left over for whoever packs a flag beside it.
pub(crate) const NUMBER_BITS: u32 = 63;

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static END: EndOfThread = const { EndOfThread };
}

/// Dropped when its thread ends.
struct EndOfThread;

impl Drop for EndOfThread {
    fn drop(&mut self) {
        if let Some(number) = ThreadNumber::from_bits(os::THREAD_NUMBER.get()) {
            Waits::of_process().thread_ended(number);
        }
    }
}

impl ThreadNumber {
    /// The number of the calling thread.
    #[inline]
    pub fn current() -> Self {
        match os::THREAD_NUMBER.get() {
            0 => Self::enrol(),
            number => Self(number),
        }
    }

    #[cold]
    fn enrol() -> Self {
        let number = Self::in_generation(NEXT_NUMBER.fetch_add(1, Relaxed), os::fork_generation());
        os::THREAD_NUMBER.set(number.0);
        // A thread whose end cannot be noticed any more is just never known to have ended.
        let _ = END.try_with(|_| ());
        Waits::of_process().thread_begins(number, os::thread_ident());
        number
    }

    pub(crate) const fn in_generation(counter: u64, generation: u32) -> Self {
        Self(((generation as u64) << COUNTER_BITS | counter) & ((1 << NUMBER_BITS) - 1))
    }

    /// `None` for 0, which is no thread.
    pub(crate) const fn from_bits(bits: u64) -> Option<Self> {
        if bits == 0 { None } else { Some(Self(bits)) }
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the thread stayed behind in the parent when this process was forked.
    pub(crate) fn was_lost_in_fork(self) -> bool {
        let generation = Self::in_generation(0, os::fork_generation()).0;
        self.0 >> COUNTER_BITS != generation >> COUNTER_BITS && self.0 != os::survivor_of_fork()
    }
}
