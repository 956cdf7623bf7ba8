//! Models of the lock's protocol and of the look for a circle, each also with a fault built in that it must find.

use std::sync::Arc;
use std::time::Instant;

use loom::cell::UnsafeCell;
use loom::thread;

use super::raw_lock::{RawLock, Woken};
use crate::models::{assert_caught, explore};
use crate::mutant::Mutant;
use crate::os;
use crate::waits::{Awaited, Description, Look, ThreadNumber, Waits};

/// A lock as something to wait for.
struct Core(RawLock);

impl Awaited for Core {
    fn held_up_by(&self, look: &Look<'_>) -> Option<Vec<ThreadNumber>> {
        self.0.held_up_by(look)
    }

    fn describe(&self) -> Description {
        Description { what: "a lock".into(), taken_at: None }
    }
}

/// A graph, and threads in it that are numbered by hand: in a model all run on one thread of the system.
struct World(Waits);

impl World {
    fn with_threads(count: u64) -> Arc<Self> {
        let waits = Waits::new();
        (1..=count).for_each(|number| waits.thread_begins(Self::number(number), number));
        Arc::new(Self(waits))
    }

    fn number(counter: u64) -> ThreadNumber {
        ThreadNumber::in_generation(counter, os::fork_generation())
    }

    /// As a lock does it, in the part of thread `me`.
    fn acquire(&self, me: ThreadNumber, core: &Arc<Core>) -> Woken {
        self.acquire_until(me, core, None)
    }

    fn acquire_until(&self, me: ThreadNumber, core: &Arc<Core>, deadline: Option<Instant>) -> Woken {
        if core.0.try_acquire(me) {
            return Woken::Acquired;
        }
        let attempt = core.0.attempt(me);
        let watch = || Arc::clone(core) as Arc<dyn Awaited>;
        loop {
            match attempt.wait_in(&self.0, deadline, deadline.is_none().then_some(&watch)) {
                Woken::Look if attempt.try_acquire() => return Woken::Acquired,
                Woken::Look => {}
                other => return other,
            }
        }
    }

    fn release(&self, me: ThreadNumber, core: &Core) {
        core.0.release_in(Some(&self.0), me).expect("the thread has the lock");
    }
}

/// Two threads add to a value that only the lock protects; one comes twice, so that it may be called and come too late.
fn nobody_is_forgotten_and_no_two_are_in() {
    let world = World::with_threads(2);
    let core = Arc::new(Core(RawLock::new()));
    let value = Arc::new(UnsafeCell::new(0));
    let add = |world: &World, me, times| {
        for _ in 0..times {
            assert_eq!(world.acquire(me, &core), Woken::Acquired);
            // SAFETY: the lock is held; if it did not exclude the others, loom would see two accesses at once.
            value.with_mut(|place| unsafe { *place += 1 });
            world.release(me, &core);
        }
    };
    let other = {
        let (world, core, value) = (Arc::clone(&world), Arc::clone(&core), Arc::clone(&value));
        thread::spawn(move || {
            let me = World::number(2);
            assert_eq!(world.acquire(me, &core), Woken::Acquired);
            // SAFETY: as above.
            value.with_mut(|place| unsafe { *place += 1 });
            world.release(me, &core);
        })
    };
    add(&world, World::number(1), 2);
    other.join().expect("it does not panic");
    // SAFETY: the other thread has ended.
    assert_eq!(value.with(|place| unsafe { *place }), 3);
    assert!(core.0.holder().is_none());
}

#[test]
fn a_lock_excludes_and_wakes() {
    explore(nobody_is_forgotten_and_no_two_are_in);
}

#[test]
fn calling_nobody_is_caught() {
    assert_caught("sync::models::calling_nobody_is_caught", Mutant::CallNobody, nobody_is_forgotten_and_no_two_are_in);
}

#[test]
fn sleeping_beside_a_free_lock_is_caught() {
    assert_caught(
        "sync::models::sleeping_beside_a_free_lock_is_caught",
        Mutant::SleepBesideAFreeLock,
        nobody_is_forgotten_and_no_two_are_in,
    );
}

#[test]
fn a_release_without_release_ordering_is_caught() {
    assert_caught(
        "sync::models::a_release_without_release_ordering_is_caught",
        Mutant::RelaxedRelease,
        nobody_is_forgotten_and_no_two_are_in,
    );
}

/// Three threads come once each: one may be on its way while another waits on.
fn three_come_and_go() {
    let world = World::with_threads(3);
    let core = Arc::new(Core(RawLock::new()));
    let come = |world: &World, core: &Arc<Core>, number| {
        let me = World::number(number);
        assert_eq!(world.acquire(me, core), Woken::Acquired);
        world.release(me, core);
    };
    let others: Vec<_> = (2..=3)
        .map(|number| {
            let (world, core) = (Arc::clone(&world), Arc::clone(&core));
            thread::spawn(move || come(&world, &core, number))
        })
        .collect();
    come(&world, &core, 1);
    come(&world, &core, 1);
    others.into_iter().for_each(|other| other.join().expect("it does not panic"));
}

#[test]
fn who_waits_behind_one_on_the_way_is_woken() {
    explore(three_come_and_go);
}

#[test]
fn staying_on_the_way_is_caught() {
    assert_caught("sync::models::staying_on_the_way_is_caught", Mutant::StayOnTheWay, three_come_and_go);
}

/// Two threads come for a lock that a third has; one of them gives up, which may be just as it is called. Its deadline has
/// passed when it comes: a model has no time, but between its place in the queue and its leaving all can happen.
fn one_gives_up() {
    let world = World::with_threads(3);
    let core = Arc::new(Core(RawLock::new()));
    assert_eq!(world.acquire(World::number(1), &core), Woken::Acquired);
    let deadlines = [(2, Some(Instant::now())), (3, None)];
    let others = deadlines.map(|(number, deadline)| {
        let (world, core) = (Arc::clone(&world), Arc::clone(&core));
        thread::spawn(move || {
            let me = World::number(number);
            match world.acquire_until(me, &core, deadline) {
                Woken::Acquired => world.release(me, &core),
                other => assert_eq!((other, deadline.is_some()), (Woken::TimedOut, true)),
            }
        })
    });
    world.release(World::number(1), &core);
    others.into_iter().for_each(|other| other.join().expect("it does not panic"));
    assert!(core.0.holder().is_none());
}

#[test]
fn a_call_to_one_that_gives_up_is_not_lost() {
    explore(one_gives_up);
}

#[test]
fn giving_up_on_the_way_is_caught() {
    assert_caught("sync::models::giving_up_on_the_way_is_caught", Mutant::StayOnTheWay, one_gives_up);
}

/// Takes two locks one after the other; in a deadlock, lets go of the first. Tells whether it got the error.
fn take_both(world: &World, me: ThreadNumber, first: &Arc<Core>, second: &Arc<Core>) -> bool {
    assert_eq!(world.acquire(me, first), Woken::Acquired);
    let woken = world.acquire(me, second);
    let is_deadlock = match &woken {
        Woken::Acquired => {
            world.release(me, second);
            false
        }
        Woken::Deadlock(deadlock) => {
            let circle: Vec<_> = deadlock.links().iter().map(|link| link.thread).collect();
            assert_eq!((circle.len(), circle[0]), (2, me), "both threads, the one that is told first");
            true
        }
        other => panic!("nobody ends the wait: {other:?}"),
    };
    world.release(me, first);
    is_deadlock
}

/// One of the two is told of the circle, if there is one, and both end.
fn opposite_orders_end_for_both() {
    let world = World::with_threads(2);
    let locks = [Arc::new(Core(RawLock::new())), Arc::new(Core(RawLock::new()))];
    let other = {
        let (world, [a, b]) = (Arc::clone(&world), locks.clone());
        thread::spawn(move || take_both(&world, World::number(2), &b, &a))
    };
    let mine = take_both(&world, World::number(1), &locks[0], &locks[1]);
    let others = other.join().expect("it does not panic");
    assert!(!(mine && others), "one of them goes on");
}

#[test]
fn a_circle_of_two_is_told_to_one() {
    explore(opposite_orders_end_for_both);
}

#[test]
fn sleeping_unregistered_is_caught() {
    assert_caught(
        "sync::models::sleeping_unregistered_is_caught",
        Mutant::SleepUnregistered,
        opposite_orders_end_for_both,
    );
}

/// The holder ends without releasing, before or while another waits.
fn the_end_of_a_holder_is_told() {
    let world = World::with_threads(2);
    let core = Arc::new(Core(RawLock::new()));
    assert_eq!(world.acquire(World::number(1), &core), Woken::Acquired);
    let waiter = {
        let (world, core) = (Arc::clone(&world), Arc::clone(&core));
        thread::spawn(move || world.acquire(World::number(2), &core))
    };
    world.0.thread_ended(World::number(1));
    assert_eq!(waiter.join().expect("it does not panic"), Woken::HolderEnded);
}

#[test]
fn a_holder_that_ends_is_told_to_who_waits() {
    explore(the_end_of_a_holder_is_told);
}

#[test]
fn ending_quietly_is_caught() {
    assert_caught("sync::models::ending_quietly_is_caught", Mutant::EndQuietly, the_end_of_a_holder_is_told);
}
