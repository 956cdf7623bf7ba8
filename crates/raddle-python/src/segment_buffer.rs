//! Views of segments, as objects that export their memory; and who has such views (worker -> RESULT).
//!
//! Invariant: a segment is not used anew while there is a view of it: in the program a view holds its segment; of a worker's
//! views the program is told which are left when a task has ended, and when they are gone. A child of a fork has the views of
//! its parent and tells nobody: what can be seen at a fork is not used anew until that child is gone.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;

use raddle::os::fork_generation;
use raddle::process::arena::{Arena, Segment, View};
use raddle::process::lease::ForkMark;
use raddle::process::pins::Pins;
use raddle::process::worker::Holdings;

use crate::apart::export;
use crate::draft_buffer::freeze_drafts;
use crate::worker_side::part_from_child;

/// The most views and drafts that are mapped at a time. The system gives a process 65,530 mappings unless it is told otherwise, a segment
/// may have two, and where there are none left no memory can be had at all.
const MOST_MAPPED: usize = 1 << 14;

static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Whether one more may be mapped.
pub(crate) fn has_room_to_map() -> bool {
    MAPPED.load(Relaxed) < MOST_MAPPED
}

/// Counts one mapping while it is there.
pub(crate) struct CountedMapping(());

impl CountedMapping {
    pub(crate) fn new() -> Self {
        MAPPED.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for CountedMapping {
    fn drop(&mut self) {
        MAPPED.fetch_sub(1, Relaxed);
    }
}

/// What lies in a segment, as it is seen.
pub(crate) enum Content {
    Mapped(View, CountedMapping),
    /// It is written through views, so it is no longer looked at here.
    Copied(Vec<Cell<u8>>),
}

impl Content {
    pub(crate) fn mapped(view: View) -> Self {
        Self::Mapped(view, CountedMapping::new())
    }
}

// SAFETY: it gives out an address alone, and any thread may drop it.
unsafe impl Sync for Content {}

impl Content {
    fn start(&self) -> NonNull<u8> {
        match self {
            Self::Mapped(view, _) => view.start(),
            Self::Copied(bytes) => NonNull::from(&bytes[..]).cast(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Mapped(view, _) => view.len(),
            Self::Copied(bytes) => bytes.len(),
        }
    }
}

/// A view of a segment that somebody uses.
pub(crate) struct Seen {
    content: Content,
    generation: u32,
    holds: Holds,
}

/// What a view keeps from being used anew.
enum Holds {
    /// What has been copied keeps nothing.
    Nothing,
    /// The program's own segment, which is free when the last view is gone.
    Own { _segment: Segment },
    /// A segment of another process, by its place.
    Borrowed(u64),
}

impl Seen {
    pub(crate) fn of_program(content: Content, segment: Segment) -> Self {
        let holds = match content {
            Content::Mapped(..) => Holds::Own { _segment: segment },
            Content::Copied(_) => Holds::Nothing,
        };
        Self { content, generation: fork_generation(), holds }
    }

    pub(crate) fn of_worker(content: Content, place: u64) -> Self {
        let holds = match content {
            Content::Mapped(..) => {
                views().note_made(place);
                Holds::Borrowed(place)
            }
            Content::Copied(_) => Holds::Nothing,
        };
        Self { content, generation: fork_generation(), holds }
    }

    /// Where a part begins, if it lies within.
    pub(crate) fn part(&self, start: u64, length: u64) -> Option<NonNull<u8>> {
        let end = start.checked_add(length)?;
        if end > self.content.len() as u64 {
            return None;
        }
        // SAFETY: the content is as long as that.
        Some(unsafe { self.content.start().add(usize::try_from(start).ok()?) })
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if let Holds::Borrowed(place) = self.holds
            && self.generation == fork_generation()
        {
            views().note_dropped(place);
        }
    }
}

/// Of which segments of another process there are views in this one.
#[derive(Default)]
struct Views {
    generation: u32,
    /// By the place of the segment.
    seen: HashMap<u64, Viewed>,
    /// Those of which the program knows that there were views, and of which there are none any more.
    gone: Vec<u64>,
    /// Those of which children of forks have views too.
    pins: Pins<u64>,
}

#[derive(Default)]
struct Viewed {
    count: usize,
    /// The program knows.
    is_told: bool,
    /// So many forks have children that may look at it.
    pins: usize,
}

static VIEWS: Mutex<Option<Views>> = Mutex::new(None);

/// Held with the interpreter held alone, so that no fork of Python's comes in between.
struct Locked(MutexGuard<'static, Option<Views>>);

fn views() -> Locked {
    let mut views = VIEWS.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = fork_generation();
    if views.as_ref().is_none_or(|views| views.generation != generation) {
        // Those of the parent are its own affair, and nothing of them is to be dropped here.
        std::mem::forget(views.replace(Views { generation, ..Views::default() }));
    }
    Locked(views)
}

impl Locked {
    fn get(&mut self) -> &mut Views {
        self.0.get_or_insert_default()
    }

    fn note_made(&mut self, place: u64) {
        let views = self.get();
        let viewed = views.seen.entry(place).or_insert_with(|| {
            let before = views.gone.len();
            views.gone.retain(|gone| *gone != place);
            Viewed { is_told: views.gone.len() < before, ..Viewed::default() }
        });
        viewed.count += 1;
    }

    fn note_dropped(&mut self, place: u64) {
        let views = self.get();
        let Some(viewed) = views.seen.get_mut(&place) else { return };
        viewed.count -= 1;
        views.forget_unseen(place);
    }
}

/// In a worker: it keeps what it has computed in a segment of this place.
pub(crate) fn note_view_made(place: u64) {
    views().note_made(place);
}

/// It does so no more.
pub(crate) fn note_view_dropped(place: u64) {
    views().note_dropped(place);
}

impl Views {
    /// Of what nobody has a view any more the program is told.
    fn forget_unseen(&mut self, place: u64) {
        if self.seen.get(&place).is_none_or(|viewed| viewed.count > 0 || viewed.pins > 0) {
            return;
        }
        if self.seen.remove(&place).is_some_and(|viewed| viewed.is_told) {
            self.gone.push(place);
        }
    }
    /// Of what children of forks had, that are gone.
    fn unpin(&mut self) {
        let released = self.pins.take_released();
        for place in &released {
            if let Some(viewed) = self.seen.get_mut(place) {
                viewed.pins -= 1;
            }
            self.forget_unseen(*place);
        }
        if !released.is_empty() && self.seen.values().all(|viewed| viewed.pins == 0) {
            mark_forked(false);
        }
    }
}

/// In a worker: by what it says that it has forked; and in which generation of forks it is one.
static MARK: Mutex<Option<(u32, ForkMark)>> = Mutex::new(None);

pub(crate) fn take_mark(mark: ForkMark) {
    *MARK.lock().unwrap_or_else(PoisonError::into_inner) = Some((fork_generation(), mark));
}

fn mark_forked(has_children: bool) {
    let mark = MARK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, mark)) = mark.as_ref().filter(|(generation, _)| *generation == fork_generation()) {
        mark.set(has_children);
    }
}

/// In a worker: what has changed in what it has views of.
pub(crate) fn holdings() -> Holdings {
    let mut locked = views();
    let views = locked.get();
    if !views.pins.is_empty() {
        views.unpin();
    }
    let mut holdings = Holdings { dropped: std::mem::take(&mut views.gone), ..Holdings::default() };
    for (offset, viewed) in &mut views.seen {
        if !std::mem::replace(&mut viewed.is_told, true) {
            holdings.kept.push(*offset);
        }
    }
    holdings
}

/// Has what can be seen in the arena stay as it is: called before a fork, whose child sees it too.
#[pyfunction]
pub(crate) fn pin_views() {
    freeze_drafts();
    part_from_child();
    Arena::pin_results_of_process();
    let mut locked = views();
    let views = locked.get();
    views.unpin();
    if views.seen.is_empty() {
        return;
    }
    mark_forked(true);
    views.seen.values_mut().for_each(|viewed| viewed.pins += 1);
    views.pins.pin(views.seen.keys().copied().collect());
}

/// Called after a fork, in the parent: from now on it can be known when the child is gone.
#[pyfunction]
pub(crate) fn note_forked() {
    Arena::note_forked();
    views().get().pins.note_forked();
}

/// Bytes of this process's arena that are in use, and those kept for what comes.
#[pyfunction]
pub(crate) fn arena_usage() -> (u64, u64) {
    Arena::of_process().map_or((0, 0), |arena| arena.usage())
}

/// Changes how many bytes of this process's arena may be in use, from now on; the number before.
#[pyfunction]
pub(crate) fn limit_arena(most: u64) -> u64 {
    Arena::of_process().map_or(0, |arena| arena.set_limit(most))
}

/// A part of a segment.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct SegmentBuffer {
    seen: Arc<Seen>,
    start: NonNull<u8>,
    length: isize,
    access: Access,
}

/// What may be done with what lies in a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is the caller's own.
    Own,
    /// It is others' too, in this process: it is not written.
    ReadOnly,
}

// SAFETY: the address is that of a mapping that `seen` keeps; it is only handed on.
unsafe impl Send for SegmentBuffer {}
// SAFETY: as above.
unsafe impl Sync for SegmentBuffer {}

impl SegmentBuffer {
    /// `None`: it does not lie within.
    pub(crate) fn new(seen: &Arc<Seen>, start: u64, length: u64, access: Access) -> Option<Self> {
        let address = seen.part(start, length)?;
        Some(Self { seen: Arc::clone(seen), start: address, length: isize::try_from(length).ok()?, access })
    }
}

#[pymethods]
impl SegmentBuffer {
    /// # Safety
    /// `view` is what the interpreter gives.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let buffer = slf.get();
        debug_assert!(Arc::strong_count(&buffer.seen) > 0);
        let memory = (buffer.start.as_ptr().cast_const(), buffer.length.cast_unsigned());
        // SAFETY: as the interpreter gives them; the memory may be written, and lives as long as this object.
        unsafe { export(slf, memory, buffer.access == Access::ReadOnly, view, flags) }
    }

    fn __len__(&self) -> usize {
        self.length.cast_unsigned()
    }
}
