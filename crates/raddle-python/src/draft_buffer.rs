//! Memory of arrays that lie in the arena from the start, as objects that export it; and which memory that is (submit).
//!
//! Whoever pickles a buffer asks by its address whether it lies in such memory: then it is sent as a snapshot of that segment
//! instead of a copy.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::ffi;
use pyo3::prelude::*;

use raddle::os::fork_generation;
use raddle::process::arena::{Arena, Segment};
use raddle::process::draft::Draft;

use crate::apart::{Exported, LEAST_APART, export};
use crate::segment_buffer::{CountedMapping, has_room_to_map};

/// The drafts of this process, by their addresses, and of which generation of forks it is.
static DRAFTS: Mutex<(u32, BTreeMap<usize, Weak<Draft>>)> = Mutex::new((0, BTreeMap::new()));

/// Held with the interpreter held alone, so that no fork of Python's comes in between.
fn drafts() -> MutexGuard<'static, (u32, BTreeMap<usize, Weak<Draft>>)> {
    let mut drafts = DRAFTS.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = fork_generation();
    if drafts.0 != generation {
        // Those of the parent are private copies here, and in no arena of this process.
        *drafts = (generation, BTreeMap::new());
    }
    drafts
}

/// The draft in which a piece of memory lies, and where in it.
fn find(start: usize, bytes: usize) -> Option<(Arc<Draft>, usize)> {
    let drafts = drafts();
    let (address, draft) = drafts.1.range(..=start).next_back()?;
    let draft = draft.upgrade()?;
    let at = start - address;
    (at.checked_add(bytes)? <= draft.len()).then_some((draft, at))
}

/// A piece of memory as a part of a segment, which stays as it is: how long what lies in the segment is, and where the piece
/// begins. `None`: it lies in none, or has been written since it was sent.
pub(crate) fn snapshot(arena: &Arena, memory: &Exported) -> Option<(Segment, u64, u64)> {
    let (draft, at) = find(memory.start() as usize, memory.len())?;
    let segment = draft.segment().is_of(arena).then(|| draft.snapshot(at, memory.len())).flatten()?;
    Some((segment, draft.len() as u64, at as u64))
}

/// Before a fork: what the program and its child write from then on, neither sees of the other.
pub(crate) fn freeze_drafts() {
    let live: Vec<_> = drafts().1.values().filter_map(Weak::upgrade).collect();
    for draft in live {
        // Where the system refuses it, the child shares the memory, which nothing here can change.
        let _ = draft.freeze();
    }
}

/// Whether all memory of an object lies in the arena of this process.
#[pyfunction]
pub(crate) fn lies_in_arena(object: &Bound<'_, PyAny>) -> bool {
    Exported::whole(object).is_ok_and(|memory| find(memory.start() as usize, memory.len()).is_some())
}

/// Memory in the arena that is written where it lies.
#[pyclass(module = "raddle._native", frozen)]
pub(crate) struct DraftBuffer {
    draft: Arc<Draft>,
    generation: u32,
    _counted: CountedMapping,
}

#[pymethods]
impl DraftBuffer {
    /// So many bytes of any content; None: they are few, or there is no room for them.
    #[staticmethod]
    fn make(py: Python<'_>, bytes: usize) -> Option<Self> {
        if bytes < LEAST_APART || !has_room_to_map() {
            return None;
        }
        let arena = Arena::of_process()?;
        let draft = py.detach(|| Draft::new(&arena, bytes).ok().flatten())?;
        let draft = Arc::new(draft);
        drafts().1.insert(draft.start().as_ptr() as usize, Arc::downgrade(&draft));
        Some(Self { draft, generation: fork_generation(), _counted: CountedMapping::new() })
    }

    /// # Safety
    /// `view` is what the interpreter gives.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let draft = &slf.get().draft;
        // SAFETY: as the interpreter gives them; the memory may be written, and lives as long as this object.
        unsafe { export(slf, (draft.start().as_ptr(), draft.len()), false, view, flags) }
    }

    fn __len__(&self) -> usize {
        self.draft.len()
    }
}

impl Drop for DraftBuffer {
    fn drop(&mut self) {
        if self.generation == fork_generation() {
            drafts().1.remove(&(self.draft.start().as_ptr() as usize));
        }
    }
}
