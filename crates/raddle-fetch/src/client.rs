//! What requests are sent with: a connector and the connections that it has made.

use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::{Position, Url};

use crate::connect::{ConnectFailed, Connector};
use crate::error::ErrorKind;
use crate::options::ClientOptions;
use crate::pool::{Connection, Pool, Streams};

/// Windows of HTTP/2, in bytes: a guess that lets one stream fill a fast, distant line.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// What is read from a connection at once, at most, and so the largest head. Pages of 100 KB still come in one piece; hyper's
/// own 408 KB were no faster, and half of them would lie idle beneath a page that is kept as it came.
pub(crate) const LARGEST_READ: usize = 128 << 10;

/// A connection of HTTP/2 that says nothing for so long is asked for a sign of life, and has so long to give one.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Connector and connections.
pub(crate) struct Client {
    pub(crate) connector: Connector,
    pub(crate) pool: Pool,
}

impl Client {
    /// # Errors
    /// What is wrong with the options.
    pub(crate) fn new(options: &ClientOptions) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self { connector: Connector::new(options)?, pool: Pool::default() }))
    }

    /// A new connection, or one that another request has just opened and shares.
    pub(crate) async fn connect(&self, url: &Url) -> Result<Connection, ConnectFailed> {
        if url.scheme() == "http" {
            return self.open(url).await;
        }
        let origin = origin(url);
        let Some(gate) = self.pool.gate(origin) else { return self.open(url).await };
        let held = gate.lock().await;
        if let Some((known, _)) = self.pool.take(origin) {
            return Ok(known);
        }
        if self.pool.gate(origin).is_none() {
            drop(held); // the one before found HTTP/1.1: from now on everyone connects at once
        }
        self.open(url).await
    }

    async fn open(&self, url: &Url) -> Result<Connection, ConnectFailed> {
        let opened = self.connector.open(url).await?;
        let failed = |error: hyper::Error| ConnectFailed {
            kind: ErrorKind::Connection,
            detail: format!("the connection broke before the first request ({error})"),
            may_pass: true,
            lacks_files: false,
        };
        if opened.is_http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                // Until the server has said how many streams it allows, which comes with its first word.
                .initial_max_send_streams(1)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(opened.stream)
                .await
                .map_err(failed)?;
            let streams = Arc::<Streams>::default();
            let (allowed, mut connection) = (Arc::clone(&streams), Box::pin(connection));
            tokio::spawn(std::future::poll_fn(move |context| {
                let ended = connection.as_mut().poll(context);
                allowed.allow(connection.current_max_send_streams());
                ended
            }));
            return Ok(self.pool.share(origin(url), sender, streams));
        }
        let (sender, connection) = http1::Builder::new()
            .allow_obsolete_multiline_headers_in_responses(true)
            .max_buf_size(LARGEST_READ)
            .handshake(opened.stream)
            .await
            .map_err(failed)?;
        tokio::spawn(connection);
        if url.scheme() == "https" {
            self.pool.note_http1(origin(url));
        }
        Ok(Connection::Http1(sender))
    }
}

/// `scheme://host:port` as it stands in a URL without user and password.
pub(crate) fn origin(url: &Url) -> &str {
    &url[..Position::AfterPort]
}
