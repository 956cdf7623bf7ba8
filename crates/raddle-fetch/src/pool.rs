//! Connections between requests: kept open, handed out newest first.
//!
//! Only the thread that drives the session touches them, so the lock is never waited for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::Either;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;

pub(crate) type Body = Full<Bytes>;
type Sent = Result<http::Response<Incoming>, TrySendError<http::Request<Body>>>;

/// Connections that may rest at least, whatever the concurrency.
const LEAST: usize = 16;
/// Origins after which those with nothing left are looked for.
const ORIGINS: usize = 4096;

/// How long a connection may rest. Servers close theirs after 5 to 120 s; one that they have closed costs one attempt.
const REST: Duration = Duration::from_secs(60);

/// How often a request that waits for a stream looks whether the server allows more of them by now.
const LOOK: Duration = Duration::from_millis(10);

/// A connection that one request can be sent on.
pub(crate) enum Connection {
    /// One request at a time: nobody else has it.
    Http1(http1::SendRequest<Body>),
    /// A handle of a connection that many share, and a place on it once there is one.
    Http2(http2::SendRequest<Body>, Arc<Streams>, Option<Place>),
}

/// The streams that are open on a shared connection.
#[derive(Default)]
pub(crate) struct Streams {
    open: AtomicUsize,
    /// As many as the server allows; one until it has said so.
    allowed: AtomicUsize,
    freed: Notify,
}

impl Streams {
    /// Takes note of how many streams the server allows.
    pub(crate) fn allow(&self, streams: usize) {
        if self.allowed.swap(streams, Relaxed) < streams {
            self.freed.notify_waiters();
        }
    }
}

/// One of the streams that a server allows.
pub(crate) struct Place(Arc<Streams>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
        self.0.freed.notify_one();
    }
}

impl Connection {
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Connection::Http2(..))
    }

    /// Waits until a request can be sent.
    pub(crate) async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Connection::Http1(sender) => sender.ready().await,
            Connection::Http2(sender, ..) => sender.ready().await,
        }
    }

    /// Sends a request, and waits for the head of its answer. An error has the request in it if it was not sent.
    pub(crate) fn send(&mut self, request: http::Request<Body>) -> impl Future<Output = Sent> {
        match self {
            Connection::Http1(sender) => Either::Left(sender.try_send_request(request)),
            Connection::Http2(sender, ..) => Either::Right(sender.try_send_request(request)),
        }
    }

    /// Waits until the server allows one more stream; false if the connection ended meanwhile.
    pub(crate) async fn admit(&mut self) -> bool {
        let Connection::Http2(sender, streams, place) = self else { return true };
        // Only the thread that drives the session counts: nothing comes between the look and the step.
        while streams.open.load(Relaxed) >= streams.allowed.load(Relaxed).max(1) {
            if sender.is_closed() {
                return false;
            }
            let _ = tokio::time::timeout(LOOK, streams.freed.notified()).await;
        }
        streams.open.fetch_add(1, Relaxed);
        *place = Some(Place(Arc::clone(streams)));
        true
    }
}

/// The connections to one origin.
#[derive(Default)]
struct Origin {
    resting: Vec<(http1::SendRequest<Body>, Instant)>,
    shared: Option<Shared>,
    /// Held by the one that finds out what the server speaks, so that HTTP/2 gets one connection and not many.
    first: Arc<tokio::sync::Mutex<()>>,
    speaks_http1: bool,
}

struct Shared {
    sender: http2::SendRequest<Body>,
    streams: Arc<Streams>,
    used: Instant,
}

impl Shared {
    fn is_of_use(&self) -> bool {
        let is_busy = self.streams.open.load(Relaxed) > 0;
        !self.sender.is_closed() && (is_busy || self.used.elapsed() < REST)
    }
}

/// All connections of one client, by origin (`scheme://host:port`).
pub(crate) struct Pool {
    table: Mutex<Table>,
}

struct Table {
    origins: HashMap<Box<str>, Origin>,
    /// Resting connections, and how many there may be: each holds a file descriptor.
    resting: usize,
    most: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self { table: Mutex::new(Table { origins: HashMap::new(), resting: 0, most: LEAST }) }
    }
}

impl Table {
    fn of(&mut self, origin: &str) -> &mut Origin {
        if !self.origins.contains_key(origin) {
            if self.origins.len() >= ORIGINS {
                self.tidy();
            }
            self.origins.insert(origin.into(), Origin::default());
        }
        self.origins.entry(origin.into()).or_default()
    }

    /// Drops the connection that has rested longest.
    fn drop_oldest(&mut self) {
        let oldest = self.origins.values_mut().filter(|entry| !entry.resting.is_empty());
        // The oldest of an origin is its first: the newest is taken first.
        if let Some(entry) = oldest.min_by_key(|entry| entry.resting[0].1) {
            entry.resting.remove(0);
            self.resting -= 1;
        }
    }

    fn tidy(&mut self) {
        self.origins.retain(|_, entry| {
            entry.resting.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < REST);
            entry.shared = entry.shared.take().filter(Shared::is_of_use);
            // Whoever holds the gate must find it again.
            !entry.resting.is_empty() || entry.shared.is_some() || Arc::strong_count(&entry.first) > 1
        });
        self.resting = self.origins.values().map(|entry| entry.resting.len()).sum();
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how many requests go at a time: twice as many connections may rest, but in a quarter of the file descriptors that
    /// this process may have.
    pub(crate) fn expect(&self, concurrency: usize) {
        let files =
            getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| most.try_into().unwrap_or(usize::MAX));
        self.lock().most = concurrency.saturating_mul(2).max(LEAST).min(files / 4);
    }

    /// A connection that rests or can be shared, and for how long it has rested.
    pub(crate) fn take(&self, origin: &str) -> Option<(Connection, Duration)> {
        let mut table = self.lock();
        let Table { origins, resting, .. } = &mut *table;
        let entry = origins.get_mut(origin)?;
        if let Some(shared) = &mut entry.shared {
            if shared.is_of_use() {
                shared.used = Instant::now();
                let connection = Connection::Http2(shared.sender.clone(), Arc::clone(&shared.streams), None);
                return Some((connection, Duration::ZERO));
            }
            entry.shared = None;
        }
        while let Some((sender, since)) = entry.resting.pop() {
            *resting -= 1;
            let rest = since.elapsed();
            if !sender.is_closed() && rest < REST {
                return Some((Connection::Http1(sender), rest));
            }
        }
        None
    }

    /// Gives back a connection whose answer has been read whole.
    pub(crate) fn rest(&self, origin: &str, connection: Connection) {
        let Connection::Http1(sender) = connection else { return };
        if sender.is_closed() {
            return;
        }
        let mut table = self.lock();
        while table.resting > 0 && table.resting >= table.most {
            table.drop_oldest();
        }
        table.of(origin).resting.push((sender, Instant::now()));
        table.resting += 1;
    }

    /// Lets others share a new connection of HTTP/2.
    pub(crate) fn share(&self, origin: &str, sender: http2::SendRequest<Body>, streams: Arc<Streams>) -> Connection {
        let shared = Shared { sender: sender.clone(), streams: Arc::clone(&streams), used: Instant::now() };
        self.lock().of(origin).shared = Some(shared);
        Connection::Http2(sender, streams, None)
    }

    /// Lets nobody more share a connection on which a server did not answer in time: it may be dead.
    pub(crate) fn doubt(&self, origin: &str, connection: &Connection) {
        let Connection::Http2(_, streams, _) = connection else { return };
        let mut table = self.lock();
        if let Some(entry) = table.origins.get_mut(origin) {
            entry.shared = entry.shared.take().filter(|shared| !Arc::ptr_eq(&shared.streams, streams));
        }
    }

    /// Remembers that a server speaks HTTP/1.1 only: each request may open a connection of its own at once.
    pub(crate) fn note_http1(&self, origin: &str) {
        self.lock().of(origin).speaks_http1 = true;
    }

    /// The gate that the first to connect holds; `None` if it is known that connections are not shared.
    pub(crate) fn gate(&self, origin: &str) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let mut table = self.lock();
        let entry = table.of(origin);
        (!entry.speaks_http1).then(|| Arc::clone(&entry.first))
    }

    /// Drops what rests for an origin: where one connection was stale, its elders are too.
    pub(crate) fn forget(&self, origin: &str) {
        let mut table = self.lock();
        if let Some(entry) = table.origins.get_mut(origin) {
            let dropped = std::mem::take(&mut entry.resting);
            table.resting -= dropped.len();
        }
    }

    /// Drops all that rests.
    pub(crate) fn forget_all(&self) {
        let mut table = self.lock();
        table.origins.values_mut().for_each(|entry| entry.resting.clear());
        table.resting = 0;
    }

    /// Drops what has rested too long or was closed, and the origins that have nothing left.
    pub(crate) fn tidy(&self) {
        self.lock().tidy();
    }
}
