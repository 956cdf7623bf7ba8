//! From an origin to an open connection: proxy, TCP, tunnel, TLS.
//!
//! Each step names itself when it fails, so that a reader can tell a wrong name from a closed port from a bad certificate.

use std::error::Error as StdError;
use std::future::{Ready, ready};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::{HeaderValue, Uri};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tower_service::Service;
use url::{Host, Url};

use crate::error::ErrorKind;
use crate::options::{ClientOptions, Proxy, Verify};
use crate::resolve::{LookupFailed, Resolver};
use crate::tls;

/// What bytes go over, be it TCP, TLS, or either in a tunnel.
pub(crate) trait Transport: Read + Write + Unpin + Send {}
impl<T: Read + Write + Unpin + Send> Transport for T {}
pub(crate) type Stream = Box<dyn Transport>;

/// A step that failed, and how.
#[derive(Debug)]
pub(crate) struct ConnectFailed {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
    /// Whether another attempt may end otherwise.
    pub(crate) may_pass: bool,
    /// Whether the process has no file descriptor left.
    pub(crate) lacks_files: bool,
}

impl ConnectFailed {
    fn lasting(kind: ErrorKind, detail: String) -> Self {
        Self { kind, detail, may_pass: false, lacks_files: false }
    }
}

/// An open connection, and how to speak on it.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) is_http2: bool,
}

/// Opens the connections of one client.
pub(crate) struct Connector {
    tcp: HttpConnector<Resolver>,
    proxies: Option<Matcher>,
    options: ClientOptions,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Connector {
    /// # Errors
    /// What is wrong with the proxy's URL or with a file of certificates.
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, String> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::default());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let proxies = match &options.proxy {
            Proxy::Environment if passes_all_by() => None,
            Proxy::Environment => Some(Matcher::from_env()),
            Proxy::Direct => None,
            Proxy::Url(url) => Some(Matcher::builder().all(checked_proxy(url)?).build()),
        };
        let connector = Self { tcp, proxies, options: options.clone(), tls: OnceLock::new() };
        if matches!(options.verify, Verify::File(_)) || options.certificate.is_some() {
            // The caller's own files are looked at now; the system's only when they are needed.
            connector.tls().map_err(|failed| failed.detail)?;
        }
        Ok(connector)
    }

    /// The proxy for a URL, if there is one.
    pub(crate) fn proxy_of(&self, url: &Url) -> Option<Intercept> {
        let matcher = self.proxies.as_ref()?;
        url[..url::Position::AfterPort].parse::<Uri>().ok().and_then(|uri| matcher.intercept(&uri))
    }

    /// Whether a request to `url` has to name the whole URL, for a proxy that passes it on; and its credentials there.
    pub(crate) fn forwarded(&self, url: &Url) -> Option<Option<HeaderValue>> {
        if url.scheme() == "https" {
            return None;
        }
        let proxy = self.proxy_of(url)?;
        matches!(proxy.uri().scheme_str(), Some("http" | "https")).then(|| proxy.basic_auth().cloned())
    }

    /// Opens a connection to the origin of `url`.
    pub(crate) async fn open(&self, url: &Url) -> Result<Opened, ConnectFailed> {
        let target = origin_uri(url)?;
        let stream = match self.proxy_of(url) {
            None => self.dial(target).await?,
            Some(proxy) => self.through(&proxy, target, url).await?,
        };
        if url.scheme() == "http" {
            return Ok(Opened { stream, is_http2: false });
        }
        self.secure(stream, url).await
    }

    async fn dial(&self, target: Uri) -> Result<Stream, ConnectFailed> {
        let shown = target.authority().map(ToString::to_string).unwrap_or_default();
        match self.tcp.clone().call(target).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(tcp_failure(&error, &shown)),
        }
    }

    async fn through(&self, proxy: &Intercept, target: Uri, url: &Url) -> Result<Stream, ConnectFailed> {
        let scheme = proxy.uri().scheme_str().unwrap_or_default();
        let named = |error: ConnectFailed| ConnectFailed { detail: format!("the proxy: {}", error.detail), ..error };
        let first = self.dial(with_port(proxy.uri())).await.map_err(named)?;
        let failed = |error: &dyn StdError| ConnectFailed {
            kind: ErrorKind::Connection,
            detail: format!("the proxy {} refused the tunnel: {}", shown(proxy.uri()), chain(error)),
            may_pass: false,
            lacks_files: false,
        };
        if scheme.starts_with("socks") {
            let mut socks = SocksV5::new(proxy.uri().clone(), Once(Some(first))).local_dns(scheme == "socks5");
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            return socks.call(target).await.map_err(|error| failed(&error));
        }
        let first = if scheme == "https" { self.secure_proxy(first, proxy.uri()).await.map_err(named)? } else { first };
        if url.scheme() == "http" {
            return Ok(first);
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), Once(Some(first)));
        if let Some(value) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(value.clone());
        }
        tunnel.call(target).await.map_err(|error| failed(&error))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, ConnectFailed> {
        let made = self.tls.get_or_init(|| tls::configuration(&self.options));
        made.clone().map_err(|detail| ConnectFailed::lasting(ErrorKind::Tls, detail))
    }

    async fn secure(&self, stream: Stream, url: &Url) -> Result<Opened, ConnectFailed> {
        let name = match url.host() {
            Some(Host::Domain(name)) => {
                ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| no_name(name))?
            }
            Some(Host::Ipv4(address)) => ServerName::from(std::net::IpAddr::from(address)),
            Some(Host::Ipv6(address)) => ServerName::from(std::net::IpAddr::from(address)),
            None => return Err(no_name("")),
        };
        let shown = url.host_str().unwrap_or_default();
        let secured = TlsConnector::from(self.tls()?).connect(name, TokioIo::new(stream)).await;
        let secured = secured.map_err(|error| tls_failure(&error, shown))?;
        let is_http2 = secured.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Opened { stream: Box::new(TokioIo::new(secured)), is_http2 })
    }

    /// TLS to the proxy itself, which speaks HTTP/1.1 inside.
    async fn secure_proxy(&self, stream: Stream, proxy: &Uri) -> Result<Stream, ConnectFailed> {
        let host = proxy.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| no_name(host))?;
        let mut config = ClientConfig::clone(&*self.tls()?);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let secured = TlsConnector::from(Arc::new(config)).connect(name, TokioIo::new(stream)).await;
        secured.map(|open| Box::new(TokioIo::new(open)) as Stream).map_err(|error| tls_failure(&error, host))
    }
}

/// A connector for hyper-util's tunnels that hands out the connection that is there already.
struct Once(Option<Stream>);

impl Service<Uri> for Once {
    type Response = Stream;
    type Error = std::io::Error;
    type Future = Ready<Result<Stream, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| std::io::Error::other("the connection is taken")))
    }
}

/// Whether `NO_PROXY` is `*`, which hyper-util takes for names only, and not for addresses.
fn passes_all_by() -> bool {
    let says = |name| std::env::var(name).is_ok_and(|list| list.split(',').any(|entry| entry.trim() == "*"));
    says("NO_PROXY") || says("no_proxy")
}

/// Checks a proxy that a caller names.
fn checked_proxy(url: &str) -> Result<String, String> {
    let schemes = "http://, https://, socks5:// or socks5h://";
    match Url::parse(url) {
        Ok(parsed) if !matches!(parsed.scheme(), "http" | "https" | "socks5" | "socks5h") => {
            Err(format!("proxy= must be a URL of {schemes}"))
        }
        Ok(parsed) if parsed.host().is_none() => Err("proxy= names no host".into()),
        Ok(_) => Ok(url.to_owned()),
        Err(error) => Err(format!("proxy= must be a URL of {schemes}: {error}")),
    }
}

/// `scheme://host:port` for hyper.
fn origin_uri(url: &Url) -> Result<Uri, ConnectFailed> {
    let port = url.port_or_known_default().unwrap_or(80);
    let text = format!("{}://{}:{port}", url.scheme(), url.host_str().unwrap_or_default());
    text.parse().map_err(|_| ConnectFailed::lasting(ErrorKind::InvalidUrl, "its host is no name of a host".into()))
}

/// The proxy's URI with a port, which a TCP connection needs.
fn with_port(proxy: &Uri) -> Uri {
    let default = match proxy.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => 1080,
    };
    let text = format!("http://{}:{}", proxy.host().unwrap_or_default(), proxy.port_u16().unwrap_or(default));
    text.parse().unwrap_or_else(|_| proxy.clone())
}

/// A proxy's URI without its password.
fn shown(proxy: &Uri) -> String {
    format!("{}:{}", proxy.host().unwrap_or_default(), proxy.port().map(|p| p.to_string()).unwrap_or_default())
}

fn no_name(host: &str) -> ConnectFailed {
    ConnectFailed::lasting(ErrorKind::InvalidUrl, format!("{host:?} is no name that a certificate can have"))
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn tcp_failure(error: &(dyn StdError + 'static), authority: &str) -> ConnectFailed {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    if let Some(failed) = find::<LookupFailed>(error) {
        let text = failed.text.trim_start_matches("failed to lookup address information: ");
        return ConnectFailed {
            kind: ErrorKind::Dns,
            detail: format!("the name {host:?} has no address ({text}): check its spelling, and the network"),
            may_pass: failed.text.contains("emporary"),
            lacks_files: false,
        };
    }
    let cause = find::<std::io::Error>(error);
    let number = cause.and_then(std::io::Error::raw_os_error);
    if let Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) = number.map(rustix::io::Errno::from_raw_os_error)
    {
        let detail = "this process has no file descriptor left for a connection: raise its limit (ulimit -n), or lower \
                      concurrency=";
        let kind = ErrorKind::Connection;
        return ConnectFailed { kind, detail: detail.into(), may_pass: true, lacks_files: true };
    }
    let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
    ConnectFailed {
        kind: ErrorKind::Connection,
        detail: format!("no connection to {authority} ({cause}): is the server running, and the port right?"),
        may_pass: true,
        lacks_files: false,
    }
}

fn tls_failure(error: &std::io::Error, host: &str) -> ConnectFailed {
    use tokio_rustls::rustls::{CertificateError, Error};
    let hint = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        None => {
            return ConnectFailed {
                kind: ErrorKind::Connection,
                detail: format!(
                    "the connection to {host} broke in the TLS handshake ({error}): does this port speak TLS?"
                ),
                may_pass: true,
                lacks_files: false,
            };
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its issuer is not trusted here: name a file of authorities with verify="
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "it is for another host",
        Some(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "it has expired"
        }
        Some(Error::InvalidMessage(_)) => "does this port speak TLS?",
        Some(_) => "the server and raddle did not agree",
    };
    let what = if error.to_string().contains("certificate") { "the certificate of" } else { "TLS with" };
    ConnectFailed::lasting(ErrorKind::Tls, format!("{what} {host} failed ({error}): {hint}"))
}
