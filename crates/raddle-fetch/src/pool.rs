//! Connections between requests: kept open, handed out newest first.
//!
//! Only the thread that drives the session touches them, so the lock is never waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};

pub(crate) type Body = Full<Bytes>;

/// How long a connection may rest. Servers close theirs after 5 to 120 s; one that they have closed costs one attempt.
const REST: Duration = Duration::from_secs(60);

/// A connection that one request can be sent on.
pub(crate) enum Connection {
    /// One request at a time: nobody else has it.
    Http1(http1::SendRequest<Body>),
    /// A handle of a connection that many share.
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Connection::Http2(_))
    }
}

/// The connections to one origin.
#[derive(Default)]
struct Origin {
    resting: Vec<(http1::SendRequest<Body>, Instant)>,
    shared: Option<http2::SendRequest<Body>>,
    /// Held by the one that finds out what the server speaks, so that HTTP/2 gets one connection and not many.
    first: Arc<tokio::sync::Mutex<()>>,
    speaks_http1: bool,
}

/// All connections of one client, by origin (`scheme://host:port`).
#[derive(Default)]
pub(crate) struct Pool {
    origins: Mutex<HashMap<Box<str>, Origin>>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Origin>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that rests or can be shared, and for how long it has rested.
    pub(crate) fn take(&self, origin: &str) -> Option<(Connection, Duration)> {
        let mut origins = self.lock();
        let entry = origins.get_mut(origin)?;
        if let Some(shared) = &entry.shared {
            if !shared.is_closed() {
                return Some((Connection::Http2(shared.clone()), Duration::ZERO));
            }
            entry.shared = None;
        }
        while let Some((sender, since)) = entry.resting.pop() {
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
        let mut origins = self.lock();
        match origins.get_mut(origin) {
            Some(entry) => entry.resting.push((sender, Instant::now())),
            None => {
                let entry = Origin { resting: vec![(sender, Instant::now())], ..Origin::default() };
                origins.insert(origin.into(), entry);
            }
        }
    }

    /// Lets others share a new connection of HTTP/2.
    pub(crate) fn share(&self, origin: &str, sender: http2::SendRequest<Body>) {
        self.lock().entry(origin.into()).or_default().shared = Some(sender);
    }

    /// Remembers that a server speaks HTTP/1.1 only: each request may open a connection of its own at once.
    pub(crate) fn note_http1(&self, origin: &str) {
        self.lock().entry(origin.into()).or_default().speaks_http1 = true;
    }

    /// The gate that the first to connect holds; `None` if it is known that connections are not shared.
    pub(crate) fn gate(&self, origin: &str) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let mut origins = self.lock();
        let entry = origins.entry(origin.into()).or_default();
        (!entry.speaks_http1).then(|| Arc::clone(&entry.first))
    }

    /// Drops what rests for an origin: where one connection was stale, its elders are too.
    pub(crate) fn forget(&self, origin: &str) {
        if let Some(entry) = self.lock().get_mut(origin) {
            entry.resting.clear();
        }
    }

    /// Drops what has rested too long or was closed, and the origins that have nothing left.
    pub(crate) fn tidy(&self) {
        self.lock().retain(|_, entry| {
            entry.resting.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < REST);
            entry.shared = entry.shared.take().filter(|shared| !shared.is_closed());
            !entry.resting.is_empty() || entry.shared.is_some()
        });
    }
}
