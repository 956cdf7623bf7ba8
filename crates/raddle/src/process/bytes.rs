//! Bytes that several hold, and parts of them, without a copy.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

#[cfg(not(loom))]
use super::arena::Segment;

#[derive(Default)]
struct Whole {
    bytes: Vec<u8>,
    /// What belongs to them and lies apart: it is free when nobody has the bytes.
    #[cfg(not(loom))]
    segments: Vec<Segment>,
}

/// The bytes of a task or a definition: kept until the reply is there, for it may have to be sent once more. Several may be
/// parts of one buffer.
#[derive(Clone, Default)]
pub struct Bytes {
    whole: Arc<Whole>,
    range: Range<usize>,
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("len", &self.range.len()).finish_non_exhaustive()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), whole: Arc::new(Whole { bytes, ..Whole::default() }) }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.whole.bytes[self.range.clone()]
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Bytes {
    /// A part of it, without a copy.
    ///
    /// # Panics
    /// It does not lie within.
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "a part lies within the whole");
        let start = self.range.start;
        Self { whole: Arc::clone(&self.whole), range: start + range.start..start + range.end }
    }
}

#[cfg(not(loom))]
impl Bytes {
    /// Bytes with what belongs to them and lies in an arena.
    pub fn with_segments(bytes: Vec<u8>, segments: Vec<Segment>) -> Self {
        Self { range: 0..bytes.len(), whole: Arc::new(Whole { bytes, segments }) }
    }

    /// What belongs to them, or to others of the same buffer, and lies in an arena.
    pub fn segments(&self) -> &[Segment] {
        &self.whole.segments
    }

    /// How much memory they take, with what lies apart.
    pub fn weight(&self) -> usize {
        self.len().saturating_add(self.apart())
    }

    /// How much lies apart.
    pub(crate) fn apart(&self) -> usize {
        let apart: u64 = self.segments().iter().map(Segment::size).sum();
        usize::try_from(apart).unwrap_or(usize::MAX)
    }
}
