//! The locks, threads and counter of Rust programs, and the deadlocks that they name.
#![cfg(not(loom))]

use std::process::Command;
use std::sync::mpsc::channel;
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

/// Runs `body` in a process of its own, where it is the only test, or is one there: for what would harm others.
fn alone(test: &str, body: impl FnOnce()) {
    const MARK: &str = "RADDLE_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let this = std::env::current_exe().expect("a test knows its own program");
    let run = Command::new(this).args([test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, "1").output();
    let run = run.expect("a test can start its own program");
    let (said, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("1 passed"), "{test} on its own: {said}{errors}");
}

/// Forks; `look` runs in the child, which does nothing else, and must not panic.
///
/// # Safety
/// No other thread of the process does anything that the child has to do too: it may hold a lock that it needs.
unsafe fn in_forked_child(look: impl FnOnce()) {
    // SAFETY: the caller's promise.
    match unsafe { libc::fork() } {
        -1 => panic!("the system does not fork: {}", std::io::Error::last_os_error()),
        0 => {
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
            // SAFETY: it ends the process and runs nothing of it before.
            unsafe { libc::_exit(looked.is_err().into()) }
        }
        child => {
            let mut status = -1;
            // SAFETY: the status has its place, and the child is this process's own, not waited for yet.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!((waited, status), (child, 0), "the child has seen what it should");
        }
    }
}

#[test]
fn what_a_fork_finds_locked_by_another_thread_is_never_free_in_the_child() {
    alone("what_a_fork_finds_locked_by_another_thread_is_never_free_in_the_child", || {
        let (lock, reentrant) = (Arc::new(Lock::new(1)), Arc::new(RLock::new(1)));
        let ((holds, held), (release, released)) = (channel(), channel::<()>());
        let (own_lock, own_reentrant) = (Arc::clone(&lock), Arc::clone(&reentrant));
        let holder = spawn("holder", move || {
            let mut value = own_lock.acquire().expect("free");
            let _also = own_reentrant.acquire().expect("free");
            *value = 2;
            holds.send(()).expect("the test waits for it");
            released.recv().expect("the test says so");
            *value = 1;
        });
        held.recv().expect("the holder has both");
        let look = || {
            // The value may be half changed, as here.
            assert_eq!(lock.acquire().map(drop), Err(LockError::HolderEnded));
            assert_eq!(reentrant.acquire().map(drop), Err(LockError::HolderEnded));
            assert!(lock.try_acquire().is_none());
            assert!(lock.acquire_timeout(Duration::from_millis(1)).is_none());
        };
        // SAFETY: the other thread of the process sleeps in `recv`, or is on its way there and allocates at most: for that the
        // C library prepares each fork.
        unsafe { in_forked_child(look) };
        release.send(()).expect("the holder waits for it");
        holder.result().expect("it does not panic");
        assert_eq!((*lock.acquire().expect("free"), *reentrant.acquire().expect("free")), (1, 1));
    });
}

#[test]
fn what_the_forking_thread_has_locked_is_its_own_in_the_child() {
    alone("what_the_forking_thread_has_locked_is_its_own_in_the_child", || {
        let (lock, other) = (Lock::new(1), Lock::new(2));
        let mut guard = Some(lock.acquire().expect("free"));
        let look = || {
            assert!(matches!(lock.acquire().map(drop), Err(LockError::Deadlock(_))));
            assert_eq!(*other.acquire().expect("free"), 2);
            drop(guard.take());
            assert_eq!(*lock.acquire().expect("the child has released its own"), 1);
        };
        // SAFETY: the process has no other thread that does anything.
        unsafe { in_forked_child(look) };
        assert!(lock.try_acquire().is_none(), "what the child releases is not the parent's");
    });
}
