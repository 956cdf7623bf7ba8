//! An anonymous memory that a program shares with its worker processes: gone when the last of them is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use super::doorbell::{Bell, Wake};
use super::ring::Words;
use crate::os::{self, SharedMemory};
use crate::primitives::{AtomicU32, AtomicU64, FutexWake};

/// Shared memory, as words that are all zero at first.
#[derive(Clone)]
pub struct Mapping(Arc<SharedMemory>);

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("words", &self.0.words().len()).finish_non_exhaustive()
    }
}

impl Mapping {
    /// New memory of this many words. Pages that are never touched cost nothing.
    ///
    /// # Errors
    /// The system's.
    pub fn new(words: usize) -> io::Result<Self> {
        Ok(Self(Arc::new(SharedMemory::new(words)?)))
    }

    /// The memory that another process made and whose descriptor this one has got from it.
    ///
    /// # Errors
    /// The system's; or it is not as long as expected.
    pub fn open(descriptor: OwnedFd, words: usize) -> io::Result<Self> {
        Ok(Self(Arc::new(SharedMemory::open(descriptor, words)?)))
    }

    /// What to hand to the other process.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor().as_fd()
    }

    /// A part of it.
    ///
    /// # Panics
    /// It does not lie within.
    pub fn part(&self, first: usize, words: usize) -> Part {
        let end = first.checked_add(words).expect("a part ends somewhere");
        assert!(end <= self.0.words().len(), "a part lies within the mapping");
        Part { memory: Arc::clone(&self.0), first, words }
    }
}

/// Some of the words of a [`Mapping`].
#[derive(Clone)]
pub struct Part {
    memory: Arc<SharedMemory>,
    first: usize,
    words: usize,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("first", &self.first).field("words", &self.words).finish_non_exhaustive()
    }
}

impl Words for Part {
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.memory.words()[self.first..self.first + self.words][index]
    }

    fn len(&self) -> usize {
        self.words
    }
}

impl Part {
    /// The word at `index` as a doorbell: the half of it that comes first in memory.
    pub fn bell(&self, index: usize) -> SharedBell {
        assert!(index < self.words, "a bell lies within its part");
        SharedBell { memory: Arc::clone(&self.memory), index: self.first + index }
    }
}

/// A word of a [`Mapping`] on which a process can sleep.
#[derive(Clone)]
pub struct SharedBell {
    memory: Arc<SharedMemory>,
    index: usize,
}

impl fmt::Debug for SharedBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBell").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Bell for SharedBell {
    fn word(&self) -> &AtomicU32 {
        self.memory.half_word(self.index)
    }

    fn sleep(&self, expected: u32, timeout: Option<Duration>) -> Wake {
        match os::shared_futex_wait(self.word(), expected, timeout) {
            FutexWake::Look => Wake::Look,
            FutexWake::TimedOut => Wake::TimedOut,
            FutexWake::Interrupted => Wake::Interrupted,
        }
    }

    fn wake(&self) {
        os::shared_futex_wake(self.word());
    }
}
