//! An event loop with its connections, kept between calls and driven by whichever thread calls.
//!
//! Invariants: a session is used by one thread at a time, and never by a child of the process that made it: the child
//! would share the parent's sockets. What is idle lies on one stack; nothing runs while nobody calls.

use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::options::{ClientOptions, Proxy};

/// Idle sessions that are kept: as many as threads that fetch at the same time, within reason.
const KEPT: usize = 64;
/// An idle session is dropped after this time, with its connections.
const LONGEST_REST: Duration = Duration::from_secs(120);
/// After a rest like this a session drops the connections that the servers have closed.
const SHORT_REST: Duration = Duration::from_secs(1);
/// Turns of the event loop in which a session that rested learns what has happened to its connections: one to ask the
/// system, one for the connections to look, and one to spare for a session with many.
const LOOKS: usize = 3;
/// Threads that look up names: the system's resolver blocks, and one slow name holds one thread.
const LOOKUP_THREADS: usize = 16;
const LOOKUP_THREAD_REST: Duration = Duration::from_secs(2);
/// Looks at the stack before it is done without: a lock that was held during a fork stays held in the child.
const TRIES: u32 = 1000;

static IDLE: Mutex<Vec<Session>> = Mutex::new(Vec::new());

/// What two calls must agree in to share connections.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    options: ClientOptions,
    environment: Vec<Option<std::ffi::OsString>>,
}

impl Key {
    fn of(options: &ClientOptions) -> Self {
        const NAMES: [&str; 9] = [
            "REQUEST_METHOD",
            "ALL_PROXY",
            "all_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "HTTPS_PROXY",
            "https_proxy",
            "NO_PROXY",
            "no_proxy",
        ];
        let asks = options.proxy == Proxy::Environment;
        let environment = if asks { NAMES.iter().map(std::env::var_os).collect() } else { Vec::new() };
        Self { options: options.clone(), environment }
    }
}

/// An event loop and a client.
pub(crate) struct Session {
    runtime: Option<Runtime>,
    client: Arc<Client>,
    key: Key,
    generation: u32,
    rested: Instant,
}

impl Session {
    /// An idle session for these options, or a new one.
    ///
    /// # Errors
    /// What is wrong with the options, or that the system has no means for an event loop.
    pub(crate) fn take(options: &ClientOptions) -> Result<Self, Error> {
        let key = Key::of(options);
        let idle = with_idle(|idle| {
            let place = idle.iter().rposition(|session| session.key == key && session.is_ours())?;
            Some(idle.remove(place))
        });
        match idle.flatten() {
            Some(session) => {
                session.look_around();
                Ok(session)
            }
            None => Self::new(key),
        }
    }

    fn new(key: Key) -> Result<Self, Error> {
        let client = Client::new(&key.options).map_err(|detail| Error::new(ErrorKind::InvalidRequest, "", detail))?;
        // Idle sessions have file descriptors, which may be what is missing.
        let runtime = event_loop().or_else(|_| {
            drop(with_idle(std::mem::take));
            event_loop()
        });
        let runtime = runtime.map_err(|error| {
            let detail = format!("the system has no room for an event loop ({error}): close files, or raise ulimit -n");
            Error::new(ErrorKind::System, "", detail)
        })?;
        let generation = raddle::os::fork_generation();
        Ok(Self { runtime: Some(runtime), client, key, generation, rested: Instant::now() })
    }

    /// Whether this process made it.
    fn is_ours(&self) -> bool {
        self.generation == raddle::os::fork_generation()
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Drives the event loop until `work` is done.
    pub(crate) fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        let runtime = self.runtime.as_ref().expect("a session has its event loop until it is dropped");
        runtime.block_on(work)
    }

    /// Lets the event loop learn which connections were closed while nobody drove it.
    fn look_around(&self) {
        // Each time the loop asks the system what has come, without waiting, and then lets the connections look at it.
        self.drive(async {
            for _ in 0..LOOKS {
                tokio::task::yield_now().await;
            }
        });
        if self.rested.elapsed() > SHORT_REST {
            self.client.pool.tidy();
        }
    }

    /// Lays the session on the stack for the next call.
    pub(crate) fn put_back(mut self) {
        if !self.is_ours() {
            return;
        }
        self.rested = Instant::now();
        let mut given = Some(self);
        // What the stack gives up is dropped after its lock is let go.
        let dropped = with_idle(|idle| {
            let mut dropped = Vec::new();
            let (kept, old) =
                idle.drain(..).partition(|session| session.is_ours() && session.rested.elapsed() < LONGEST_REST);
            *idle = kept;
            dropped.extend::<Vec<Session>>(old);
            idle.extend(given.take());
            if idle.len() > KEPT {
                dropped.push(idle.remove(0));
            }
            dropped
        });
        drop((dropped, given));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if self.is_ours() {
            // A name that is being looked up must not hold up the caller.
            runtime.shutdown_background();
        } else {
            // The parent's event loop and sockets: whatever we did to them, the parent would feel.
            std::mem::forget((runtime, Arc::clone(&self.client)));
        }
    }
}

fn event_loop() -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(LOOKUP_THREADS)
        .thread_keep_alive(LOOKUP_THREAD_REST)
        .thread_name("raddle-lookup")
        .build()
}

/// Works on the stack; `None` if it cannot be had.
fn with_idle<T>(work: impl FnOnce(&mut Vec<Session>) -> T) -> Option<T> {
    for _ in 0..TRIES {
        match IDLE.try_lock() {
            Ok(mut idle) => return Some(work(&mut idle)),
            Err(TryLockError::Poisoned(poisoned)) => return Some(work(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
    None
}
