//! Memory that a program writes where it is to be sent from: in a segment of the arena (submit -> queue -> TRANSPORT).
//!
//! What is sent is a snapshot, though nothing is copied: with the first the program's own mapping becomes a private one of the
//! same bytes, so that what it writes from then on goes to pages of its own, and the segment stays as it was.
//!
//! | state | what the program writes | a snapshot of a part |
//! |---|---|---|
//! | written: mapped shared | goes to the segment, which nobody else knows | is the segment, which is frozen for it |
//! | frozen: mapped privately | goes to pages of its own | is the segment, if there are no such pages in that part; else none |
//!
//! Invariant: no snapshot is given out while the mapping is shared, and it is never shared again.

use std::io;
use std::ptr::NonNull;
use std::sync::{Mutex as StdMutex, PoisonError};

use super::arena::{Arena, Segment};
use crate::os::{Access, Mapped};

/// A part of the arena that the program writes in place.
#[derive(Debug)]
pub struct Draft {
    segment: Segment,
    start: NonNull<u8>,
    bytes: usize,
    state: StdMutex<State>,
}

#[derive(Debug)]
struct State {
    mapped: Mapped,
    is_frozen: bool,
}

// SAFETY: the address is only handed out: it is that of `mapped`, which may be sent and shared itself.
unsafe impl Send for Draft {}
// SAFETY: as above.
unsafe impl Sync for Draft {}

impl Draft {
    /// So many bytes, of any content; `None`: there is no room in the arena.
    ///
    /// # Errors
    /// The system has no memory, or no room for one more mapping.
    pub fn new(arena: &Arena, bytes: usize) -> io::Result<Option<Self>> {
        let Some(segment) = arena.try_take(bytes as u64) else { return Ok(None) };
        let mut mapped = segment.map(bytes, Access::Shared)?;
        mapped.prepare(bytes)?;
        // A child of a fork sees it too.
        segment.mark_as_result();
        let start = mapped.start();
        Ok(Some(Self { segment, start, bytes, state: StdMutex::new(State { mapped, is_frozen: false }) }))
    }

    /// Where it lies, as long as it lives. It may be read and written.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Its segment.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// What lies in a part of it now, in its segment; the whole segment stays as it is for that. `None`: the part has been
    /// written since it was frozen, or the system does not tell or do this; then it is to be copied.
    pub fn snapshot(&self, start: usize, bytes: usize) -> Option<Segment> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_as_it_was =
            if state.is_frozen { !state.mapped.is_written(start, bytes) } else { self.freeze_in(&mut state).is_ok() };
        is_as_it_was.then(|| self.segment.clone())
    }

    /// Has the segment stay as it is from now on. What is written goes to pages of this process's own.
    ///
    /// # Errors
    /// The system's.
    pub fn freeze(&self) -> io::Result<()> {
        self.freeze_in(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn freeze_in(&self, state: &mut State) -> io::Result<()> {
        if !state.is_frozen {
            let private = self.segment.map(self.bytes, Access::Private)?;
            state.mapped.replace_by(private)?;
            state.is_frozen = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    fn put(draft: &Draft, at: usize, byte: u8) {
        assert!(at < draft.len());
        // SAFETY: the place lies within the draft, which lives, and this thread alone uses it.
        unsafe { draft.start().as_ptr().add(at).write(byte) };
    }

    fn get(draft: &Draft, at: usize) -> u8 {
        assert!(at < draft.len());
        // SAFETY: as above.
        unsafe { draft.start().as_ptr().add(at).read() }
    }

    fn read(segment: &Segment, at: usize) -> u8 {
        let mut byte = [0];
        segment.read(at as u64, &mut byte).expect("it lies within");
        byte[0]
    }

    #[test]
    fn a_snapshot_stays_as_it_was_and_the_program_sees_what_it_writes() {
        let arena = Arena::new(64 << 20).expect("the system gives memory");
        let draft = Draft::new(&arena, 2 * MB).expect("there is memory").expect("there is room");
        put(&draft, 5, 1);
        put(&draft, MB, 2);
        let one = draft.snapshot(0, MB).expect("nothing was written since it was made");
        put(&draft, 5, 3);
        assert_eq!((read(&one, 5), read(&one, MB)), (1, 2));
        assert_eq!((get(&draft, 5), get(&draft, MB)), (3, 2));
    }

    #[test]
    fn what_was_written_after_a_snapshot_is_in_no_other() {
        let arena = Arena::new(64 << 20).expect("the system gives memory");
        let draft = Draft::new(&arena, 2 * MB).expect("there is memory").expect("there is room");
        put(&draft, 5, 1);
        draft.freeze().expect("the system maps it");
        put(&draft, 5, 2);
        assert!(draft.snapshot(0, 6).is_none() && draft.snapshot(0, 2 * MB).is_none());
        assert_eq!(draft.snapshot(MB, MB).map(|other| other.offset()), Some(draft.segment().offset()));
    }

    #[test]
    fn memory_is_the_arenas_again_when_draft_and_snapshots_are_gone() {
        let arena = Arena::new(64 << 20).expect("the system gives memory");
        let draft = Draft::new(&arena, MB).expect("there is memory").expect("there is room");
        put(&draft, 0, 1);
        let snapshot = draft.snapshot(0, MB).expect("nothing was written since it was made");
        drop(draft);
        assert_eq!((arena.usage().0, read(&snapshot, 0)), (MB as u64, 1));
        drop(snapshot);
        assert_eq!(arena.usage().0, 0);
    }

    #[test]
    fn without_room_there_is_none() {
        let arena = Arena::new(MB as u64).expect("the system gives memory");
        assert!(Draft::new(&arena, 2 * MB).expect("nothing is asked of the system").is_none());
    }
}
