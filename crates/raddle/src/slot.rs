//! A place for one value that is put once and taken once, and that one consumer can await.
//!
//! | stamp | who writes it | ordering | why |
//! |---|---|---|---|
//! | `EMPTY` -> `AWAITED` | the consumer, by compare-exchange | Relaxed | it only asks the producer to look for a sleeper |
//! | `EMPTY`, `AWAITED` -> `FULL` | the producer, by swap | Release | the value is written before the stamp |
//! | `FULL` -> `TAKEN` | whoever takes, by compare-exchange | Acquire | the value is read after the stamp |
//!
//! The swap and the compare-exchange are on one word, so one of the two sees the other: a consumer that wants to sleep
//! finds `FULL`, or the producer finds `AWAITED`.

use std::mem::MaybeUninit;

use crate::mutant::{Mutant, is_mutant};
use crate::primitives::{AtomicU32, Ordering, UnsafeCell};

const EMPTY: u32 = 0;
const AWAITED: u32 = 1;
const FULL: u32 = 2;
const TAKEN: u32 = 3;

#[derive(Debug)]
pub(crate) struct Slot<T> {
    stamp: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value moves from the thread that puts it to the one that takes it, so `T: Send` is needed and enough. No
// reference to it is ever handed out: `put` writes it before the stamp becomes FULL, and only the one thread whose
// compare-exchange takes the stamp away from FULL reads it.
unsafe impl<T: Send> Sync for Slot<T> {}
// SAFETY: the slot owns its value and nothing else; it may be moved to another thread where the value may.
unsafe impl<T: Send> Send for Slot<T> {}

impl<T> Slot<T> {
    pub(crate) fn empty() -> Self {
        Self { stamp: AtomicU32::new(EMPTY), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    pub(crate) fn full(value: T) -> Self {
        Self { stamp: AtomicU32::new(FULL), value: UnsafeCell::new(MaybeUninit::new(value)) }
    }

    /// Puts the value in. Tells whether the consumer awaits it.
    ///
    /// # Safety
    /// It is called at most once for a slot, and only for one that was made empty.
    pub(crate) unsafe fn put(&self, value: T) -> bool {
        self.value.with_mut(|place| {
            // SAFETY: by the contract nobody else writes, and nobody reads before the stamp below.
            unsafe { (*place).write(value) };
        });
        let ordering = if is_mutant(Mutant::RelaxedStamp) { Ordering::Relaxed } else { Ordering::Release };
        self.stamp.swap(FULL, ordering) == AWAITED
    }

    /// Takes the value if it is there.
    pub(crate) fn try_take(&self) -> Option<T> {
        self.stamp.compare_exchange(FULL, TAKEN, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: the stamp was FULL, so the value is initialised, and the acquire pairs with the release of `put`. Only
        // one compare-exchange can leave FULL, so it is read out once.
        Some(self.value.with_mut(|place| unsafe { (*place).assume_init_read() }))
    }

    /// Whether the value has been put, and perhaps taken.
    pub(crate) fn has_value(&self) -> bool {
        self.stamp.load(Ordering::Relaxed) >= FULL
    }

    /// The value, if it is there; whoever has `&mut` has the slot alone.
    pub(crate) fn get_mut(&mut self) -> Option<&T> {
        if self.stamp.load(Ordering::Acquire) != FULL {
            return None;
        }
        // SAFETY: the stamp is FULL, so the value is initialised, and `&mut self` keeps everybody from taking it while the
        // reference lives.
        Some(self.value.with_mut(|place| unsafe { (*place).assume_init_ref() }))
    }

    /// Announces a sleeper. `false`: the value is there, or has been.
    pub(crate) fn await_value(&self) -> bool {
        let announced = self.stamp.compare_exchange(EMPTY, AWAITED, Ordering::Relaxed, Ordering::Relaxed);
        announced.is_ok() || announced == Err(AWAITED)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.try_take());
    }
}
