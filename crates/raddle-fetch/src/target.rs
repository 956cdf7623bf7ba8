//! Where a decoded body goes: memory, or a file. Neither takes more than it may.

use std::io::{self, Write};

use bytes::Bytes;

use crate::error::ErrorKind;
use crate::exchange::Failed;

/// The largest room that is set aside because a server announced it: an announcement costs the server nothing.
const LARGEST_RESERVE: u64 = 8 << 20;

/// A place that takes a body piece by piece, such as a file.
pub(crate) trait Sink: Send {
    /// Takes the next piece.
    fn take(&mut self, piece: &[u8]) -> io::Result<()>;
}

/// The end of a body's way.
pub(crate) struct Target {
    place: Place,
    limit: u64,
    room: u64,
    is_overfull: bool,
    is_broken: bool,
    wants_a_share: bool,
}

enum Place {
    Memory(Vec<u8>),
    Sink(Box<dyn Sink>),
}

impl Target {
    pub(crate) fn memory(limit: Option<u64>) -> Self {
        Self::new(Place::Memory(Vec::new()), limit)
    }

    /// A place for the beginning of a body, which is enough.
    pub(crate) fn beginning(limit: u64) -> Self {
        Self { wants_a_share: true, ..Self::memory(Some(limit)) }
    }

    /// Whether it has the beginning that it wants, and nothing else.
    pub(crate) fn has_its_share(&self) -> bool {
        self.wants_a_share && self.is_overfull
    }

    pub(crate) fn sink(sink: Box<dyn Sink>, limit: Option<u64>) -> Self {
        Self::new(Place::Sink(sink), limit)
    }

    fn new(place: Place, limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        Self { place, limit, room: limit, is_overfull: false, is_broken: false, wants_a_share: false }
    }

    /// Refuses a body that announces more than may come.
    pub(crate) fn check(&self, announced: u64) -> Result<(), Failed> {
        if announced > self.room && !self.wants_a_share { Err(self.too_large()) } else { Ok(()) }
    }

    pub(crate) fn too_large(&self) -> Failed {
        let detail = format!("the body is larger than max_bytes={}: raise it, or leave this page out", self.limit);
        Failed::lasting(ErrorKind::TooLarge, detail)
    }

    /// Makes room for what is announced.
    pub(crate) fn reserve(&mut self, announced: u64) {
        if let Place::Memory(memory) = &mut self.place {
            let bytes = announced.min(LARGEST_RESERVE).min(self.room);
            memory.reserve_exact(usize::try_from(bytes).unwrap_or(0));
        }
    }

    /// Whether a body was refused because it does not fit.
    pub(crate) fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Whether the place itself failed, such as a full disk.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// The body, if it was kept in memory.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self.place {
            Place::Memory(memory) => Bytes::from(memory),
            Place::Sink(_) => Bytes::new(),
        }
    }
}

impl Write for Target {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let Some(room) = self.room.checked_sub(piece.len() as u64) else {
            self.is_overfull = true;
            if let (true, Place::Memory(memory)) = (self.wants_a_share, &mut self.place) {
                memory.extend_from_slice(&piece[..usize::try_from(self.room).unwrap_or(0)]);
                self.room = 0;
            }
            return Err(io::Error::other("the body is larger than allowed"));
        };
        self.room = room;
        match &mut self.place {
            Place::Memory(memory) => memory.extend_from_slice(piece),
            Place::Sink(sink) => {
                if let Err(error) = sink.take(piece) {
                    self.is_broken = true;
                    return Err(error);
                }
            }
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
