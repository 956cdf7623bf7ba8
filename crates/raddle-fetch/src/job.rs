//! A request on its way through the batch: what is sent next, and what has been tried.

use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, COOKIE, HeaderValue, USER_AGENT};
use http::{HeaderMap, response};

use crate::decode;
use crate::error::Error;
use crate::exchange::{Answer, Failed, InMemory, Outgoing, Receiver};
use crate::options::{Options, Timeout};
use crate::redirect;
use crate::request::Request;
use crate::response::{Headers, Response, ResponseParts};
use crate::robots;

/// What a job is for.
pub(crate) enum Purpose {
    /// An item of the input.
    Item,
    /// The robots.txt of an origin.
    Robots(Box<str>),
}

/// One request until it has its outcome.
pub(crate) struct Job {
    pub(crate) index: u64,
    pub(crate) purpose: Purpose,
    pub(crate) outgoing: Outgoing,
    pub(crate) receiver: Box<dyn Receiver>,
    pub(crate) timeout: Timeout,
    /// Attempts that were begun.
    pub(crate) attempts: u32,
    /// Those of them that did not count: they found a resting connection closed.
    pub(crate) resent: u32,
    /// The time of this attempt's earlier exchanges, which redirects ended.
    pub(crate) spent: Duration,
    pub(crate) redirects: Vec<Box<str>>,
    /// Cookies of the caller's own, which those of the jar join.
    pub(crate) own_cookies: Option<HeaderValue>,
    /// Whether the headers of the call have been joined to its own.
    is_complete: bool,
}

impl Job {
    /// A job for a request. Its headers are its own only: while it waits it is to be small.
    pub(crate) fn new(index: u64, request: Request, options: &Options) -> Self {
        let Request { method, mut url, headers, body, timeout } = request;
        if !options.params.is_empty() {
            url.query_pairs_mut().extend_pairs(&options.params);
        }
        Self {
            index,
            purpose: Purpose::Item,
            own_cookies: None,
            is_complete: false,
            outgoing: Outgoing { method, url, headers, body, is_wary: false },
            receiver: Box::new(InMemory(options.max_bytes)),
            timeout: timeout.unwrap_or(options.timeout),
            attempts: 1,
            resent: 0,
            spent: Duration::ZERO,
            redirects: Vec::new(),
        }
    }

    /// Joins what the call says and what the request says, which counts more.
    pub(crate) fn complete(&mut self, defaults: &HeaderMap) {
        if self.is_complete {
            return;
        }
        self.is_complete = true;
        let own = std::mem::replace(&mut self.outgoing.headers, defaults.clone());
        // `extend` replaces what is there under the same name, and keeps names that repeat.
        self.outgoing.headers.extend(own);
        self.own_cookies = self.outgoing.headers.get(COOKIE).cloned();
    }

    /// The name by which the request itself wants to be known to robots.txt, if it has one.
    pub(crate) fn agent(&self) -> Option<String> {
        let product = robots::product(self.outgoing.headers.get(USER_AGENT)?.to_str().ok()?);
        Some(product).filter(|product| !product.is_empty())
    }

    pub(crate) fn host(&self) -> &str {
        self.outgoing.url.host_str().unwrap_or_default()
    }

    /// Goes where a redirect leads.
    ///
    /// # Errors
    /// If that is nowhere, or one redirect too many.
    pub(crate) fn follow(&mut self, head: &response::Parts, most: usize) -> Option<Result<(), Failed>> {
        let to = match redirect::target(head.status, &head.headers, &self.outgoing.url)? {
            Ok(to) => to,
            Err(failed) => return Some(Err(failed)),
        };
        if self.redirects.len() >= most {
            let detail = format!("more than {most} redirects: the last one leads to {to}");
            return Some(Err(Failed::lasting(crate::ErrorKind::TooManyRedirects, detail)));
        }
        self.redirects.push(self.outgoing.url.as_str().into());
        let crosses = self.outgoing.url.origin() != to.origin();
        redirect::follow(&mut self.outgoing, head.status, to);
        if crosses {
            self.own_cookies = None;
        }
        Some(Ok(()))
    }

    pub(crate) fn response(self, answer: Answer, elapsed: Duration) -> Response {
        Response::from(ResponseParts {
            url: self.outgoing.url.as_str().into(),
            status: answer.head.status.as_u16(),
            version: answer.head.version,
            headers: Headers::of(&answer.head.headers),
            body: answer.body,
            elapsed: self.spent + elapsed,
            attempts: self.attempts + self.resent,
            redirects: self.redirects,
        })
    }

    pub(crate) fn error(&self, failed: Failed, elapsed: Duration) -> Error {
        Error::new(failed.kind, self.outgoing.url.as_str(), failed.detail)
            .after(self.attempts + self.resent, self.spent + elapsed)
    }
}

/// The headers that every request of a call begins with.
///
/// # Errors
/// If the call's credentials fit no header.
pub(crate) fn defaults(options: &Options) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(decode::OFFERED));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("raddle/", env!("CARGO_PKG_VERSION"))));
    headers.extend(options.headers.clone());
    if let Some(credentials) = &options.auth {
        let value = credentials.header().ok_or("auth= has characters that no header can hold")?;
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}
