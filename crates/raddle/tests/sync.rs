//! The locks, threads and counter of Rust programs, and the deadlocks that they name.
#![cfg(not(loom))]

use std::sync::{Arc, Barrier};
use std::time::Duration;

use raddle::sync::{Counter, Lock, LockError, RLock, Thread};
use raddle::{TaskError, ThreadPoolExecutor};

fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Thread<T> {
    Thread::spawn(name, body).expect("the system starts a thread")
}

#[test]
fn no_addition_under_a_lock_is_lost() {
    let (lock, counter) = (Arc::new(Lock::new(0_u64)), Arc::new(Counter::new(0)));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let (lock, counter) = (Arc::clone(&lock), Arc::clone(&counter));
            spawn(&format!("adder-{n}"), move || {
                for _ in 0..20_000 {
                    *lock.acquire().expect("there is one lock") += 1;
                    counter.add(1).expect("it fits");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.result().expect("it does not panic"));
    assert_eq!((*lock.acquire().expect("free"), counter.value()), (160_000, 160_000));
    assert_eq!(lock.statistics().acquisitions, 160_001);
}

#[test]
fn two_locks_in_opposite_orders_are_told_to_one_thread() {
    let locks = [Arc::new(Lock::with_name((), "a")), Arc::new(Lock::with_name((), "b"))];
    let both_have_one = Arc::new(Barrier::new(2));
    let threads = [("first", 0, 1), ("second", 1, 0)].map(|(name, mine, others)| {
        let (mine, others) = (Arc::clone(&locks[mine]), Arc::clone(&locks[others]));
        let barrier = Arc::clone(&both_have_one);
        spawn(name, move || {
            let _mine = mine.acquire().expect("nobody else wants it yet");
            barrier.wait();
            others.acquire().map(drop)
        })
    });
    let ends = threads.map(|thread| thread.result().expect("it does not panic"));
    let told: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
    let [LockError::Deadlock(deadlock)] = told[..] else { panic!("one thread is told: {ends:?}") };
    let text = deadlock.to_string();
    for part in ["thread first waits for lock \"b\"", "thread second waits for lock \"a\"", file!()] {
        assert!(text.contains(part), "{part:?} is in {text:?}");
    }
}

#[test]
fn a_pool_whose_workers_wait_for_its_queue_is_told() {
    let pool = Arc::new(ThreadPoolExecutor::new(2));
    let both_begun = Arc::new(Barrier::new(2));
    let outer: Vec<_> = (0..2)
        .map(|n| {
            let (own_pool, barrier) = (Arc::clone(&pool), Arc::clone(&both_begun));
            pool.submit(move || {
                barrier.wait();
                own_pool.submit(move || n).result()
            })
        })
        .collect();
    let ends: Vec<_> = outer.into_iter().map(|future| future.result().expect("it does not panic")).collect();
    assert_eq!(ends.iter().filter(|end| matches!(end, Err(TaskError::Deadlock(_)))).count(), 1, "{ends:?}");
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1, "{ends:?}");
}

#[test]
fn a_map_whose_items_need_the_lock_of_its_consumer_is_told() {
    let (pool, lock) = (ThreadPoolExecutor::new(4), Arc::new(Lock::new(())));
    let guard = lock.acquire().expect("free");
    let items: Vec<_> = {
        let lock = Arc::clone(&lock);
        pool.map(0..2, move |_| lock.acquire().map(drop)).collect()
    };
    drop(guard);
    let told = |item: &Result<Result<(), LockError>, TaskError>| {
        matches!(item, Err(TaskError::Deadlock(_)) | Ok(Err(LockError::Deadlock(_))))
    };
    assert!(items.iter().any(told), "{items:?}");
}

#[test]
fn a_wait_with_a_limit_is_no_deadlock() {
    let lock = Arc::new(Lock::new(()));
    let guard = lock.acquire().expect("free");
    assert!(lock.acquire_timeout(Duration::from_millis(1)).is_none(), "this thread has it");
    let other = {
        let lock = Arc::clone(&lock);
        spawn("other", move || lock.acquire_timeout(Duration::from_millis(1)).is_none())
    };
    assert_eq!(other.result(), Ok(true));
    drop(guard);
}

#[test]
fn a_holder_that_has_ended_is_told() {
    let lock = Arc::new(Lock::new(()));
    let own = Arc::clone(&lock);
    let holder = spawn("holder", move || std::mem::forget(own.acquire().expect("free")));
    holder.result().expect("it does not panic");
    assert_eq!(lock.acquire().map(drop), Err(LockError::HolderEnded));
}

#[test]
fn an_rlock_is_free_when_it_was_released_as_often() {
    let lock = Arc::new(RLock::with_name(1, "r"));
    let outer = lock.acquire().expect("free");
    drop(lock.acquire().expect("this thread has it"));
    let other = {
        let lock = Arc::clone(&lock);
        spawn("other", move || *lock.acquire().expect("it is released in the end"))
    };
    drop(outer);
    assert_eq!(other.result(), Ok(1));
}

#[test]
fn a_panic_of_a_thread_is_its_error() {
    let thread = spawn("faulty", || panic!("no such file"));
    assert_eq!(thread.result(), Err::<(), _>(TaskError::Panicked("no such file".into())));
}
