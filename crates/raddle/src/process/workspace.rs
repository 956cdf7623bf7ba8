//! Memory that a worker computes in and that lies in the program's arena: what is made there is sent without a copy (worker
//! -> RESULT).
//!
//! A *block* is a segment that the program has lent while a task runs. The worker uses it, and uses it anew within the task;
//! when the task has ended it is settled what becomes of it:
//!
//! | at the end of its task | the worker | the program |
//! |---|---|---|
//! | the reply names it, and nobody in the worker has it | forgets it | has it with the reply |
//! | the reply names it, and somebody has it still | maps it privately, and keeps it | has it with the reply, and for the worker |
//! | the reply does not name it, and somebody has it | keeps it | has it for the worker |
//! | nobody has it, and the reply does not name it | gives it back | uses it anew |
//!
//! What the reply names is written no more from then on: where code of the user's may run between the naming and the end of the
//! task, it is mapped privately at once (`part_named`). What a task leaves behind is never named by a later reply: it is copied.

use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;

use super::arena::{Lease, ProgramArena, default_limit, most_kept};
use crate::os::Mapped;

/// The most blocks: each is a mapping, of which a process has some ten thousands.
const MOST_BLOCKS: usize = 1 << 12;

/// The blocks of a worker.
#[derive(Debug, Default)]
pub struct Workspace {
    /// By where they begin.
    blocks: BTreeMap<usize, Block>,
    /// Those that nobody has, until the task ends.
    spare: Vec<Block>,
    /// Places of those that the program is to get back.
    returned: Vec<u64>,
    in_use: u64,
    /// So much of what is free for the task keeps its memory, once that is known: to give it back and have it again costs
    /// several times what most tasks do with it.
    most_spare: Option<u64>,
}

#[derive(Debug)]
struct Block {
    lease: Lease,
    mapped: Mapped,
    /// How many bytes of it were asked for.
    bytes: usize,
    /// Not if it was given back while nobody had the block.
    has_memory: bool,
    is_named: bool,
    is_kept: bool,
    is_private: bool,
}

/// Where in a segment a piece of memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The place of the segment.
    pub segment: u64,
    /// How long what lies there is.
    pub total: u64,
    /// Where in it the piece begins.
    pub start: u64,
}

/// What a block was given out for is over.
#[derive(Debug, PartialEq, Eq)]
pub enum Released {
    /// It is this task's own.
    Free,
    /// The worker has kept it, and the program is to be told: its place.
    Kept(u64),
}

impl Workspace {
    /// Whether there may be one more block.
    pub fn has_room(&self) -> bool {
        self.blocks.len() + self.spare.len() < MOST_BLOCKS
    }

    /// How many bytes are in use that lie in the arena alone: what has been written behind a private mapping does not.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Gives out what the task has used before, if something fits: where it begins. What lies in it is rubbish.
    pub fn take_spare(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let fits = |block: &Block| (bytes as u64..=2 * bytes as u64).contains(&block.lease.size());
        let best = self.spare.iter().enumerate().filter(|(_, block)| fits(block));
        let (at, _) = best.min_by_key(|(_, block)| (block.lease.size(), !block.has_memory))?;
        // Where the system refuses it, the memory comes when it is written.
        let _ = self.spare[at].mapped.prepare(bytes);
        let block = self.spare.remove(at);
        Some(self.give_out(Block { bytes, has_memory: true, ..block }))
    }

    /// Gives out what the program has lent: where it begins, and whether it holds zeros.
    ///
    /// # Errors
    /// The system has no memory, or no room for one more mapping; then the program gets it back.
    pub fn take(&mut self, arena: &mut ProgramArena, lease: Lease, bytes: usize) -> io::Result<(NonNull<u8>, bool)> {
        let place = lease.offset;
        // What was never used, and what the program has forgotten, holds zeros.
        let is_zero = !lease.is_warm;
        let mapped = arena.take_mapped(&lease, bytes).inspect_err(|_| self.returned.push(place))?;
        let block =
            Block { lease, mapped, bytes, has_memory: true, is_named: false, is_kept: false, is_private: false };
        Ok((self.give_out(block), is_zero))
    }

    fn give_out(&mut self, block: Block) -> NonNull<u8> {
        let start = block.mapped.start();
        self.in_use += block.bytes as u64;
        self.blocks.insert(start.as_ptr() as usize, block);
        start
    }

    /// The length of the block that begins here, as it was asked for, and how long it can become.
    pub fn length(&self, start: NonNull<u8>) -> Option<(usize, usize)> {
        let block = self.blocks.get(&(start.as_ptr() as usize))?;
        Some((block.bytes, block.mapped.bytes()))
    }

    /// Notes that the block that begins here has become longer or shorter, within its length.
    pub fn resize(&mut self, start: NonNull<u8>, bytes: usize) {
        if let Some(block) = self.blocks.get_mut(&(start.as_ptr() as usize)) {
            self.in_use -= block.counted();
            block.bytes = bytes.min(block.mapped.bytes());
            self.in_use += block.counted();
        }
    }

    /// Takes back the block that begins here; `None`: none does.
    pub fn release(&mut self, arena: &mut ProgramArena, start: NonNull<u8>) -> Option<Released> {
        let block = self.blocks.remove(&(start.as_ptr() as usize))?;
        let place = block.lease.offset;
        self.in_use -= block.counted();
        let (is_kept, is_shared) = (block.is_kept, !block.is_private);
        if is_kept || block.is_named {
            if is_shared {
                arena.keep_mapped(place, block.mapped);
            }
        } else {
            self.spare.push(block);
            self.cool(arena);
        }
        Some(if is_kept { Released::Kept(place) } else { Released::Free })
    }

    /// Drops the block that begins here, in a process that was forked while it was there; `false`: none did.
    pub fn abandon(&mut self, start: NonNull<u8>) -> bool {
        self.blocks.remove(&(start.as_ptr() as usize)).is_some()
    }

    /// What is free for the task keeps a bounded amount of memory.
    fn cool(&mut self, arena: &ProgramArena) {
        // The last ones are the likeliest to be wanted again.
        let mut rest = *self.most_spare.get_or_insert_with(|| most_kept(default_limit()));
        for block in self.spare.iter_mut().rev().filter(|block| block.has_memory) {
            match rest.checked_sub(block.lease.size()) {
                Some(left) => rest = left,
                None if arena.forget(&block.lease).is_ok() => {
                    block.mapped.note_forgotten();
                    block.has_memory = false;
                }
                None => {}
            }
        }
    }

    /// Where a piece of memory lies, which the reply that is being made names from now on. `None`: it is to be copied.
    pub fn name(&mut self, start: usize, bytes: usize) -> Option<Spot> {
        let (address, block) = self.blocks.range_mut(..=start).next_back()?;
        let at = start - address;
        let is_within = at.checked_add(bytes)? <= block.bytes;
        // Who has a part has the whole: a small one does not pay.
        if !is_within || block.is_kept || block.is_private || (bytes as u64) < block.lease.size() / 2 {
            return None;
        }
        block.is_named = true;
        Some(Spot { segment: block.lease.offset, total: block.bytes as u64, start: at as u64 })
    }

    /// What the reply names is not written any more, though code of the user's is going to run that has it.
    ///
    /// # Errors
    /// The system has no room for one more mapping: then what it names is to be copied, see [`forget_names`](Self::forget_names).
    pub fn part_named(&mut self, arena: &ProgramArena) -> io::Result<()> {
        self.blocks
            .values_mut()
            .filter(|block| block.is_named)
            .try_for_each(|block| block.part(arena, &mut self.in_use))
    }

    /// The reply names nothing.
    pub fn forget_names(&mut self) {
        self.blocks.values_mut().for_each(|block| block.is_named = false);
    }

    /// The task has ended: settles what becomes of each block.
    ///
    /// # Errors
    /// The system has no room for one more mapping: then the program must not be sent the reply.
    pub fn settle(&mut self, arena: &mut ProgramArena) -> io::Result<Settled> {
        let mut settled = Settled { returned: std::mem::take(&mut self.returned), ..Settled::default() };
        for block in std::mem::take(&mut self.spare) {
            let place = block.lease.offset;
            settled.returned.push(place);
            if block.has_memory {
                arena.keep_mapped(place, block.mapped);
            } else {
                settled.emptied.push(place);
            }
        }
        for block in self.blocks.values_mut().filter(|block| !block.is_kept) {
            if block.is_named {
                block.part(arena, &mut self.in_use)?;
            } else {
                settled.returned.push(block.lease.offset);
            }
            block.is_kept = true;
            settled.kept.push(block.lease.offset);
        }
        Ok(settled)
    }

    /// A child is going to be forked: what it and this process write, neither sees of the other, unless the system has no room
    /// for one more mapping. Gives the places of the blocks that are kept from now on.
    pub fn part_all(&mut self, arena: &ProgramArena) -> Vec<u64> {
        let mut kept = Vec::new();
        for block in self.blocks.values_mut() {
            let _ = block.part(arena, &mut self.in_use);
            if !block.is_kept {
                block.is_kept = true;
                kept.push(block.lease.offset);
                if !block.is_named {
                    self.returned.push(block.lease.offset);
                }
            }
        }
        kept
    }
}

impl Block {
    /// How much of it lies in the arena alone.
    fn counted(&self) -> u64 {
        if self.is_private { 0 } else { self.bytes as u64 }
    }

    /// Maps it privately: what is written from now on is this process's own. `in_use` is what all blocks count.
    fn part(&mut self, arena: &ProgramArena, in_use: &mut u64) -> io::Result<()> {
        if !self.is_private {
            self.mapped.replace_by(arena.map_privately(&self.lease, self.mapped.bytes())?)?;
            *in_use -= self.counted();
            self.is_private = true;
        }
        Ok(())
    }
}

/// What became of the blocks of a task.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Places of those that the worker keeps.
    pub kept: Vec<u64>,
    /// Places of those that have no memory any more.
    pub emptied: Vec<u64>,
    /// Places of those that do not belong to the reply.
    pub returned: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::arena::{Arena, Segment};
    use super::*;

    const MB: usize = 1 << 20;

    /// A program's arena, and a worker that computes in it.
    struct Both {
        arena: Arc<Arena>,
        seen: ProgramArena,
        workspace: Workspace,
        lent: Vec<Segment>,
    }

    impl Both {
        fn new() -> Self {
            let arena = Arena::new(256 << 20).expect("the system gives memory");
            let descriptor = arena.descriptor().try_clone_to_owned().expect("a descriptor is free");
            let seen = ProgramArena::open(descriptor).expect("it is an arena");
            Self { arena, seen, workspace: Workspace::default(), lent: Vec::new() }
        }

        fn allocate(&mut self, bytes: usize) -> NonNull<u8> {
            self.workspace.take_spare(bytes).unwrap_or_else(|| {
                let segment = self.arena.try_take(bytes as u64).expect("there is room");
                let lease = Lease::new(bytes as u64, segment.offset(), segment.is_warm()).expect("it is not too large");
                self.lent.push(segment);
                self.workspace.take(&mut self.seen, lease, bytes).expect("the system maps it").0
            })
        }

        fn release(&mut self, start: NonNull<u8>) -> Option<Released> {
            self.workspace.release(&mut self.seen, start)
        }

        fn settle(&mut self) -> Settled {
            self.workspace.settle(&mut self.seen).expect("the system maps it")
        }

        fn places(&self) -> Vec<u64> {
            self.lent.iter().map(Segment::offset).collect()
        }

        fn read(&self, at: usize) -> u8 {
            let mut byte = [0];
            self.lent[0].read(at as u64, &mut byte).expect("it lies within");
            byte[0]
        }
    }

    fn put(start: NonNull<u8>, at: usize, byte: u8) {
        // SAFETY: each test writes within a block that it has, and this thread alone uses it.
        unsafe { start.as_ptr().add(at).write(byte) };
    }

    fn get(start: NonNull<u8>, at: usize) -> u8 {
        // SAFETY: as above.
        unsafe { start.as_ptr().add(at).read() }
    }

    #[test]
    fn what_is_dropped_is_used_again_in_the_task_and_then_given_back() {
        let mut both = Both::new();
        let first = both.allocate(MB);
        assert_eq!((both.workspace.in_use(), both.release(first)), (MB as u64, Some(Released::Free)));
        let again = both.allocate(MB);
        assert_eq!((again, both.lent.len()), (first, 1));
        both.release(again);
        assert_eq!(both.settle(), Settled { returned: both.places(), ..Settled::default() });
        assert_eq!((both.workspace.in_use(), both.settle()), (0, Settled::default()));
    }

    #[test]
    fn a_result_that_nobody_has_any_more_belongs_to_the_reply() {
        let mut both = Both::new();
        let start = both.allocate(MB);
        put(start, 5, 1);
        let place = both.places()[0];
        assert_eq!(
            both.workspace.name(start.as_ptr() as usize, MB),
            Some(Spot { segment: place, total: MB as u64, start: 0 })
        );
        both.release(start);
        assert_ne!(both.allocate(MB), start, "what is sent is not used again");
        both.lent.truncate(1);
        assert!(!both.settle().returned.contains(&place));
        assert_eq!(both.read(5), 1);
    }

    #[test]
    fn what_the_worker_writes_to_a_result_that_it_keeps_is_its_own() {
        let mut both = Both::new();
        let start = both.allocate(2 * MB);
        put(start, MB, 1);
        assert!(both.workspace.name(start.as_ptr() as usize + 64, 2 * MB - 64).is_some());
        assert_eq!(both.settle(), Settled { kept: both.places(), ..Settled::default() });
        put(start, MB, 2);
        assert_eq!((get(start, MB), both.read(MB)), (2, 1));
        assert_eq!(both.workspace.name(start.as_ptr() as usize, 2 * MB), None, "it is copied from now on");
        assert_eq!(both.release(start), Some(Released::Kept(both.places()[0])));
        assert_eq!(both.settle(), Settled::default());
    }

    #[test]
    fn what_the_worker_keeps_for_itself_does_not_belong_to_the_reply() {
        let mut both = Both::new();
        let start = both.allocate(MB);
        assert_eq!(both.settle(), Settled { kept: both.places(), returned: both.places(), ..Settled::default() });
        assert_eq!(both.settle(), Settled::default());
        assert_eq!(both.release(start), Some(Released::Kept(both.places()[0])));
    }

    #[test]
    fn a_small_part_and_what_lies_elsewhere_are_copied() {
        let mut both = Both::new();
        let start = both.allocate(4 * MB).as_ptr() as usize;
        assert_eq!(both.workspace.name(start, MB), None);
        assert_eq!(both.workspace.name(start + MB, 4 * MB), None);
        assert_eq!(both.workspace.name(start - 1, 3 * MB), None);
        assert_eq!(both.workspace.name(start + 4 * MB, 1), None);
    }

    #[test]
    fn what_is_free_for_the_task_keeps_little_memory() {
        let mut both = Both::new();
        both.workspace.most_spare = Some(8 << 20);
        let blocks: Vec<_> = (0..3).map(|_| both.allocate(4 * MB)).collect();
        blocks.iter().for_each(|block| put(*block, 7, 1));
        for block in blocks {
            assert_eq!(both.release(block), Some(Released::Free));
        }
        assert_eq!(both.read(7), 0, "the memory of the first was given back");
        let again: Vec<_> = (0..2).map(|_| both.allocate(4 * MB)).collect();
        again.iter().for_each(|block| put(*block, 7, 2));
        assert_eq!(both.lent.len(), 3);
        assert_eq!(both.settle().emptied, both.places()[..1]);
    }

    #[test]
    fn a_result_that_is_short_of_its_segment_is_copied() {
        let mut both = Both::new();
        let start = both.allocate(8 * MB);
        both.workspace.resize(start, MB);
        assert_eq!((both.workspace.in_use(), both.workspace.name(start.as_ptr() as usize, MB)), (MB as u64, None));
    }

    #[test]
    fn what_is_parted_at_once_is_written_apart_and_counts_no_more() {
        let mut both = Both::new();
        let start = both.allocate(MB);
        put(start, 3, 1);
        assert!(both.workspace.name(start.as_ptr() as usize, MB).is_some());
        both.workspace.part_named(&both.seen).expect("the system maps it");
        put(start, 3, 2);
        assert_eq!((both.read(3), both.workspace.in_use()), (1, 0));
        assert_eq!(both.release(start), Some(Released::Free));
        assert_eq!((both.settle(), both.workspace.in_use()), (Settled::default(), 0));
    }

    #[test]
    fn names_that_are_forgotten_are_not_sent() {
        let mut both = Both::new();
        let start = both.allocate(MB);
        assert!(both.workspace.name(start.as_ptr() as usize, MB).is_some());
        both.workspace.forget_names();
        both.release(start);
        assert_eq!(both.settle().returned, both.places());
    }

    #[test]
    fn what_a_child_has_too_is_written_apart() {
        let mut both = Both::new();
        let start = both.allocate(MB);
        put(start, 0, 1);
        assert_eq!(both.workspace.part_all(&both.seen), both.places());
        put(start, 0, 2);
        assert_eq!((get(start, 0), both.read(0)), (2, 1));
        assert_eq!(both.workspace.name(start.as_ptr() as usize, MB), None);
        assert_eq!(both.settle(), Settled { returned: both.places(), ..Settled::default() });
        assert!(both.workspace.abandon(start) && !both.workspace.abandon(start));
    }
}
