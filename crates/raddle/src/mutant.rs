//! Deliberate faults, for the models alone: each removes one re-check or one ordering, and the model that should notice
//! it is run with it and must fail. Outside a model run every question is answered `false` at compile time.

/// A fault that a model must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A worker goes to sleep without looking at the queue under the lock.
    SleepWithoutLooking,
    /// A worker goes to sleep although the queue has been closed.
    SleepThroughClose,
    /// The standby takes a task and leaves the rest to nobody.
    DoNotPassTheRole,
    /// The standby takes a task and stays the standby on paper.
    KeepTheRole,
    /// A consumer of a batch sleeps without looking at its slot once more.
    SleepBesideAFullSlot,
    /// A slot's stamp is published without release ordering.
    RelaxedStamp,
    /// A lock that is released while somebody sleeps on it calls nobody.
    CallNobody,
    /// A thread goes to sleep on a lock without looking at it under the lock of the queue.
    SleepBesideAFreeLock,
    /// A lock is released without release ordering.
    RelaxedRelease,
    /// A thread that was called to a lock never arrives, on paper.
    StayOnTheWay,
    /// A thread sleeps without having registered its wait.
    SleepUnregistered,
    /// A producer publishes its tail without release ordering.
    RelaxedTail,
    /// A ringer looks at the doorbell without a fence after its work.
    RingWithoutFence,
    /// A sleeper looks for work without a fence after it has said that it sleeps.
    SleepWithoutFence,
    /// A sleeper does not look for work after it has said that it sleeps.
    SleepWithoutASecondLook,
    /// A worker publishes its wish for a segment without release ordering.
    RelaxedWish,
    /// A wish is made void after its answer: it may be the next by then.
    VoidAnAnsweredWish,
    /// A wish is answered though it has been withdrawn.
    AnswerAWithdrawnWish,
    /// A thread ends with a lock, and wakes nobody who waits for it.
    EndQuietly,
}

#[cfg(loom)]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    // loom runs the threads of a model as coroutines of one system thread.
    std::thread_local!(static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) });

    /// Runs `model` with one fault built in.
    pub(crate) fn with_mutant<R>(mutant: Mutant, model: impl FnOnce() -> R) -> R {
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                ACTIVE.set(None);
            }
        }
        ACTIVE.set(Some(mutant));
        let _reset = Reset;
        model()
    }

    pub(crate) fn is_mutant(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }
}

#[cfg(loom)]
pub(crate) use switch::is_mutant;
#[cfg(loom)]
pub(crate) use switch::with_mutant;

#[cfg(not(loom))]
pub(crate) const fn is_mutant(_: Mutant) -> bool {
    false
}
