//! The arena: where large data lies on its way between a program and its workers (submit -> queue -> TRANSPORT -> worker).
//!
//! One anonymous file for all pools of a process, sparse and far longer than any memory, so that places in it are never scarce;
//! what is bounded is the memory behind them. It is given out in *segments* of a few sizes. The program alone gives them out
//! and takes them back, in its own memory: nothing that another process does, or leaves undone when it is killed, can harm
//! what says which segment is whose. A segment is free again when its last [`Segment`] is dropped. A worker never has one: the
//! program holds it in the worker's place, from the order to the burial.
//!
//! | who holds a segment | from | until |
//! |---|---|---|
//! | the bytes of a call | it is encoded | the reply, or its end in another way |
//! | the pool, for a worker that keeps a view of an argument | before the reply | the worker has none, or is buried |
//! | the pool, for a worker that has asked for it | the answer | the reply, or it is given back, or the burial |
//! | the pool, for a worker that keeps what it has computed in it | before the reply | the worker has it no more, or is buried |
//! | the bytes of a reply, and views of it | the reply | the last is dropped |
//!
//! Invariant: a segment is written by whoever got it, before anybody else is told of it, and by nobody once it is read. Those who
//! read it map it for themselves: what they write there is seen by nobody else.
//!
//! What has been free for a moment keeps its memory, for memory that is new costs several times what a copy does (64 MB: 30 ms
//! against 4 to 10).

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use super::lease::Wish;
use super::pins::Pins;
use crate::os::{self, Access, Mapped, MemoryFile};
use crate::primitives::Mutex;

/// Sizes of segments are multiples of it, and so are their places.
pub const GRAIN: u64 = 1 << 16;
/// The length of the file; nearly all of it is never touched.
const FILE_BYTES: u64 = 1 << 44;
/// Shorter segments are written by the kernel's own copying: there may be many, and a process has not many mappings.
const LEAST_MAPPED: u64 = 1 << 20;
/// The most memory that is kept for segments to come, unless the limit is lower than eight times that.
const KEPT_BYTES: u64 = 1 << 30;

/// The most bytes in use at a time in the arena of a process, unless it is told otherwise.
pub(super) fn default_limit() -> u64 {
    os::memory_allowed() / 2
}

/// How much memory is kept for segments to come, where so much may be in use.
pub(super) fn most_kept(limit: u64) -> u64 {
    KEPT_BYTES.min(limit / 8)
}

/// That of the process, and of which generation of forks it is.
static CURRENT: StdMutex<Option<(u32, Option<Arc<Arena>>)>> = StdMutex::new(None);

/// Where large data lies.
#[derive(Debug)]
pub struct Arena {
    file: MemoryFile,
    generation: u32,
    limit: AtomicU64,
    state: Mutex<State>,
    /// What children of forks have too.
    pins: Mutex<Pins<Arc<Held>>>,
    this: Weak<Self>,
}

#[derive(Debug, Default)]
struct State {
    /// Behind it no segment has been.
    end: u64,
    /// Free places that still have their memory, by size.
    warm: HashMap<u64, Vec<Block>>,
    /// Free places that have none.
    cold: HashMap<u64, Vec<u64>>,
    warm_bytes: u64,
    live_bytes: u64,
    live: HashMap<u64, Weak<Held>>,
}

/// A place in the file.
#[derive(Debug)]
struct Block {
    offset: u64,
    size: u64,
    /// It has memory.
    is_warm: bool,
    /// As the program writes it: it stays mapped while it has its memory.
    mapped: Option<Mapped>,
}

/// The size of the segments in which so much is put: of those that are 4, 5, 6, 7 times a power of two the next.
fn size_for(bytes: u64) -> Option<u64> {
    let bytes = bytes.max(GRAIN);
    if bytes > FILE_BYTES {
        return None;
    }
    let step = ((1_u64 << bytes.ilog2()) / 4).max(GRAIN);
    Some(bytes.next_multiple_of(step))
}

impl Arena {
    /// An arena of which at most so many bytes are in use at a time.
    ///
    /// # Errors
    /// The system's.
    pub fn new(limit: u64) -> io::Result<Arc<Self>> {
        let file = MemoryFile::new(FILE_BYTES)?;
        Ok(Arc::new_cyclic(|this| Self {
            file,
            generation: os::fork_generation(),
            limit: AtomicU64::new(limit),
            state: Mutex::new(State::default()),
            pins: Mutex::new(Pins::new()),
            this: this.clone(),
        }))
    }

    /// The arena of this process, made when it is asked for first; a child of a fork has one of its own. `None`: the system
    /// gives none, so everything has to be copied.
    pub fn of_process() -> Option<Arc<Self>> {
        let generation = os::fork_generation();
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((made_in, arena)) if *made_in == generation => arena.clone(),
            _ => {
                let arena = Self::new(default_limit()).ok();
                *current = Some((generation, arena.clone()));
                arena
            }
        }
    }

    /// Has all results that there are in the arena of this process stay as they are while a child has them too: it is going to
    /// be forked.
    pub fn pin_results_of_process() {
        let Some(arena) = Self::that_is_there() else { return };
        drop(arena.take_released());
        let live: Vec<_> = arena.state.lock().live.values().filter_map(Weak::upgrade).collect();
        let (results, others): (Vec<_>, Vec<_>) = live.into_iter().partition(|held| held.is_result.load(Relaxed));
        arena.pins.lock().pin(results);
        drop(others);
    }

    /// It has been forked.
    pub fn note_forked() {
        if let Some(arena) = Self::that_is_there() {
            arena.pins.lock().note_forked();
        }
    }

    fn that_is_there() -> Option<Arc<Self>> {
        let generation = os::fork_generation();
        let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|(made_in, _)| *made_in == generation)?.1.clone()
    }

    fn take_released(&self) -> Vec<Arc<Held>> {
        self.pins.lock().take_released()
    }

    /// What a worker has to be given.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.descriptor()
    }

    /// The most bytes in use at a time.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Changes the limit, for segments to come; gives the one before.
    pub fn set_limit(&self, bytes: u64) -> u64 {
        self.limit.swap(bytes, Relaxed)
    }

    /// Bytes in use, and bytes kept for segments to come.
    pub fn usage(&self) -> (u64, u64) {
        drop(self.take_released());
        let state = self.state.lock();
        (state.live_bytes, state.warm_bytes)
    }

    /// A segment for so many bytes, which are the caller's to write; `None` if that is more than there may be.
    pub fn try_take(&self, bytes: u64) -> Option<Segment> {
        let size = size_for(bytes)?;
        self.try_take_size(size).or_else(|| {
            let released = self.take_released();
            let is_something_free = !released.is_empty();
            drop(released);
            is_something_free.then(|| self.try_take_size(size)).flatten()
        })
    }

    /// A segment for a worker. What it only computes in takes half of what there may be at most: the rest is for what is sent.
    pub(super) fn try_lend(&self, wish: Wish) -> Option<Segment> {
        if wish.is_to_work_in && self.state.lock().live_bytes.checked_add(wish.bytes)? > self.limit() / 2 {
            return None;
        }
        self.try_take(wish.bytes)
    }

    fn try_take_size(&self, size: u64) -> Option<Segment> {
        let arena = self.this.upgrade()?;
        let mut state = self.state.lock();
        let limit = self.limit();
        if state.live_bytes.checked_add(size)? > limit {
            return None;
        }
        let block = match state.pop_warm(size) {
            Some(block) => block,
            None => {
                let most_kept = limit - state.live_bytes - size;
                self.cool(&mut state, most_kept);
                state.place(size)?
            }
        };
        state.live_bytes += size;
        let offset = block.offset;
        let (is_result, is_emptied) = (AtomicBool::new(false), AtomicBool::new(false));
        let held = Held { arena, block: StdMutex::new(Some(block)), offset, size, is_result, is_emptied };
        let segment = Segment(Arc::new(held));
        state.live.insert(offset, Arc::downgrade(&segment.0));
        Some(segment)
    }

    /// The segment in use that begins at this place.
    pub fn find(&self, offset: u64) -> Option<Segment> {
        // A child of a fork may look at results of its parent, but not wait for threads that it has not got.
        let is_forked = self.generation != os::fork_generation();
        let state = if is_forked { self.state.try_lock()? } else { self.state.lock() };
        state.live.get(&offset)?.upgrade().map(Segment)
    }

    /// Gives back the memory that is kept for segments to come, and what was there only for children of forks that are gone.
    pub fn trim(&self) {
        drop(self.take_released());
        self.cool(&mut self.state.lock(), 0);
    }

    /// Keeps at most so much memory that is not in use.
    fn cool(&self, state: &mut State, most: u64) {
        while state.warm_bytes > most {
            let Some(size) = state.warm.iter().filter(|(_, blocks)| !blocks.is_empty()).map(|(size, _)| *size).max()
            else {
                return;
            };
            let Some(block) = state.pop_warm(size) else { return };
            state.retire(&self.file, block);
        }
    }

    fn take_back(&self, block: Block, is_emptied: bool) {
        // In a child of a fork nothing of it is the child's; its lock may be held by a thread that is not there.
        if self.generation != os::fork_generation() {
            return;
        }
        let mut state = self.state.lock();
        state.live.remove(&block.offset);
        state.live_bytes -= block.size;
        if is_emptied {
            // That is not believed: it costs nothing to do it once more.
            return state.retire(&self.file, block);
        }
        state.warm_bytes += block.size;
        state.warm.entry(block.size).or_default().push(Block { is_warm: true, ..block });
        self.cool(&mut state, most_kept(self.limit()));
    }
}

impl State {
    fn pop_warm(&mut self, size: u64) -> Option<Block> {
        let block = self.warm.get_mut(&size)?.pop()?;
        self.warm_bytes -= size;
        Some(block)
    }

    /// A place without memory.
    fn place(&mut self, size: u64) -> Option<Block> {
        let cold = self.cold.get_mut(&size).and_then(Vec::pop);
        let offset = match cold {
            Some(offset) => offset,
            None if self.end + size <= FILE_BYTES => {
                let offset = self.end;
                self.end += size;
                offset
            }
            None => return None,
        };
        Some(Block { offset, size, is_warm: false, mapped: None })
    }

    fn retire(&mut self, file: &MemoryFile, block: Block) {
        // What has no memory reads as zeros. If the system keeps it, the place is not used again.
        if file.forget(block.offset, block.size).is_ok() {
            self.cold.entry(block.size).or_default().push(block.offset);
        }
    }
}

#[derive(Debug)]
struct Held {
    arena: Arc<Arena>,
    /// Until it is dropped.
    block: StdMutex<Option<Block>>,
    offset: u64,
    size: u64,
    /// The program itself looks at it.
    is_result: AtomicBool,
    /// A worker has given its memory back.
    is_emptied: AtomicBool,
}

impl Drop for Held {
    fn drop(&mut self) {
        let block = self.block.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(block) = block {
            self.arena.take_back(block, self.is_emptied.load(Relaxed));
        }
    }
}

/// A part of the arena that is in use: until the last of its clones is dropped.
#[derive(Clone, Debug)]
pub struct Segment(Arc<Held>);

impl Segment {
    /// Where it begins: no other segment in use begins there.
    pub fn offset(&self) -> u64 {
        self.0.offset
    }

    /// It is for a result, or for something else that the program itself looks at.
    pub fn mark_as_result(&self) {
        self.0.is_result.store(true, Relaxed);
    }

    /// A worker has given its memory back, and is about to give back the segment.
    pub(super) fn note_emptied(&self) {
        self.0.is_emptied.store(true, Relaxed);
    }

    /// How many bytes there is room for.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Whether it is one of this arena's, in this process.
    pub fn is_of(&self, arena: &Arena) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0.arena), arena) && arena.generation == os::fork_generation()
    }

    /// Maps what lies in it.
    pub(super) fn map(&self, bytes: usize, access: Access) -> io::Result<Mapped> {
        if bytes as u64 > self.size() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the segment is shorter"));
        }
        self.0.arena.file.map(self.offset(), bytes, access)
    }

    /// Whether it has memory already.
    pub fn is_warm(&self) -> bool {
        self.0.block.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|block| block.is_warm)
    }

    /// Puts `bytes` bytes into it, from the place `at` on.
    ///
    /// # Errors
    /// They do not fit, or the system has no memory.
    ///
    /// # Safety
    /// So many bytes can be read at `source` meanwhile, and nobody has been told of the segment but whoever calls.
    pub unsafe fn write(&self, at: u64, source: *const u8, bytes: usize) -> io::Result<()> {
        if at.checked_add(bytes as u64).is_none_or(|end| end > self.size()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not fit into the segment"));
        }
        let mut block = self.0.block.lock().unwrap_or_else(PoisonError::into_inner);
        let file = &self.0.arena.file;
        let Some(block) = block.as_mut().filter(|block| block.is_warm && block.size >= LEAST_MAPPED) else {
            // Memory that is new is had at a lower price from the kernel's own copying than by faults.
            // SAFETY: as the caller says.
            return unsafe { file.write(self.offset() + at, source, bytes) };
        };
        let mapped = match block.mapped.take() {
            Some(mapped) => mapped,
            None => file.map(block.offset, block.size as usize, Access::Shared)?,
        };
        let mapped = block.mapped.insert(mapped);
        mapped.prepare(at as usize + bytes)?;
        // SAFETY: the source as the caller says; the target lies within the mapping, as was looked above, and is read by
        // nobody: nobody else knows of the segment. They do not overlap: no one else has a pointer to this mapping.
        unsafe { std::ptr::copy_nonoverlapping(source, mapped.start().as_ptr().add(at as usize), bytes) };
        Ok(())
    }

    /// What lies in it, for whoever asks: what is written there is seen by nobody else.
    ///
    /// # Errors
    /// The system has no room for one more mapping, or it is not as long.
    pub fn view(&self, bytes: u64) -> io::Result<View> {
        if bytes > self.size() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the segment is shorter"));
        }
        View::map(&self.0.arena.file, self.offset(), bytes)
    }

    /// Copies what lies in it from the place `at` on.
    ///
    /// # Errors
    /// It is not as long.
    pub fn read(&self, at: u64, place: &mut [u8]) -> io::Result<()> {
        if at.checked_add(place.len() as u64).is_none_or(|end| end > self.size()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the segment is shorter"));
        }
        self.0.arena.file.read(self.offset() + at, place)
    }
}

/// What lies in a segment, as one process sees it.
#[derive(Debug)]
pub struct View(Mapped);

impl View {
    fn map(file: &MemoryFile, offset: u64, bytes: u64) -> io::Result<Self> {
        let bytes = usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        file.map(offset, bytes, Access::Private).map(Self)
    }

    /// Where it lies in this process, as long as the view lives. It may be read and written.
    pub fn start(&self) -> NonNull<u8> {
        self.0.start()
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.0.bytes()
    }

    /// Whether there is nothing in it: never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The arena of the program, seen from a worker.
#[derive(Debug)]
pub struct ProgramArena {
    file: MemoryFile,
    /// Segments that have been written, as they are mapped for that: they mostly come again.
    written: HashMap<u64, Mapped>,
}

/// The longest piece of new memory that is had at once.
const MOST_PREPARED: usize = 1 << 26;
/// How many segments stay mapped to be written again. A guess: more than most tasks have at a time.
const MOST_MAPPED: usize = 512;

impl ProgramArena {
    /// The arena of whose descriptor the process was given.
    ///
    /// # Errors
    /// It is none.
    pub fn open(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self { file: MemoryFile::open(descriptor)?, written: HashMap::new() })
    }

    /// What the program has put at an offset.
    ///
    /// # Errors
    /// It is not there, or the system has no room for one more mapping.
    pub fn view(&self, offset: u64, bytes: u64) -> io::Result<View> {
        View::map(&self.file, offset, bytes)
    }

    /// Copies what the program has put at an offset.
    ///
    /// # Errors
    /// It is not there.
    pub fn read(&self, offset: u64, place: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, place)
    }

    /// Puts `bytes` bytes into a segment that the program has lent, from the place `at` on.
    ///
    /// # Errors
    /// They do not fit, or the system has no memory.
    ///
    /// # Safety
    /// So many bytes can be read at `source` meanwhile.
    pub unsafe fn write(&mut self, lease: &Lease, at: u64, source: *const u8, bytes: usize) -> io::Result<()> {
        if at.checked_add(bytes as u64).is_none_or(|end| end > lease.size) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not fit into the segment"));
        }
        if !lease.is_warm || lease.size < LEAST_MAPPED {
            // SAFETY: as the caller says.
            return unsafe { self.file.write(lease.offset + at, source, bytes) };
        }
        let target = self.mapped(lease, at as usize + bytes)?;
        // SAFETY: the source as the caller says; the target lies within the mapping, as was looked above. Nobody reads it:
        // the program has lent it to this worker alone. It is no part of what a view shows, which is mapped apart.
        unsafe { std::ptr::copy_nonoverlapping(source, target.as_ptr().add(at as usize), bytes) };
        Ok(())
    }

    fn mapped(&mut self, lease: &Lease, wanted: usize) -> io::Result<NonNull<u8>> {
        let mapped = self.take_mapped(lease, wanted)?;
        let start = mapped.start();
        self.keep_mapped(lease.offset, mapped);
        Ok(start)
    }

    /// Maps a segment to be written, of which so many bytes are wanted, or takes it as it was mapped last.
    pub(super) fn take_mapped(&mut self, lease: &Lease, wanted: usize) -> io::Result<Mapped> {
        let size = usize::try_from(lease.size).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mapped = self.written.remove(&lease.offset).filter(|mapped| mapped.bytes() == size);
        let mut mapped = mapped.map_or_else(|| self.file.map(lease.offset, size, Access::Shared), Ok)?;
        if !lease.is_warm {
            mapped.note_forgotten();
        }
        // Of what is long and new perhaps only a little is going to be used.
        if lease.is_warm || wanted <= MOST_PREPARED {
            mapped.prepare(wanted)?;
        }
        Ok(mapped)
    }

    /// Keeps a segment mapped that was written, for the next time.
    pub(super) fn keep_mapped(&mut self, offset: u64, mapped: Mapped) {
        if self.written.len() >= MOST_MAPPED {
            self.written.clear();
        }
        self.written.insert(offset, mapped);
    }

    /// Maps what lies in a segment: what is written there is seen by nobody else.
    pub(super) fn map_privately(&self, lease: &Lease, bytes: usize) -> io::Result<Mapped> {
        self.file.map(lease.offset, bytes, Access::Private)
    }

    /// Gives the memory of a segment back: it reads as zeros.
    pub(super) fn forget(&self, lease: &Lease) -> io::Result<()> {
        self.file.forget(lease.offset, lease.size)
    }
}

/// A segment that the program has lent to a worker, to put a result there, or to compute in it.
#[derive(Debug)]
pub struct Lease {
    /// Where it begins.
    pub offset: u64,
    /// Whether it has memory already.
    pub is_warm: bool,
    /// How much fits.
    pub(crate) size: u64,
}

impl Lease {
    pub(crate) fn new(bytes: u64, offset: u64, is_warm: bool) -> Option<Self> {
        Some(Self { offset, is_warm, size: size_for(bytes)? })
    }

    /// How much fits.
    pub fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn put(segment: &Segment, bytes: &[u8]) {
        // SAFETY: the bytes are borrowed meanwhile, and nobody else knows the segment.
        unsafe { segment.write(0, bytes.as_ptr(), bytes.len()) }.expect("there is memory");
    }

    fn get(segment: &Segment, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        segment.read(0, &mut bytes).expect("it can be read");
        bytes
    }

    #[test]
    fn sizes_are_at_most_a_quarter_too_large() {
        for bytes in [1, GRAIN, GRAIN + 1, 300_000, MB, MB + 1, 64 * MB, 100 * MB + 7] {
            let size = size_for(bytes).expect("it is not too large");
            assert!(size >= bytes && size.is_multiple_of(GRAIN), "{bytes}");
            assert!(size <= bytes.max(GRAIN) + (bytes / 4).max(GRAIN), "{bytes}");
            assert_eq!(size_for(size), Some(size));
        }
        assert_eq!(size_for(u64::MAX), None);
    }

    #[test]
    fn a_segment_comes_again_when_its_last_holder_is_gone() {
        let arena = Arena::new(64 * MB).expect("the system gives memory");
        let first = arena.try_take(MB).expect("there is room");
        let (offset, clone) = (first.offset(), first.clone());
        drop(first);
        let second = arena.try_take(MB).expect("there is room");
        assert_ne!(second.offset(), offset);
        drop(clone);
        let third = arena.try_take(MB).expect("there is room");
        assert_eq!((third.offset(), third.is_warm()), (offset, true));
        assert_eq!(arena.usage(), (2 * MB, 0));
    }

    #[test]
    fn what_was_put_is_seen_whether_the_memory_is_new_or_not() {
        let arena = Arena::new(64 * MB).expect("the system gives memory");
        for (round, size) in [(0, MB), (1, MB), (2, MB), (0, GRAIN), (1, GRAIN)] {
            let segment = arena.try_take(size).expect("there is room");
            assert_eq!(segment.is_warm(), round > 0);
            put(&segment, &[round + 1; 60_000]);
            assert_eq!(get(&segment, 60_000), [round + 1; 60_000]);
        }
    }

    #[test]
    fn what_is_written_to_a_view_is_seen_by_no_other() {
        let arena = Arena::new(64 * MB).expect("the system gives memory");
        let segment = arena.try_take(MB).expect("there is room");
        put(&segment, &[7; 5000]);
        let (one, other) = (segment.view(5000).expect("a view"), segment.view(5000).expect("a view"));
        // SAFETY: both views live, and only this thread uses them.
        unsafe {
            one.start().as_ptr().add(4999).write(8);
            assert_eq!(other.start().as_ptr().add(4999).read(), 7);
        }
        assert_eq!(get(&segment, 5000), [7; 5000]);
    }

    #[test]
    fn memory_in_use_is_bounded_and_what_is_kept_makes_way() {
        let arena = Arena::new(4 * MB).expect("the system gives memory");
        let held: Vec<_> = (0..4).map_while(|_| arena.try_take(MB)).collect();
        assert_eq!(held.len(), 4);
        assert!(arena.try_take(1).is_none(), "there is no more than the limit");
        drop(held);
        let large = arena.try_take(4 * MB).expect("what is not in use makes way");
        assert_eq!(arena.usage(), (4 * MB, 0));
        assert!(arena.try_take(5 * MB).is_none() && arena.try_take(u64::MAX).is_none());
        drop(large);
    }

    #[test]
    fn a_segment_is_found_by_its_place_while_it_is_in_use() {
        let arena = Arena::new(64 * MB).expect("the system gives memory");
        let segment = arena.try_take(MB).expect("there is room");
        let offset = segment.offset();
        assert_eq!(arena.find(offset).map(|found| found.offset()), Some(offset));
        assert!(arena.find(offset + 1).is_none());
        drop(segment);
        assert!(arena.find(offset).is_none());
    }

    #[test]
    fn memory_that_is_not_in_use_is_given_back() {
        let arena = Arena::new(64 * MB).expect("the system gives memory");
        let segment = arena.try_take(MB).expect("there is room");
        put(&segment, &[7; 5000]);
        drop(segment);
        assert_eq!(arena.usage(), (0, MB));
        arena.trim();
        assert_eq!(arena.usage(), (0, 0));
        let segment = arena.try_take(MB).expect("there is room");
        assert!(!segment.is_warm());
        assert_eq!(get(&segment, 5000), [0; 5000], "nothing of what was there is left");
    }

    #[test]
    fn what_is_pinned_is_not_given_out_while_a_child_may_look_at_it() {
        let arena = Arena::of_process().expect("the system gives memory");
        let (result, argument) = (arena.try_take(MB).expect("room"), arena.try_take(MB).expect("room"));
        result.mark_as_result();
        let (kept, freed) = (result.offset(), argument.offset());
        Arena::pin_results_of_process();
        drop((result, argument));
        assert!(arena.find(kept).is_some() && arena.find(freed).is_none());
        Arena::note_forked();
        arena.trim();
        assert!(arena.find(kept).is_none(), "there is no child");
    }

    #[test]
    fn nothing_is_read_or_written_beyond_a_segment() {
        let arena = Arena::new(64 * MB).expect("the system gives memory");
        let segment = arena.try_take(GRAIN).expect("there is room");
        let bytes = [1; 10];
        // SAFETY: the bytes are borrowed meanwhile, and nobody else knows the segment.
        let written = unsafe { segment.write(GRAIN - 9, bytes.as_ptr(), bytes.len()) };
        assert!(written.is_err());
        assert!(segment.read(GRAIN - 9, &mut [0; 10]).is_err());
        assert!(segment.view(GRAIN + 1).is_err());
    }
}
