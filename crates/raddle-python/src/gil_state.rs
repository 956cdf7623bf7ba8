//! Who holds the interpreter lock, read without taking it, from any thread.
//!
//! Up to CPython 3.11 a function of the interpreter tells the thread state that holds the lock. In 3.12 that is known to the
//! holding thread alone. From 3.13 on the interpreter begins with a table for debuggers that says where things lie; it is
//! believed if it has the version of the interpreter that runs.

use std::ops::Range;

#[cfg(not(any(Py_3_12, Py_GIL_DISABLED)))]
mod door {
    use super::Range;

    unsafe extern "C" {
        fn _PyThreadState_UncheckedGet() -> *mut pyo3::ffi::PyThreadState;
        static _PyRuntime: u8;
    }

    /// The lock lies among the first fields of the runtime, which has no other futex: its other locks lie elsewhere.
    const NEAR: usize = 4096;

    pub(super) fn is_known() -> bool {
        true
    }

    pub(super) fn holder() -> usize {
        // SAFETY: it reads one word of the runtime, atomically, which is there as long as the process.
        unsafe { _PyThreadState_UncheckedGet() }.addr()
    }

    pub(super) fn memory() -> Option<Range<usize>> {
        let start = (&raw const _PyRuntime).addr();
        Some(start..start + NEAR)
    }
}

#[cfg(all(Py_3_13, not(Py_GIL_DISABLED)))]
mod door {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::Relaxed};

    use super::Range;

    unsafe extern "C" {
        static _PyRuntime: u8;
    }

    /// Words of the table, in the layout of 3.13: the cookie, the version, and where things lie.
    const COOKIE: [u8; 8] = *b"xdebugpy";
    const VERSION: usize = 1;
    const INTERPRETERS_HEAD: usize = 5;
    const GIL: usize = 15;
    const GIL_LOCKED: usize = 17;
    const GIL_HOLDER: usize = 18;
    /// The lock with its condition variables; what lies behind it in the interpreter has no futex.
    const LOCK_BYTES: usize = 256;
    /// More than an interpreter has.
    const MOST_BYTES: u64 = 1 << 24;

    struct Places {
        locked: usize,
        holder: usize,
        memory: Range<usize>,
    }

    fn word(index: usize) -> u64 {
        let table = (&raw const _PyRuntime).cast::<u64>();
        // SAFETY: the runtime begins with the table, which has more words than are asked for and does not change; of a
        // version that is not known, no more than its first two words are.
        unsafe { table.add(index).read() }
    }

    fn places() -> Option<&'static Places> {
        static PLACES: OnceLock<Option<Places>> = OnceLock::new();
        PLACES.get_or_init(find).as_ref()
    }

    fn find() -> Option<Places> {
        // SAFETY: a variable of the interpreter, constant.
        let running = u64::try_from(unsafe { pyo3::ffi::Py_Version }).ok()?;
        if word(0).to_ne_bytes() != COOKIE || word(VERSION) != running || running >> 16 != 0x030d {
            return None;
        }
        let offsets = [INTERPRETERS_HEAD, GIL, GIL_LOCKED, GIL_HOLDER].map(word);
        if offsets.iter().any(|offset| *offset == 0 || *offset > MOST_BYTES || offset % 4 != 0) {
            return None;
        }
        let [head, gil, locked, holder] = offsets.map(|offset| offset as usize);
        let head = (&raw const _PyRuntime).wrapping_add(head).cast::<AtomicUsize>();
        // SAFETY: there the runtime has the pointer to its first interpreter, the last that goes.
        let interpreter = unsafe { &*head }.load(Relaxed);
        (interpreter != 0).then(|| Places {
            locked: interpreter + locked,
            holder: interpreter + holder,
            memory: interpreter + gil..interpreter + gil + LOCK_BYTES,
        })
    }

    pub(super) fn is_known() -> bool {
        places().is_some()
    }

    pub(super) fn holder() -> usize {
        let Some(places) = places() else { return 0 };
        let locked = std::ptr::with_exposed_provenance::<AtomicI32>(places.locked);
        let holder = std::ptr::with_exposed_provenance::<AtomicU64>(places.holder);
        // SAFETY: the main interpreter's lock lies there as long as the process; its words are read as the interpreter reads
        // and writes them, atomically.
        let (locked, holder) = unsafe { ((*locked).load(Relaxed), (*holder).load(Relaxed)) };
        if locked == 1 { holder as usize } else { 0 }
    }

    pub(super) fn memory() -> Option<Range<usize>> {
        places().map(|places| places.memory.clone())
    }
}

#[cfg(any(Py_GIL_DISABLED, all(Py_3_12, not(Py_3_13))))]
mod door {
    use super::Range;

    pub(super) fn is_known() -> bool {
        false
    }

    pub(super) fn holder() -> usize {
        0
    }

    pub(super) fn memory() -> Option<Range<usize>> {
        None
    }
}

/// Whether it can be told.
pub(crate) fn is_known() -> bool {
    door::is_known()
}

/// The address of the thread state that holds the lock; 0: none.
pub(crate) fn holder() -> usize {
    door::holder()
}

/// Where the lock lies: a thread that sleeps on a word there waits for it.
pub(crate) fn memory() -> Option<Range<usize>> {
    door::memory()
}
