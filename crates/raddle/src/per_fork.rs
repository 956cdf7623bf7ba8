//! Values that each process of a family of forks has anew: in a child, the threads that hold a lock are not there.

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::os;

/// A static value that is made when it is first asked for, and made anew in a child of a fork. What the parent had stays
/// as it was, unseen and never freed.
#[derive(Debug)]
pub(crate) struct PerFork<T>(AtomicPtr<OfGeneration<T>>);

#[derive(Debug)]
struct OfGeneration<T> {
    generation: u32,
    value: T,
}

impl<T: Default + Sync> PerFork<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    pub(crate) fn get(&'static self) -> &'static T {
        let present = self.0.load(Ordering::Acquire);
        // SAFETY: the pointer is null or comes from the leaked box below, which is never freed.
        match unsafe { present.as_ref() } {
            Some(held) if held.generation == os::fork_generation() => &held.value,
            _ => self.replace(present),
        }
    }

    #[cold]
    fn replace(&'static self, old: *mut OfGeneration<T>) -> &'static T {
        let made = OfGeneration { generation: os::fork_generation(), value: T::default() };
        let made = Box::into_raw(Box::new(made));
        match self.0.compare_exchange(old, made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it comes from a box that is leaked from here on.
            Ok(_) => unsafe { &(*made).value },
            Err(others) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: what another thread put there comes from a leaked box too.
                unsafe { &(*others).value }
            }
        }
    }
}
