//! Where a redirect leads, and what goes along: credentials only to the same origin.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HOST,
    LOCATION, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::error::ErrorKind;
use crate::exchange::{Failed, Outgoing};
use crate::request::check_scheme;

/// Whether an answer leads elsewhere. Other statuses of 3xx are answers, even with a `Location`.
pub(crate) fn is_one(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && headers.contains_key(LOCATION)
}

/// The target of a redirect; `None` if the answer is none.
pub(crate) fn target(status: StatusCode, headers: &HeaderMap, from: &Url) -> Option<Result<Url, Failed>> {
    if !is_one(status, headers) {
        return None;
    }
    let location = headers.get(LOCATION)?;
    // Bytes beyond ASCII, which no header should hold: UTF-8 if they are, else Latin-1 as HTTP always had it.
    let text = match std::str::from_utf8(location.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => location.as_bytes().iter().map(|b| char::from(*b)).collect(),
    };
    let invalid = |why: String| {
        let shown: String = text.chars().take(200).collect();
        Failed::lasting(ErrorKind::InvalidUrl, format!("the server redirects to {shown:?}: {why}"))
    };
    Some(match from.join(&text) {
        Err(error) => Err(invalid(error.to_string())),
        Ok(url) => check_scheme(&url).map(|()| without_secrets(url)).map_err(invalid),
    })
}

/// A server does not choose our credentials; and the fragment is inherited by no request.
fn without_secrets(mut url: Url) -> Url {
    let _ = url.set_username("").and(url.set_password(None));
    url.set_fragment(None);
    url
}

/// Changes a request into the one that follows the redirect.
pub(crate) fn follow(outgoing: &mut Outgoing, status: StatusCode, to: Url) {
    let changes = match status.as_u16() {
        303 => outgoing.method != Method::HEAD && outgoing.method != Method::GET,
        301 | 302 => outgoing.method == Method::POST,
        _ => false,
    };
    if changes {
        outgoing.method = Method::GET;
        outgoing.body = bytes::Bytes::new();
        let about_the_body =
            [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, TRANSFER_ENCODING];
        for name in about_the_body {
            outgoing.headers.remove(name);
        }
    }
    if !keeps_secrets(&outgoing.url, &to) {
        for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
            outgoing.headers.remove(name);
        }
    }
    outgoing.headers.remove(HOST);
    outgoing.url = to;
}

/// Whether credentials may go along: to the same origin, or from a host's `http` to its `https`, both at their usual ports.
fn keeps_secrets(from: &Url, to: &Url) -> bool {
    let upgrade = from.scheme() == "http" && to.scheme() == "https" && from.port().is_none() && to.port().is_none();
    from.origin() == to.origin() || (upgrade && from.host() == to.host())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;

    fn followed(method: Method, status: u16, to: &str) -> Outgoing {
        let mut outgoing = Outgoing {
            method,
            url: Url::parse("http://a.test/x").unwrap(),
            headers: HeaderMap::from_iter([
                (AUTHORIZATION, "secret".parse().unwrap()),
                (COOKIE, "k=v".parse().unwrap()),
                (CONTENT_TYPE, "text/plain".parse().unwrap()),
            ]),
            body: "text".into(),
            is_wary: false,
        };
        let location = HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
        let status = StatusCode::from_u16(status).unwrap();
        let url = target(status, &location, &outgoing.url).unwrap().unwrap();
        follow(&mut outgoing, status, url);
        outgoing
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let keeps = |to| followed(Method::GET, 302, to).headers.contains_key(AUTHORIZATION);
        assert!(keeps("/other") && keeps("http://a.test:80/") && keeps("https://a.test/"));
        for to in ["http://b.test/", "http://a.test:81/", "https://a.test:444/", "//b.test/", "http://www.a.test/"] {
            assert!(!keeps(to), "{to}");
            assert!(!followed(Method::GET, 302, to).headers.contains_key(COOKIE), "{to}");
        }
    }

    #[test]
    fn a_post_becomes_a_get_where_browsers_do_so() {
        for (status, method) in [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")] {
            let next = followed(Method::POST, status, "/y");
            assert_eq!(next.method.as_str(), method, "{status}");
            assert_eq!(next.body.is_empty(), method == "GET");
            assert_eq!(next.headers.contains_key(CONTENT_TYPE), method == "POST");
        }
        assert_eq!(followed(Method::HEAD, 303, "/y").method, Method::HEAD);
    }

    #[test]
    fn only_the_web_is_redirected_to() {
        let from = Url::parse("http://a.test/").unwrap();
        for to in ["ftp://a.test/", "file:///etc/passwd", "javascript:alert(1)", "http://[broken"] {
            let headers = HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
            assert!(target(StatusCode::FOUND, &headers, &from).unwrap().is_err(), "{to}");
        }
        assert!(target(StatusCode::FOUND, &HeaderMap::new(), &from).is_none());
    }
}
