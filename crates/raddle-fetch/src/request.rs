//! One request as its user states it, checked before anything is sent.
//!
//! Invariant: neither URL, method nor header of a [`Request`] holds a line break or another control character.

use base64::Engine as _;
use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::error::{Error, ErrorKind};
use crate::options::Timeout;

/// Who asks, for the header `Authorization`.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password (Basic).
    Basic(String, String),
    /// A token (Bearer).
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::Basic(..) => "Basic(..)",
            Credentials::Bearer(..) => "Bearer(..)",
        })
    }
}

impl Credentials {
    /// The header's value; `None` if a token holds what no header can.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let text = match self {
            Credentials::Basic(user, password) => {
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
            }
            Credentials::Bearer(token) => format!("Bearer {token}"),
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// One request: a URL, and what differs from a plain GET.
///
/// ```
/// use raddle_fetch::Request;
///
/// let request = Request::new("http://127.0.0.1/search")?.param("q", "a b").method("POST")?.body("text");
/// assert_eq!(request.url(), "http://127.0.0.1/search?q=a+b");
/// # Ok::<(), raddle_fetch::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) timeout: Option<Timeout>,
}

impl Request {
    /// A GET of a URL. A user and password in it become credentials.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidUrl`] for what is no URL of `http` or `https`.
    pub fn new(url: &str) -> Result<Self, Error> {
        let mut parsed = parse_url(url)?;
        let mut headers = HeaderMap::new();
        if let Some(value) = take_credentials(&mut parsed) {
            headers.insert(AUTHORIZATION, value);
        }
        parsed.set_fragment(None);
        Ok(Self { method: Method::GET, url: parsed, headers, body: Bytes::new(), timeout: None })
    }

    /// Another method.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for what is no method.
    pub fn method(mut self, method: &str) -> Result<Self, Error> {
        self.method = parse_method(method).map_err(|detail| self.invalid(detail))?;
        Ok(self)
    }

    /// One more header; names may repeat.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a name or a value that no header can have, such as one with a line break.
    pub fn header(mut self, name: &str, value: &[u8]) -> Result<Self, Error> {
        let (name, value) = parse_header(name, value).map_err(|detail| self.invalid(detail))?;
        if name == AUTHORIZATION {
            self.headers.remove(AUTHORIZATION); // the header says it more plainly than the URL
        }
        self.headers.append(name, value);
        Ok(self)
    }

    /// One more parameter of the URL's query.
    #[must_use]
    pub fn param(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// A body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Credentials of this request.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a token that no header can hold.
    pub fn credentials(mut self, credentials: &Credentials) -> Result<Self, Error> {
        let value = credentials.header().ok_or_else(|| self.invalid("auth= has characters that no header can hold"))?;
        self.headers.insert(AUTHORIZATION, value);
        Ok(self)
    }

    /// Time limits of this request in place of the call's.
    #[must_use]
    pub fn timeout(mut self, timeout: Timeout) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The URL that is going to be fetched.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Refuses headers that would lie about the request, or be read in two ways.
    fn check(&self) -> Result<(), Error> {
        let lengths: Vec<_> = self.headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes).collect();
        let length = self.body.len();
        if !lengths.is_empty() && lengths != [length.to_string().as_bytes()] {
            return Err(self.invalid(format!(
                "the header Content-Length does not fit the body of {length} bytes: leave it out, it is made by itself"
            )));
        }
        if self.headers.get_all(HOST).iter().count() > 1 {
            return Err(self.invalid("there are two headers Host: name one"));
        }
        Ok(())
    }

    fn invalid(&self, detail: impl Into<Box<str>>) -> Error {
        Error::new(ErrorKind::InvalidRequest, self.url.as_str(), detail)
    }
}

/// What can stand for a request: a URL, a [`Request`], or one that could not be made.
pub trait IntoRequest {
    /// The request.
    ///
    /// # Errors
    /// Why there is none; the batch reports it in its place.
    fn into_request(self) -> Result<Request, Error>;
}

impl IntoRequest for &str {
    fn into_request(self) -> Result<Request, Error> {
        Request::new(self)
    }
}

impl IntoRequest for String {
    fn into_request(self) -> Result<Request, Error> {
        Request::new(&self)
    }
}

impl IntoRequest for &String {
    fn into_request(self) -> Result<Request, Error> {
        Request::new(self)
    }
}

impl IntoRequest for Request {
    fn into_request(self) -> Result<Request, Error> {
        self.check()?;
        Ok(self)
    }
}

impl IntoRequest for Result<Request, Error> {
    fn into_request(self) -> Result<Request, Error> {
        self
    }
}

/// Reads a method, upper or lower case.
///
/// # Errors
/// What is wrong with it.
pub fn parse_method(method: &str) -> Result<Method, String> {
    match Method::from_bytes(method.to_ascii_uppercase().as_bytes()) {
        Ok(Method::CONNECT) => Err("the method CONNECT is for proxies: name one with proxy=".into()),
        Ok(known) => Ok(known),
        Err(_) => Err(format!("the method {method:?} is not one word of letters")),
    }
}

/// Reads a header.
///
/// # Errors
/// What is wrong with it: a line break would smuggle in another header or request.
pub fn parse_header(name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue), String> {
    let known = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("the header name {name:?} has characters that none can have"))?;
    let value = HeaderValue::from_bytes(value)
        .map_err(|_| format!("the value of header {name:?} has a line break or another control character"))?;
    Ok((known, value))
}

pub(crate) fn parse_url(url: &str) -> Result<Url, Error> {
    let invalid = |detail: String| invalid_url(url, detail);
    // WHATWG's rules would drop line breaks and tabs silently, and fetch another URL than the one that is printed.
    if let Some(found) = url.chars().find(|c| c.is_ascii_control()) {
        return Err(invalid(format!(
            "this URL holds the control character {found:?}: remove it (str.strip() at its ends)"
        )));
    }
    let parsed = Url::parse(url).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => {
            invalid("this is no URL: it must begin with http:// or https://".into())
        }
        other => invalid(format!("this is no valid URL: {other}")),
    })?;
    check_scheme(&parsed).map_err(invalid)?;
    // WHATWG's rules would find a host in `http:/a` and `http:///a` too, which is not where their author wants to go.
    let after = url.trim_start().split_once(':').and_then(|(_, rest)| rest.strip_prefix("//"));
    if after.is_none_or(|rest| rest.starts_with(['/', '\\', '?', '#'])) {
        return Err(invalid("this URL has no host: it must begin with http:// or https:// and a name".into()));
    }
    Ok(parsed)
}

/// Refuses what is not of the web.
pub(crate) fn check_scheme(url: &Url) -> Result<(), String> {
    match url.scheme() {
        "http" | "https" if url.port() == Some(0) => Err("no server listens on port 0".into()),
        "http" | "https" => Ok(()),
        other => Err(format!("raddle fetches http:// and https://, not {other}:")),
    }
}

/// Removes user and password from a URL, so that no message and no log shows them.
fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_decode(text);
    let credentials = Credentials::Basic(decode(url.username()), decode(url.password().unwrap_or("")));
    // It fails only for URLs without a host, which those of the web have.
    let _ = url.set_username("").and(url.set_password(None));
    credentials.header()
}

/// An error for a text that is no URL; it shows no password that the text may hold.
pub fn invalid_url(url: &str, detail: impl Into<Box<str>>) -> Error {
    Error::new(ErrorKind::InvalidUrl, shown(url), detail)
}

/// A text that may be long or hold a password, as it may be shown.
fn shown(url: &str) -> String {
    let cut = |text: &str| text.chars().take(200).collect::<String>().escape_debug().to_string();
    let Some((scheme, rest)) = url.split_once("://") else { return cut(url) };
    // A password ends at the last `@` of the authority; one that holds a slash ends, perhaps, at an `@` after it.
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@').or_else(|| rest.find('@')) {
        Some(at) => cut(&format!("{scheme}://...{}", &rest[at..])),
        None => cut(url),
    }
}

fn percent_decode(text: &str) -> String {
    // A form's decoder reads `+` as a space, which a password may hold.
    let pair = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_shows_a_password() {
        let long = format!("http://user:{}@[bad/", "s3cret".repeat(100));
        for url in ["http://user:s3cret@[bad/", "http://user:s3@s3cret@[bad/", "http://u:s3cret/s3cret@host:x/", &long]
        {
            let error = Request::new(url).expect_err("this is no URL").to_string();
            assert!(!error.contains("s3"), "{error}");
        }
        assert_eq!(shown("http://host:x/a@b"), "http://...@b", "too much is hidden rather than too little");
        assert_eq!(shown("http://[bad/"), "http://[bad/");
    }

    #[test]
    fn headers_that_lie_about_the_body_are_refused() {
        let post = |length: &[u8]| {
            let request = Request::new("http://127.0.0.1/").and_then(|request| request.method("POST"));
            request.and_then(|request| request.body("four").header("Content-Length", length)).expect("it can be made")
        };
        assert!(post(b"4").into_request().is_ok());
        for wrong in [&b"0"[..], b"100", b"+4", b"4, 4"] {
            let error = post(wrong).into_request().expect_err("it does not fit");
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        }
        let twice = post(b"4").header("content-length", b"4").expect("it can be made");
        assert!(twice.into_request().is_err());
        let hosts = ["a", "b"].iter().try_fold(post(b"4"), |request, host| request.header("Host", host.as_bytes()));
        assert!(hosts.expect("it can be made").into_request().is_err());
    }
}
