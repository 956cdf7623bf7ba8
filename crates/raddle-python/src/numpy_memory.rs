//! NumPy's memory in a worker (WORKER -> result): large arrays that a task makes lie where its result is sent from.
//!
//! A data allocator of NumPy's (its enhancement proposal 49): what is large comes from the program's arena while a task runs on
//! the thread that serves; all else from the allocator that was there before. An array keeps the allocator it was made with,
//! and NumPy keeps one for each context.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::worker_side;

/// What is smaller comes from where it came from before: a copy of it costs no more than to ask for a segment and to map it.
const LEAST: usize = 1 << 20;
/// What is larger, too: it counts as held, though much of it may never be touched.
const MOST: usize = 1 << 28;
/// The same for memory that is to hold zeros, which otherwise costs nothing until it is written.
const MOST_ZEROS: usize = 1 << 26;

/// The places of functions in NumPy's table, which stay where they are in all of its versions.
const FEATURE_VERSION: usize = 211;
const SET_HANDLER: usize = 304;
const GET_HANDLER: usize = 305;
/// That of NumPy 1.22, the first to have allocators.
const LEAST_FEATURE_VERSION: u32 = 0xf;

const CAPSULE: &CStr = c"mem_handler";

/// NumPy's `PyDataMemAllocator`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Allocator {
    context: *mut c_void,
    malloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    calloc: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    realloc: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, *mut c_void, usize),
}

/// NumPy's `PyDataMem_Handler`.
#[repr(C)]
struct Handler {
    name: [c_char; 127],
    version: u8,
    allocator: Allocator,
}

// SAFETY: the contexts are those of allocators that serve any thread.
unsafe impl Send for Handler {}
// SAFETY: as above.
unsafe impl Sync for Handler {}

/// What there is of NumPy in this process, once it is loaded.
struct Numpy {
    set_handler: SetHandler,
    /// What NumPy is given.
    capsule: Py<PyAny>,
    /// The allocator that was there before.
    before: Handler,
    /// Holds `before` alive.
    _before: Py<PyAny>,
}

static NUMPY: OnceLock<Numpy> = OnceLock::new();

/// Whether [`NUMPY`] is there: looked at with each task.
static IS_LOADED: AtomicBool = AtomicBool::new(false);

/// Between these lies all that was ever given out.
static LOWEST: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread serves, and a task runs.
    static IS_COMPUTING: Cell<bool> = const { Cell::new(false) };
    /// NumPy has the allocator in the context in which this thread runs tasks.
    static IS_SET: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, large arrays that are made on this thread come from the arena.
pub(crate) struct Computing {
    was_computing: bool,
}

impl Computing {
    pub(crate) fn begin(py: Python<'_>) -> Self {
        let was_computing = IS_COMPUTING.replace(true);
        if IS_LOADED.load(Relaxed)
            && !IS_SET.replace(true)
            && let Some(numpy) = NUMPY.get()
        {
            numpy.set(py);
        }
        Self { was_computing }
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        IS_COMPUTING.set(self.was_computing);
    }
}

/// Has the large arrays of a worker's tasks lie in its program's arena, if this NumPy can do that; whether it can. `table` is the
/// capsule of NumPy's functions for C.
#[pyfunction]
pub(crate) fn compute_in_arena(table: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = table.py();
    if NUMPY.get().is_none() {
        let Some(numpy) = Numpy::find(table)? else { return Ok(false) };
        let _ = NUMPY.set(numpy);
        IS_LOADED.store(true, Relaxed);
    }
    // In the context of whoever has loaded it, whose task may go on for long.
    if let Some(numpy) = NUMPY.get() {
        numpy.set(py);
    }
    Ok(true)
}

/// NumPy's functions for C.
struct Functions(NonNull<*const c_void>);

type GetHandler = unsafe extern "C" fn() -> *mut ffi::PyObject;
type SetHandler = unsafe extern "C" fn(*mut ffi::PyObject) -> *mut ffi::PyObject;

impl Functions {
    fn of(table: &Bound<'_, PyAny>) -> PyResult<Self> {
        // SAFETY: the interpreter is held; NumPy's capsule has no name, and what is none gives NULL with an exception set.
        let functions = unsafe { ffi::PyCapsule_GetPointer(table.as_ptr(), std::ptr::null()) };
        NonNull::new(functions.cast()).map(Self).ok_or_else(|| PyErr::fetch(table.py()))
    }

    /// Those that get and set the allocator, if this NumPy has them.
    fn handlers(&self) -> Option<(GetHandler, SetHandler)> {
        // SAFETY: the table has this function in all versions of NumPy, and it takes nothing.
        let version = unsafe {
            let version: unsafe extern "C" fn() -> u32 = std::mem::transmute(*self.0.as_ptr().add(FEATURE_VERSION));
            version()
        };
        if version < LEAST_FEATURE_VERSION {
            return None;
        }
        // SAFETY: from that version on the table has these, with these types.
        Some(unsafe {
            let get: GetHandler = std::mem::transmute(*self.0.as_ptr().add(GET_HANDLER));
            let set: SetHandler = std::mem::transmute(*self.0.as_ptr().add(SET_HANDLER));
            (get, set)
        })
    }
}

impl Numpy {
    /// `None`: this NumPy has no allocators, or one is set of a kind that is not known here.
    fn find(table: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = table.py();
        let Some((get_handler, set_handler)) = Functions::of(table)?.handlers() else { return Ok(None) };
        // SAFETY: the interpreter is held; the call gives a new reference, or NULL with an exception set.
        let capsule_before = unsafe { Bound::from_owned_ptr_or_err(py, get_handler()) }?;
        // SAFETY: as above; such a capsule has this name, and holds a handler.
        let before = unsafe { ffi::PyCapsule_GetPointer(capsule_before.as_ptr(), CAPSULE.as_ptr()) };
        let before = NonNull::new(before.cast::<Handler>()).ok_or_else(|| PyErr::fetch(py))?;
        // SAFETY: the capsule is held from here on, and its handler with it.
        let before = unsafe { before.as_ptr().read() };
        if before.version != 1 {
            return Ok(None);
        }
        // SAFETY: the handler lives as long as the process, and so does the name.
        let capsule = unsafe {
            let handler = std::ptr::from_ref(&HANDLER).cast_mut().cast();
            Bound::from_owned_ptr_or_err(py, ffi::PyCapsule_New(handler, CAPSULE.as_ptr(), None))
        }?;
        Ok(Some(Self { set_handler, capsule: capsule.unbind(), before, _before: capsule_before.unbind() }))
    }

    /// Gives NumPy the allocator, in this context.
    fn set(&self, py: Python<'_>) {
        // SAFETY: the interpreter is held, and the capsule is one of a handler. The call gives a new reference to what was there
        // before, or NULL with an exception set.
        match unsafe { Bound::from_owned_ptr_or_err(py, (self.set_handler)(self.capsule.as_ptr())) } {
            Ok(before) => drop(before),
            // Then arrays are copied.
            Err(error) => error.write_unraisable(py, None),
        }
    }
}

static HANDLER: Handler = Handler {
    name: named(b"raddle"),
    version: 1,
    allocator: Allocator { context: std::ptr::null_mut(), malloc, calloc, realloc, free },
};

const fn named(name: &[u8]) -> [c_char; 127] {
    let mut chars = [0; 127];
    let mut at = 0;
    while at < name.len() {
        chars[at] = name[at].cast_signed();
        at += 1;
    }
    chars
}

fn before() -> Allocator {
    // It is set before NumPy is given this allocator.
    NUMPY.get().expect("NumPy has been looked at").before.allocator
}

/// So many bytes of the arena, and whether they are zeros; `None`: it is not for this.
fn allocate(bytes: usize, most: usize) -> Option<(NonNull<u8>, bool)> {
    if !(LEAST..=most).contains(&bytes) || !IS_COMPUTING.get() {
        return None;
    }
    let (start, is_zero) = worker_side::serving()?.allocate(bytes)?;
    LOWEST.fetch_min(start.as_ptr() as usize, Relaxed);
    HIGHEST.fetch_max(start.as_ptr() as usize, Relaxed);
    Some((start, is_zero))
}

/// The same address, if something of the arena may begin there.
fn possibly_ours(place: *mut c_void) -> Option<NonNull<u8>> {
    let address = place as usize;
    let is_possible = (LOWEST.load(Relaxed)..=HIGHEST.load(Relaxed)).contains(&address);
    NonNull::new(place.cast()).filter(|_| is_possible)
}

unsafe extern "C" fn malloc(_: *mut c_void, bytes: usize) -> *mut c_void {
    match allocate(bytes, MOST) {
        Some((start, _)) => start.as_ptr().cast(),
        // SAFETY: as NumPy calls this.
        None => unsafe { (before().malloc)(before().context, bytes) },
    }
}

unsafe extern "C" fn calloc(_: *mut c_void, count: usize, each: usize) -> *mut c_void {
    let bytes = count.saturating_mul(each);
    match allocate(bytes, MOST_ZEROS) {
        Some((start, is_zero)) => {
            if !is_zero {
                // SAFETY: so many bytes have just been given out here, and nobody else has them.
                unsafe { start.write_bytes(0, bytes) };
            }
            start.as_ptr().cast()
        }
        // SAFETY: as NumPy calls this.
        None => unsafe { (before().calloc)(before().context, count, each) },
    }
}

unsafe extern "C" fn realloc(_: *mut c_void, place: *mut c_void, bytes: usize) -> *mut c_void {
    let owned = possibly_ours(place).and_then(|start| Some((start, worker_side::owner_of(start)?)));
    let Some((start, (side, length, most))) = owned else {
        // SAFETY: as NumPy calls this; the memory is of that allocator.
        return unsafe { (before().realloc)(before().context, place, bytes) };
    };
    if bytes <= most {
        side.resize(start, bytes);
        return place;
    }
    // SAFETY: as NumPy calls this.
    let longer = unsafe { malloc(std::ptr::null_mut(), bytes) };
    if !longer.is_null() {
        // SAFETY: the first is `length` bytes long, the second is longer; they are different memory. The first is NumPy's to give
        // up.
        unsafe {
            std::ptr::copy_nonoverlapping(start.as_ptr(), longer.cast(), length);
            free(std::ptr::null_mut(), place, length);
        }
    }
    longer
}

unsafe extern "C" fn free(_: *mut c_void, place: *mut c_void, bytes: usize) {
    if possibly_ours(place).is_none_or(|start| !worker_side::release(start)) {
        // SAFETY: as NumPy calls this; the memory is of that allocator.
        unsafe { (before().free)(before().context, place, bytes) };
    }
}
