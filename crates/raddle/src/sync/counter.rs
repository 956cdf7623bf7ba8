//! A number that threads add to without a lock.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// An integer that any number of threads can add to; no addition is lost.
///
/// ```
/// use raddle::sync::Counter;
///
/// let counter = Counter::new(40);
/// assert_eq!(counter.add(2), Ok(42));
/// assert_eq!(counter.value(), 42);
/// ```
#[derive(Debug, Default)]
pub struct Counter(AtomicI64);

/// The sum does not fit into 64 bits; the counter has kept its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a counter holds 64 bits, and the sum does not fit; the counter has kept its value")
    }
}

impl std::error::Error for Overflow {}

impl Counter {
    /// A counter that stands at `value`.
    pub const fn new(value: i64) -> Self {
        Self(AtomicI64::new(value))
    }

    /// Adds `n` and gives the new value.
    ///
    /// # Errors
    /// The sum does not fit into 64 bits.
    // Relaxed: the counter orders nothing but itself.
    pub fn add(&self, n: i64) -> Result<i64, Overflow> {
        let mut value = self.0.load(Relaxed);
        loop {
            let sum = value.checked_add(n).ok_or(Overflow)?;
            match self.0.compare_exchange_weak(value, sum, Relaxed, Relaxed) {
                Ok(_) => return Ok(sum),
                Err(now) => value = now,
            }
        }
    }

    /// The present value.
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_changes_nothing() {
        let counter = Counter::new(i64::MAX - 1);
        assert_eq!(counter.add(1), Ok(i64::MAX));
        assert_eq!(counter.add(1), Err(Overflow));
        assert_eq!(counter.value(), i64::MAX);
    }
}
