//! An answer that came: compact, because there may be a million of them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};

use crate::charset::Charset;

/// The headers of an answer, in their order. Names are in lower case, and may repeat.
///
/// One piece of memory holds all of them; the pieces of the network that they came in are let go.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    text: Box<[u8]>,
    /// For each header, where its name and where its value ends.
    ends: Box<[(u32, u32)]>,
}

impl Headers {
    pub(crate) fn of(map: &HeaderMap) -> Self {
        let bytes = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        Self::gather(map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())), bytes, map.len())
    }

    fn gather<'a>(pairs: impl Iterator<Item = (&'a str, &'a [u8])>, bytes: usize, count: usize) -> Self {
        let mut text = Vec::with_capacity(bytes);
        let mut ends = Vec::with_capacity(count);
        // A head has 128 KB at most (HTTP/2: 16 KB): its places fit 32 bits.
        for (name, value) in pairs {
            text.extend_from_slice(name.as_bytes());
            let name_end = text.len() as u32;
            text.extend_from_slice(value);
            ends.push((name_end, text.len() as u32));
        }
        Self { text: text.into(), ends: ends.into() }
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let name = &self.text[start..name_end as usize];
            start = value_end as usize;
            (std::str::from_utf8(name).unwrap_or_default(), &self.text[name_end as usize..value_end as usize])
        })
    }

    /// The first value of a header; its name in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All values of a header.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl FromIterator<(String, Vec<u8>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, Vec<u8>)>>(pairs: I) -> Self {
        let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        Self::gather(pairs.iter().map(|(name, value)| (name.as_str(), value.as_slice())), 0, pairs.len())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)))).finish()
    }
}

/// What a response consists of, for those who keep responses and make them anew.
#[derive(Clone, Debug)]
pub struct ResponseParts {
    /// The URL that answered.
    pub url: Box<str>,
    /// The status.
    pub status: u16,
    /// The version of HTTP.
    pub version: Version,
    /// The headers.
    pub headers: Headers,
    /// The body, decoded.
    pub body: Bytes,
    /// From the moment the last attempt was sent to the last byte of its body.
    pub elapsed: Duration,
    /// How often the request was tried.
    pub attempts: u32,
    /// The URLs that sent the request on.
    pub redirects: Vec<Box<str>>,
}

/// The answer to a request, whatever its status.
#[derive(Clone, Debug)]
pub struct Response {
    parts: ResponseParts,
}

impl From<ResponseParts> for Response {
    fn from(parts: ResponseParts) -> Self {
        Self { parts }
    }
}

impl Response {
    /// The URL that answered; after redirects, the last one.
    pub fn url(&self) -> &str {
        &self.parts.url
    }

    /// The status, such as 200.
    pub fn status(&self) -> u16 {
        self.parts.status
    }

    /// Whether the status is 2xx, or 3xx where redirects are not followed.
    pub fn is_ok(&self) -> bool {
        (200..400).contains(&self.parts.status)
    }

    /// The version of HTTP that was spoken, such as `HTTP/1.1`.
    pub fn version(&self) -> Version {
        self.parts.version
    }

    /// The headers.
    pub fn headers(&self) -> &Headers {
        &self.parts.headers
    }

    /// The body, decoded.
    pub fn body(&self) -> &Bytes {
        &self.parts.body
    }

    /// Takes the body out, and leaves an empty one.
    pub fn take_body(&mut self) -> Bytes {
        std::mem::take(&mut self.parts.body)
    }

    /// The body as text, by the charset that the answer declares, or the one that it looks like.
    pub fn text(&self) -> Cow<'_, str> {
        self.charset_found().decode(&self.parts.body)
    }

    /// The name of the charset by which [`Response::text`] reads the body.
    pub fn charset(&self) -> &'static str {
        self.charset_found().name()
    }

    fn charset_found(&self) -> Charset {
        Charset::find(self.parts.headers.get("content-type"), &self.parts.body)
    }

    /// From the moment the last attempt was sent to the last byte of its body.
    pub fn elapsed(&self) -> Duration {
        self.parts.elapsed
    }

    /// How often the request was tried.
    pub fn attempts(&self) -> u32 {
        self.parts.attempts
    }

    /// The URLs that sent the request on, in their order.
    pub fn redirects(&self) -> &[Box<str>] {
        &self.parts.redirects
    }
}
