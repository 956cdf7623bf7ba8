//! A single-producer single-consumer ring of records in shared words (queue -> TRANSPORT -> worker).
//!
//! A record is two words of header and a payload, padded to whole words. It may be longer than the ring: then it is written
//! and read piece by piece, so a record of any size passes, and the two sides need no other memory in common.
//!
//! | word | who writes it | ordering | why |
//! |---|---|---|---|
//! | `tail`: words written so far | the producer | Release | what lies before it has been written |
//! | `head`: words read so far | the consumer | Release | what lies before it has been read, and may be written over |
//! | the rest | the producer, between `tail` and `head` plus capacity | Relaxed | published by `tail` |
//!
//! Invariant: a side believes its own counter, which it keeps to itself and only publishes; of the other's it believes a
//! value between the last one that it saw and what its own makes possible. Anything else is [`Corrupt`].

use std::fmt;

use crate::mutant::{Mutant, is_mutant};
use crate::primitives::{AtomicU64, Ordering};

/// Words before the first of the data: a cache line for each counter, so that the sides do not fight for one.
pub const COUNTER_WORDS: usize = 16;
const TAIL: usize = 0;
const HEAD: usize = 8;
const HEADER_WORDS: u64 = 2;
const WORD: usize = size_of::<u64>();

/// The longest payload that is believed: more than any machine has memory for.
const LONGEST: u64 = 1 << 48;

/// Shared words, as many as [`len`](Self::len) says.
pub trait Words: Send + Sync {
    /// One of them.
    fn word(&self, index: usize) -> &AtomicU64;
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<W: Words + ?Sized> Words for std::sync::Arc<W> {
    fn word(&self, index: usize) -> &AtomicU64 {
        (**self).word(index)
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

impl Words for [AtomicU64] {
    fn word(&self, index: usize) -> &AtomicU64 {
        &self[index]
    }

    fn len(&self) -> usize {
        <[AtomicU64]>::len(self)
    }
}

/// What stands before a payload. Its meaning is the affair of whoever sends and receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// What kind of record it is.
    pub kind: u16,
    /// Whose it is.
    pub id: u64,
}

/// The other side wrote what it never could have written by the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// What was wrong.
    pub what: &'static str,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared memory was overwritten: {}", self.what)
    }
}

impl std::error::Error for Corrupt {}

/// The data words of a ring, and how a position falls on them.
struct Data<W> {
    words: W,
    capacity: u64,
}

impl<W: Words> Data<W> {
    fn new(words: W) -> Self {
        let capacity = words.len().saturating_sub(COUNTER_WORDS);
        assert!(capacity.is_power_of_two() && capacity >= 4, "a ring has 2^n data words, 4 at least");
        Self { words, capacity: capacity as u64 }
    }

    fn at(&self, position: u64) -> &AtomicU64 {
        self.words.word(COUNTER_WORDS + (position & (self.capacity - 1)) as usize)
    }

    /// Copies `bytes` to the words from `position` on; the last word is filled up with zeros.
    fn put(&self, position: u64, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(WORD).enumerate() {
            let mut word = [0; WORD];
            word[..chunk.len()].copy_from_slice(chunk);
            self.at(position + index as u64).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }

    /// Appends `count` bytes from the words from `position` on.
    fn get(&self, position: u64, count: usize, bytes: &mut Vec<u8>) {
        let end = bytes.len() + count;
        bytes.reserve(count.next_multiple_of(WORD));
        for index in 0..count.div_ceil(WORD) {
            let word = self.at(position + index as u64).load(Ordering::Relaxed);
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(end);
    }
}

fn words_for(bytes: usize) -> u64 {
    bytes.div_ceil(WORD) as u64
}

/// A record on its way out, which may take several goes.
#[derive(Debug)]
pub struct Outgoing<B> {
    header: Header,
    payload: B,
    /// Bytes of the payload written so far; `None`: not even the header.
    written: Option<usize>,
}

impl<B: AsRef<[u8]>> Outgoing<B> {
    /// A record of which nothing has been written.
    ///
    /// # Panics
    /// The payload is longer than 2^48 bytes.
    pub fn new(header: Header, payload: B) -> Self {
        assert!((payload.as_ref().len() as u64) < LONGEST, "a payload is shorter than 2^48 bytes");
        Self { header, payload, written: None }
    }

    /// Whether a part of it is in the ring already.
    pub fn is_begun(&self) -> bool {
        self.written.is_some()
    }

    /// Whether it is a task's record, of those whose kind has the `mark`.
    pub(crate) fn is_for_task(&self, task: u64, mark: u16) -> bool {
        self.header.kind & mark != 0 && self.header.id == task
    }
}

/// The writing end.
pub struct Producer<W> {
    data: Data<W>,
    tail: u64,
    /// The last head that was seen and believed.
    head: u64,
}

impl<W> fmt::Debug for Producer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("tail", &self.tail).field("head", &self.head).finish_non_exhaustive()
    }
}

impl<W: Words> Producer<W> {
    /// The writing end of a ring that lies in `words`, all zero at first; there must be one alone.
    ///
    /// # Panics
    /// They are not [`COUNTER_WORDS`] and a power of two, 4 at least.
    pub fn new(words: W) -> Self {
        Self { data: Data::new(words), tail: 0, head: 0 }
    }

    /// Writes as much of the record as there is room for. `true`: all of it.
    ///
    /// # Errors
    /// The consumer's counter is wrong.
    pub fn write<B: AsRef<[u8]>>(&mut self, record: &mut Outgoing<B>) -> Result<bool, Corrupt> {
        let payload = record.payload.as_ref();
        let wanted = HEADER_WORDS + words_for(payload.len());
        let mut room = self.room_for(wanted)?;
        let start = self.tail;
        if record.written.is_none() {
            if room < HEADER_WORDS {
                return Ok(false);
            }
            let length = payload.len() as u64;
            self.data.at(self.tail).store(length | u64::from(record.header.kind) << 48, Ordering::Relaxed);
            self.data.at(self.tail + 1).store(record.header.id, Ordering::Relaxed);
            self.tail += HEADER_WORDS;
            room -= HEADER_WORDS;
            record.written = Some(0);
        }
        let written = record.written.unwrap_or_default();
        // Whole words only, but at the end: the next piece begins at a word.
        let fits = usize::try_from(room).unwrap_or(usize::MAX).saturating_mul(WORD);
        let piece = &payload[written..payload.len().min(written.saturating_add(fits))];
        self.data.put(self.tail, piece);
        self.tail += words_for(piece.len());
        record.written = Some(written + piece.len());
        if self.tail != start {
            let order = if is_mutant(Mutant::RelaxedTail) { Ordering::Relaxed } else { Ordering::Release };
            self.data.words.word(TAIL).store(self.tail, order);
        }
        Ok(written + piece.len() == payload.len())
    }

    /// Free words; the shared counter is read only if those seen before do not do.
    fn room_for(&mut self, wanted: u64) -> Result<u64, Corrupt> {
        let seen = self.data.capacity - (self.tail - self.head);
        if seen >= wanted {
            return Ok(seen);
        }
        let head = self.data.words.word(HEAD).load(Ordering::Acquire);
        if head < self.head || head > self.tail {
            return Err(Corrupt { what: "the reader of a ring is where nothing was written" });
        }
        self.head = head;
        Ok(self.data.capacity - (self.tail - head))
    }

    /// Whether a record could be begun or gone on with.
    ///
    /// # Errors
    /// The consumer's counter is wrong.
    pub fn has_room(&mut self) -> Result<bool, Corrupt> {
        self.room_for(HEADER_WORDS).map(|room| room >= HEADER_WORDS)
    }

    /// How much has been written and, as far as was seen, read: it changes while anything goes on.
    pub fn progress(&mut self) -> u64 {
        // What cannot be believed is no progress.
        let _ = self.room_for(self.data.capacity);
        self.tail.wrapping_add(self.head)
    }

    /// Whether the consumer has read everything.
    ///
    /// # Errors
    /// Its counter is wrong.
    pub fn is_drained(&mut self) -> Result<bool, Corrupt> {
        self.room_for(self.data.capacity).map(|room| room == self.data.capacity)
    }
}

/// A record that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// What stood before the payload.
    pub header: Header,
    /// A copy of the payload.
    pub payload: Vec<u8>,
}

/// A record of which a part has come.
struct Partial {
    record: Incoming,
    missing: u64,
}

/// The reading end.
pub struct Consumer<W> {
    data: Data<W>,
    head: u64,
    /// The last tail that was seen and believed.
    tail: u64,
    partial: Option<Partial>,
}

impl<W> fmt::Debug for Consumer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("head", &self.head).field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl<W: Words> Consumer<W> {
    /// The reading end of a ring that lies in `words`; there must be one alone.
    ///
    /// # Panics
    /// As [`Producer::new`].
    pub fn new(words: W) -> Self {
        Self { data: Data::new(words), head: 0, tail: 0, partial: None }
    }

    /// How much has been read.
    pub fn progress(&self) -> u64 {
        self.head
    }

    /// How much has been written, as far as it is to be believed.
    ///
    /// # Errors
    /// The producer's counter is wrong.
    pub fn written(&mut self) -> Result<u64, Corrupt> {
        self.available(u64::MAX).map(|_| self.tail)
    }

    /// Whether something has been written that has not been read.
    pub fn has_more(&self) -> bool {
        self.head != self.data.words.word(TAIL).load(Ordering::Acquire)
    }

    /// Takes the next record, if all of it is there; of a longer one than the ring, takes what there is.
    ///
    /// # Errors
    /// The producer's counter or the record's header is wrong; nothing more can be read.
    pub fn read(&mut self) -> Result<Option<Incoming>, Corrupt> {
        let start = self.head;
        let record = self.read_on();
        if self.head != start {
            // Release keeps the reads above before it. No mutant shows that: the model checker never moves a read down.
            self.data.words.word(HEAD).store(self.head, Ordering::Release);
        }
        record
    }

    fn read_on(&mut self) -> Result<Option<Incoming>, Corrupt> {
        let mut partial = match self.partial.take() {
            Some(partial) => partial,
            None if self.available(HEADER_WORDS)? < HEADER_WORDS => return Ok(None),
            None => self.read_header()?,
        };
        let wanted = partial.missing.div_ceil(WORD as u64);
        let here = self.available(wanted)?.min(wanted);
        // At most the capacity in words, so it fits.
        let bytes = partial.missing.min(here * WORD as u64);
        self.data.get(self.head, bytes as usize, &mut partial.record.payload);
        self.head += here;
        partial.missing -= bytes;
        if partial.missing == 0 {
            return Ok(Some(partial.record));
        }
        self.partial = Some(partial);
        Ok(None)
    }

    fn read_header(&mut self) -> Result<Partial, Corrupt> {
        let first = self.data.at(self.head).load(Ordering::Relaxed);
        let id = self.data.at(self.head + 1).load(Ordering::Relaxed);
        self.head += HEADER_WORDS;
        let (missing, kind) = (first & (LONGEST - 1), (first >> 48) as u16);
        // Memory is taken as the bytes come: a length alone costs nothing.
        let expected = usize::try_from(missing.min(self.data.capacity * WORD as u64)).unwrap_or_default();
        let payload = Vec::with_capacity(expected.next_multiple_of(WORD));
        Ok(Partial { record: Incoming { header: Header { kind, id }, payload }, missing })
    }

    /// Words that can be read; the shared counter is looked at only if those seen before do not do.
    fn available(&mut self, wanted: u64) -> Result<u64, Corrupt> {
        if self.tail - self.head < wanted {
            let tail = self.data.words.word(TAIL).load(Ordering::Acquire);
            if tail < self.tail || tail - self.head > self.data.capacity {
                return Err(Corrupt { what: "the writer of a ring is where there was no room" });
            }
            self.tail = tail;
        }
        Ok(self.tail - self.head)
    }
}
