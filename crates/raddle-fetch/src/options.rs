//! What a call asks for, beside its URLs. The defaults are those of the Python face.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;

use crate::request::Credentials;

/// Time limits of one attempt, redirects included. They start when the request is sent, never while it queues.
///
/// ```
/// use std::time::Duration;
/// use raddle_fetch::Timeout;
///
/// let timeout = Timeout { connect: Some(Duration::from_secs(2)), ..Timeout::total(Duration::from_secs(10)) };
/// assert_eq!(timeout.read, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// From the first step to the last byte of the body.
    pub total: Option<Duration>,
    /// For a connection: name lookup, TCP and TLS.
    pub connect: Option<Duration>,
    /// For the server's silence: until the headers are there, and between two pieces of the body.
    pub read: Option<Duration>,
}

impl Timeout {
    /// A limit for the whole.
    pub fn total(limit: Duration) -> Self {
        Self { total: Some(limit), connect: None, read: None }
    }

    /// No limit at all.
    pub fn none() -> Self {
        Self { total: None, connect: None, read: None }
    }
}

/// Where a connection goes through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// What the environment says: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case.
    #[default]
    Environment,
    /// Straight to the host.
    Direct,
    /// This one for all: `http://`, `https://`, `socks5://` or `socks5h://`, with `user:password@` if it asks for them.
    Url(String),
}

/// Which certificates of servers are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// The system's certificate authorities; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
    #[default]
    System,
    /// The authorities in this PEM file, and no others.
    File(PathBuf),
    /// Any certificate at all: whoever is in between can read and change everything.
    Nothing,
}

/// A certificate that says who the client is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority, in PEM.
    pub certificate: PathBuf,
    /// Its private key in PEM; may be the same file.
    pub key: PathBuf,
}

/// What connections are made with. Calls that agree in it share their connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientOptions {
    /// Where connections go through.
    pub proxy: Proxy,
    /// Which servers are trusted.
    pub verify: Verify,
    /// Who the client is, for servers that ask.
    pub certificate: Option<ClientCertificate>,
    /// Whether HTTP/2 is offered to servers with TLS.
    pub http2: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { proxy: Proxy::default(), verify: Verify::default(), certificate: None, http2: true }
    }
}

/// What a call asks for.
///
/// ```
/// use raddle_fetch::Options;
///
/// let polite = Options { per_host: Some(2), rate: Some(5.0), robots: true, ..Options::default() };
/// assert_eq!(polite.concurrency, 64);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests under way at a time.
    pub concurrency: usize,
    /// Requests under way at a time to one host.
    pub per_host: Option<usize>,
    /// Requests a second to one host, evenly spaced.
    pub rate: Option<f64>,
    /// Time limits of each attempt.
    pub timeout: Timeout,
    /// How often a failed request is tried again, if that is safe.
    pub retries: u32,
    /// Statuses after which a request is tried again.
    pub retry_statuses: Vec<u16>,
    /// The longest wait before another attempt. A server that asks for more (`Retry-After`) is not asked again.
    pub longest_wait: Duration,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// Parameters that are added to the query of every URL.
    pub params: Vec<(String, String)>,
    /// Credentials of every request. A redirect to another origin goes without them.
    pub auth: Option<Credentials>,
    /// Redirects that are followed; 0 to follow none.
    pub redirects: usize,
    /// The largest body, once decoded, in bytes.
    pub max_bytes: Option<u64>,
    /// Whether cookies are kept, for this call alone.
    pub cookies: bool,
    /// Whether robots.txt is obeyed.
    pub robots: bool,
    /// What connections are made with.
    pub client: ClientOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 64,
            per_host: None,
            rate: None,
            timeout: Timeout::total(Duration::from_secs(10)),
            retries: 2,
            retry_statuses: vec![429, 503],
            longest_wait: Duration::from_secs(30),
            headers: HeaderMap::new(),
            params: Vec::new(),
            auth: None,
            redirects: 20,
            max_bytes: None,
            cookies: false,
            robots: false,
            client: ClientOptions::default(),
        }
    }
}
