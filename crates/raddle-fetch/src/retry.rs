//! Whether to try again, and when.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, Method};

use crate::exchange::{Again, Failed, is_idempotent};
use crate::options::Options;

/// The first wait; each further one is twice as long. A guess that passes over a short trouble without being felt.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// How long to wait after a failure; `None` to give up.
pub(crate) fn after_failure(options: &Options, attempts: u32, method: &Method, failed: &Failed) -> Option<Duration> {
    let is_safe = match failed.again {
        Again::Now => return Some(Duration::ZERO),
        Again::Never => false,
        Again::IfIdempotent => is_idempotent(method),
        Again::Always => true,
    };
    (is_safe && attempts <= options.retries).then(|| backoff(attempts).min(options.longest_wait))
}

/// How long to wait after a status that asks for patience; `None` to take the answer as it is.
pub(crate) fn after_status(
    options: &Options,
    attempts: u32,
    method: &Method,
    status: u16,
    headers: &HeaderMap,
) -> Option<Wait> {
    if attempts > options.retries || !options.retry_statuses.contains(&status) {
        return None;
    }
    match headers.get(RETRY_AFTER).and_then(|value| read_retry_after(value.as_bytes(), SystemTime::now())) {
        Some(wait) if wait > options.longest_wait => None,
        // 429 says that nothing was done; a 503 of something in between may come when it was.
        Some(_) if status != 429 && !is_idempotent(method) => None,
        Some(wait) => Some(Wait { time: wait, is_for_the_host: true }),
        None if is_idempotent(method) => {
            Some(Wait { time: backoff(attempts).min(options.longest_wait), is_for_the_host: false })
        }
        None => None,
    }
}

/// A wait before another attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) time: Duration,
    /// Whether the server named it, so that its other requests wait too.
    pub(crate) is_for_the_host: bool,
}

/// Half of the wait is left to chance, so that requests that failed together do not come back together.
fn backoff(attempts: u32) -> Duration {
    let whole = FIRST_WAIT.saturating_mul(1 << (attempts.saturating_sub(1)).min(16));
    whole.mul_f64(0.5 + 0.5 * fastrand::f64())
}

/// Reads seconds or a date.
fn read_retry_after(value: &[u8], now: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn headers(retry_after: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, retry_after.parse().unwrap())])
    }

    #[test]
    fn a_broken_connection_is_retried_only_if_that_is_safe() {
        let options = Options { retries: 1, ..Options::default() };
        let broken = |again| Failed { kind: ErrorKind::Connection, detail: String::new(), again };
        let retried = |method, again| after_failure(&options, 1, &method, &broken(again)).is_some();
        assert!(retried(Method::GET, Again::IfIdempotent));
        assert!(!retried(Method::POST, Again::IfIdempotent));
        assert!(retried(Method::POST, Again::Always));
        assert!(!retried(Method::GET, Again::Never));
        assert!(after_failure(&options, 2, &Method::GET, &broken(Again::Always)).is_none());
    }

    #[test]
    fn retry_after_is_obeyed_up_to_the_longest_wait() {
        let options = Options::default();
        let wait = |method, text| after_status(&options, 1, &method, 429, &headers(text)).map(|wait| wait.time);
        assert_eq!(wait(Method::GET, "3"), Some(Duration::from_secs(3)));
        assert_eq!(wait(Method::POST, "3"), Some(Duration::from_secs(3)));
        assert_eq!(wait(Method::GET, "3600"), None);
        assert_eq!(after_status(&options, 1, &Method::POST, 503, &HeaderMap::new()), None);
        assert_eq!(after_status(&options, 1, &Method::GET, 404, &headers("3")), None);
    }

    #[test]
    fn an_unavailable_server_is_asked_again_only_for_what_is_safe_to_repeat() {
        let options = Options::default();
        let wait = |method| after_status(&options, 1, &method, 503, &headers("3"));
        assert_eq!(wait(Method::GET), Some(Wait { time: Duration::from_secs(3), is_for_the_host: true }));
        assert_eq!(wait(Method::POST), None);
    }

    #[test]
    fn retry_after_may_be_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let at = httpdate::fmt_http_date(now + Duration::from_secs(90));
        assert_eq!(read_retry_after(at.as_bytes(), now), Some(Duration::from_secs(90)));
        let past = httpdate::fmt_http_date(now - Duration::from_secs(90));
        assert_eq!(read_retry_after(past.as_bytes(), now), Some(Duration::ZERO));
        assert_eq!(read_retry_after(b"soon", now), None);
    }

    #[test]
    fn waits_grow_and_differ() {
        assert!(backoff(1) <= FIRST_WAIT && backoff(1) >= FIRST_WAIT / 2);
        assert!(backoff(4) >= FIRST_WAIT * 4);
    }
}
