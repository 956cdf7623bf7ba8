//! What a worker has of its program's arena: views of arguments, room for results, and memory to compute in (TRANSPORT ->
//! WORKER -> result).

use std::fs::File;
use std::io::Write;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use raddle::os::fork_generation;
use raddle::process::arena::{Lease, ProgramArena};
use raddle::process::lease::{Lender, UsageMark, Wish};
use raddle::process::worker::Holdings;
use raddle::process::workspace::{Released, Settled, Spot, Workspace};

use crate::apart::{Parts, copying, lock};
use crate::segment_buffer::{note_view_dropped, note_view_made};

/// So long a task waits for memory to compute in. Mostly there is an answer after some microseconds; but the program may be held up
/// by a callback of the user's, which may wait for that very task.
const PATIENCE: Duration = Duration::from_millis(20);

pub(crate) struct WorkerSide {
    arena: Mutex<ProgramArena>,
    lender: OnceLock<(Mutex<Lender>, UsageMark)>,
    /// The program has answered in time since the last task.
    is_answered: AtomicBool,
    /// Taken with the interpreter held, and never for longer than that: so no fork finds it taken.
    workspace: Mutex<Workspace>,
    /// By what the program is woken where it does not wait for replies.
    bell: File,
    /// Of the process that serves the seat.
    generation: u32,
}

/// Those of this process; the last is the one that serves. A worker that was forked off another has that one's too.
static SIDES: Mutex<Vec<Arc<WorkerSide>>> = Mutex::new(Vec::new());

/// The one that serves in this process, if one does.
pub(crate) fn serving() -> Option<Arc<WorkerSide>> {
    let side = lock(&SIDES).last().cloned()?;
    (side.generation == fork_generation()).then_some(side)
}

/// Takes back memory that was given out in this process, or in one that it was forked off; `false`: this was not.
pub(crate) fn release(start: NonNull<u8>) -> bool {
    lock(&SIDES).iter().rev().any(|side| side.release(start))
}

/// The one that has given out what begins here, how long that was asked for, and how long it can become.
pub(crate) fn owner_of(start: NonNull<u8>) -> Option<(Arc<WorkerSide>, usize, usize)> {
    let sides = lock(&SIDES);
    sides.iter().rev().find_map(|side| {
        let (length, most) = lock(&side.workspace).length(start)?;
        Some((Arc::clone(side), length, most))
    })
}

/// Before a fork: what this process and its child write, neither sees of the other.
pub(crate) fn part_from_child() {
    let Some(side) = serving() else { return };
    let mut workspace = lock(&side.workspace);
    let kept = workspace.part_all(&side.arena());
    side.note_in_use(&workspace);
    drop(workspace);
    kept.into_iter().for_each(note_view_made);
}

impl WorkerSide {
    /// For the process that serves from now on.
    pub(crate) fn begin(arena: ProgramArena, bell: File) -> Arc<Self> {
        let side = Arc::new(Self {
            arena: Mutex::new(arena),
            lender: OnceLock::new(),
            is_answered: AtomicBool::new(true),
            workspace: Mutex::default(),
            bell,
            generation: fork_generation(),
        });
        lock(&SIDES).push(Arc::clone(&side));
        side
    }

    pub(crate) fn take_lender(&self, lender: Lender) {
        let mark = lender.usage_mark();
        // There is one seat, so there is one lender.
        let _ = self.lender.set((Mutex::new(lender), mark));
    }

    pub(crate) fn arena(&self) -> MutexGuard<'_, ProgramArena> {
        lock(&self.arena)
    }

    fn lease(&self, wish: Wish, within: Option<Duration>) -> Option<Lease> {
        let mut ring = || drop((&self.bell).write(&1_u64.to_ne_bytes()));
        lock(&self.lender.get()?.0).lease(wish, within, &mut ring)
    }

    /// Asks for memory to compute in; not again in this task when there was no answer.
    fn lease_to_work_in(&self, bytes: usize) -> Option<Lease> {
        if !self.is_answered.load(Relaxed) {
            return None;
        }
        let asked = Instant::now();
        let lease = self.lease(Wish::to_work_in(bytes as u64), Some(PATIENCE));
        self.is_answered.store(lease.is_some() || asked.elapsed() < PATIENCE, Relaxed);
        lease
    }

    /// Copies parts into a segment that the program lends for the next reply: its place.
    pub(crate) fn put(&self, py: Python<'_>, parts: &Parts<'_>) -> Option<u64> {
        let total = parts.total();
        let lease = py.detach(|| self.lease(Wish::to_send(total), None))?;
        copying(py, total, || {
            let mut arena = self.arena();
            for (start, part) in parts.placed() {
                // SAFETY: a part is borrowed memory, which stays where it is.
                unsafe { arena.write(&lease, start, part.start(), part.len()) }.ok()?;
            }
            Some(lease.offset)
        })
    }

    /// Memory to compute in, on the thread that serves, and whether it holds zeros alone. It keeps the interpreter meanwhile, as
    /// NumPy expects it; the program needs none of this process's to answer.
    pub(crate) fn allocate(&self, bytes: usize) -> Option<(NonNull<u8>, bool)> {
        let mut workspace = lock(&self.workspace);
        let given = match workspace.take_spare(bytes) {
            Some(start) => (start, false),
            None => {
                let has_room = workspace.has_room();
                let lease = has_room.then(|| self.lease_to_work_in(bytes)).flatten()?;
                workspace.take(&mut self.arena(), lease, bytes).ok()?
            }
        };
        self.note_in_use(&workspace);
        Some(given)
    }

    fn note_in_use(&self, workspace: &Workspace) {
        if let Some((_, mark)) = self.lender.get() {
            mark.set(workspace.in_use());
        }
    }

    fn release(&self, start: NonNull<u8>) -> bool {
        let mut workspace = lock(&self.workspace);
        if self.generation != fork_generation() {
            return workspace.abandon(start);
        }
        let Some(released) = workspace.release(&mut self.arena(), start) else { return false };
        self.note_in_use(&workspace);
        drop(workspace);
        if let Released::Kept(place) = released {
            note_view_dropped(place);
        }
        true
    }

    /// Notes how long memory is wanted from now on.
    pub(crate) fn resize(&self, start: NonNull<u8>, bytes: usize) {
        let mut workspace = lock(&self.workspace);
        workspace.resize(start, bytes);
        self.note_in_use(&workspace);
    }

    /// Where a piece of memory lies, if the reply that is being made can name it: see [`Workspace::name`].
    pub(crate) fn name(&self, start: *const u8, bytes: usize) -> Option<Spot> {
        let is_here = self.generation == fork_generation();
        is_here.then(|| lock(&self.workspace).name(start as usize, bytes)).flatten()
    }

    /// What the reply names is not written any more, though code of the user's is going to run that has it; `false`: it cannot
    /// be named then.
    pub(crate) fn part_named(&self) -> bool {
        let mut workspace = lock(&self.workspace);
        let is_parted = workspace.part_named(&self.arena()).is_ok();
        self.note_in_use(&workspace);
        is_parted
    }

    /// The reply names nothing.
    pub(crate) fn forget_names(&self) {
        lock(&self.workspace).forget_names();
    }

    /// A task has ended: adds to what has changed in what this worker keeps.
    pub(crate) fn settle(&self, holdings: impl FnOnce() -> Holdings) -> Holdings {
        self.is_answered.store(true, Relaxed);
        let mut workspace = lock(&self.workspace);
        let settled = workspace.settle(&mut self.arena());
        self.note_in_use(&workspace);
        drop(workspace);
        let Ok(Settled { kept, emptied, returned }) = settled else {
            // The program would see what this process writes later. It learns that the worker has died.
            eprintln!("raddle: a worker has no room for one more memory mapping (vm.max_map_count); it ends");
            std::process::abort();
        };
        kept.into_iter().for_each(note_view_made);
        let mut holdings = holdings();
        holdings.emptied.extend(emptied);
        holdings.dropped.extend(returned);
        holdings
    }
}
