//! What can go wrong with one request, told so that the reader knows what happened, where, and what to do.
//!
//! Invariant: an [`Error`] belongs to one request, and never ends a batch.

use std::fmt;
use std::time::Duration;

/// The part of an exchange that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Finding the host's address, connecting to it, and the TLS handshake.
    Connect,
    /// From the moment the request was sent to the last of the answer's headers.
    Headers,
    /// The body, from its first byte to its last.
    Body,
}

impl Phase {
    /// The phase in one word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Connect => "connect",
            Phase::Headers => "headers",
            Phase::Body => "body",
        }
    }
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The URL cannot be read, or is none that can be fetched.
    InvalidUrl,
    /// A method, header or file name that must not be sent or used.
    InvalidRequest,
    /// The host's name has no address.
    Dns,
    /// No connection could be made, or the one that was made broke.
    Connection,
    /// The TLS handshake failed: a wrong, expired or unknown certificate, or no common protocol.
    Tls,
    /// A time limit passed.
    Timeout(Phase),
    /// More redirects than allowed.
    TooManyRedirects,
    /// The body is larger than `max_bytes`.
    TooLarge,
    /// The server's answer is not HTTP, or its encoding is broken.
    InvalidResponse,
    /// The site's robots.txt does not want it.
    Robots,
    /// A download's answer was no success.
    Status(u16),
    /// A download has another checksum than the one that was asked for.
    Checksum,
    /// A file could not be written.
    File,
    /// The batch was ended before this request.
    Cancelled,
    /// The system has no means left for any request, such as file descriptors.
    System,
}

/// Why a request failed.
///
/// ```
/// use raddle_fetch::{ErrorKind, Options};
///
/// let error = raddle_fetch::get("no url", &Options::default()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidUrl);
/// assert!(error.to_string().contains("no url"));
/// ```
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    url: Box<str>,
    detail: Box<str>,
    attempts: u32,
    elapsed: Duration,
}

impl Error {
    /// An error about a URL; `detail` says what happened and what to do.
    pub fn new(kind: ErrorKind, url: impl Into<Box<str>>, detail: impl Into<Box<str>>) -> Self {
        Self { kind, url: url.into(), detail: detail.into(), attempts: 0, elapsed: Duration::ZERO }
    }

    /// The same error after so many attempts, the last of which took `elapsed`.
    #[must_use]
    pub fn after(mut self, attempts: u32, elapsed: Duration) -> Self {
        (self.attempts, self.elapsed) = (attempts, elapsed);
        self
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The URL that was being fetched; after redirects, the last one.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What happened, without the URL.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// How often the request was tried.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How long the last attempt took.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.detail)?;
        if self.attempts > 1 {
            write!(f, " (tried {} times)", self.attempts)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
