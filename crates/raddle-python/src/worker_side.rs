//! What a worker has of its program's arena: views of arguments, room for results, and memory to compute in (TRANSPORT ->
//! WORKER -> result).

use std::fs::File;
use std::io::Write;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use pyo3::prelude::*;

use raddle::os::fork_generation;
use raddle::process::arena::{Lease, ProgramArena};
use raddle::process::lease::{Lender, Wish};
use raddle::process::worker::Holdings;
use raddle::process::workspace::{Released, Settled, Workspace};

use crate::apart::{Parts, copying, lock};
use crate::segment_buffer::{note_view_dropped, note_view_made};

pub(crate) struct WorkerSide {
    arena: Mutex<ProgramArena>,
    lender: OnceLock<Mutex<Lender>>,
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
    let sides = lock(&SIDES).clone();
    sides.iter().rev().any(|side| side.release(start))
}

/// The one that has given out what begins here.
pub(crate) fn owner_of(start: NonNull<u8>) -> Option<Arc<WorkerSide>> {
    let sides = lock(&SIDES).clone();
    sides.into_iter().rev().find(|side| lock(&side.workspace).length(start).is_some())
}

/// Before a fork: what this process and its child write, neither sees of the other.
pub(crate) fn part_from_child() {
    let Some(side) = serving() else { return };
    // Where the system refuses it, the child shares the memory, which nothing here can change.
    let kept = lock(&side.workspace).part(&side.arena()).unwrap_or_default();
    kept.into_iter().for_each(note_view_made);
}

impl WorkerSide {
    /// For the process that serves from now on.
    pub(crate) fn begin(arena: ProgramArena, bell: File) -> Arc<Self> {
        let side = Arc::new(Self {
            arena: Mutex::new(arena),
            lender: OnceLock::new(),
            workspace: Mutex::default(),
            bell,
            generation: fork_generation(),
        });
        lock(&SIDES).push(Arc::clone(&side));
        side
    }

    pub(crate) fn take_lender(&self, lender: Lender) {
        // There is one seat, so there is one lender.
        let _ = self.lender.set(Mutex::new(lender));
    }

    pub(crate) fn arena(&self) -> MutexGuard<'_, ProgramArena> {
        lock(&self.arena)
    }

    fn lease(&self, wish: Wish) -> Option<Lease> {
        let mut ring = || drop((&self.bell).write(&1_u64.to_ne_bytes()));
        lock(self.lender.get()?).lease(wish, &mut ring)
    }

    /// Copies parts into a segment that the program lends for the next reply: its place.
    pub(crate) fn put(&self, py: Python<'_>, parts: &Parts<'_>) -> Option<u64> {
        let total = parts.total();
        let lease = py.detach(|| self.lease(Wish::to_send(total)))?;
        copying(py, total, || {
            let mut arena = self.arena();
            for (start, part) in parts.placed() {
                // SAFETY: a part is borrowed memory, which stays where it is.
                unsafe { arena.write(&lease, start, part.start(), part.len()) }.ok()?;
            }
            Some(lease.offset)
        })
    }

    /// Memory to compute in, on the thread that serves, and whether it holds zeros alone. The program answers though this keeps the
    /// interpreter: it needs none.
    pub(crate) fn allocate(&self, bytes: usize) -> Option<(NonNull<u8>, bool)> {
        let mut workspace = lock(&self.workspace);
        let given = match workspace.take_spare(bytes) {
            Some(start) => (start, false),
            None => {
                let has_room = workspace.has_room();
                let lease = has_room.then(|| self.lease(Wish::to_work_in(bytes as u64))).flatten()?;
                workspace.take(&mut self.arena(), lease, bytes).ok()?
            }
        };
        self.note_in_use(&workspace);
        Some(given)
    }

    fn note_in_use(&self, workspace: &Workspace) {
        if let Some(lender) = self.lender.get() {
            lock(lender).note_in_use(workspace.in_use());
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

    /// How long memory was asked for that begins here, and how long it can become.
    pub(crate) fn length(&self, start: NonNull<u8>) -> Option<(usize, usize)> {
        lock(&self.workspace).length(start)
    }

    /// Notes how long memory is wanted from now on.
    pub(crate) fn resize(&self, start: NonNull<u8>, bytes: usize) {
        lock(&self.workspace).resize(start, bytes);
    }

    /// Where a piece of memory lies, if the reply that is being made can name it: see [`Workspace::name`].
    pub(crate) fn name(&self, start: *const u8, bytes: usize) -> Option<(u64, u64, u64)> {
        let is_here = self.generation == fork_generation();
        is_here.then(|| lock(&self.workspace).name(start as usize, bytes)).flatten()
    }

    /// A task has ended: adds to what has changed in what this worker keeps.
    pub(crate) fn settle(&self, holdings: impl FnOnce() -> Holdings) -> Holdings {
        let settled = lock(&self.workspace).settle(&mut self.arena());
        let Ok(Settled { kept, returned }) = settled else {
            // The program would see what this process writes later. It learns that the worker has died.
            eprintln!("raddle: a worker has no room for one more memory mapping (vm.max_map_count); it ends");
            std::process::abort();
        };
        kept.into_iter().for_each(note_view_made);
        let mut holdings = holdings();
        holdings.dropped.extend(returned);
        holdings
    }
}
