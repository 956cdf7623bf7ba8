//! What `fetch`, `get`, `Stream` and `download` do, against a server on the loopback interface.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod server;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use raddle_fetch::{
    Batch, Checksum, ClientOptions, Credentials, DownloadItem, Eagerness, ErrorKind, News, Options, Phase, Proxy,
    Request, Step, Stream, Timeout, download, fetch, get,
};
use server::{Answer, Server};

fn patient() -> Options {
    Options { retries: 0, ..Options::default() }
}

#[test]
fn outcomes_are_in_the_order_of_the_input_and_one_failure_costs_no_other() {
    let server = Server::start(|head| Answer::page("200 OK", "", head.split(' ').nth(1).unwrap().as_bytes()));
    let mut urls: Vec<String> = (0..3000).map(|number| format!("{}/{number}", server.url)).collect();
    urls[7] = "no url".into();
    let outcomes = fetch(&urls, &patient()).unwrap();
    assert_eq!(outcomes.len(), 3000);
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Err(error) => assert_eq!((number, error.kind()), (7, ErrorKind::InvalidUrl)),
            Ok(page) => assert_eq!(page.text(), format!("/{number}")),
        }
    }
}

#[test]
fn connections_are_kept_between_calls() {
    let server = Server::start(|_| Answer::page("200 OK", "", b""));
    // Options of its own: other tests, which run at the same time, must not take the session in between.
    let client = ClientOptions { proxy: Proxy::Direct, http2: false, ..ClientOptions::default() };
    let options = Options { client, ..patient() };
    for _ in 0..5 {
        get(&server.url, &options).unwrap();
    }
    assert_eq!((server.heads().len(), server.connections()), (5, 1));
}

#[test]
fn after_a_broken_connection_the_next_attempt_opens_its_own() {
    let (both, count) = (std::sync::Barrier::new(2), AtomicUsize::new(0));
    let server = Server::start(move |head| {
        if head.starts_with("get /first") {
            both.wait();
        } else if count.fetch_add(1, SeqCst) == 0 {
            return Answer::raw(b"");
        }
        Answer::page("200 OK", "", b"page")
    });
    let first = format!("{}/first", server.url);
    let mut batch = Batch::new(Options { retries: 1, concurrency: 2, ..Options::default() }).unwrap();
    for index in 0..3 {
        batch.push(index, Request::new(if index < 2 { &first } else { &server.url }));
    }
    batch.close();
    assert_eq!(batch.step(None, Eagerness::Hungry, None), Step::Finished);
    let pages: Vec<_> = batch.take().map(|(_, outcome)| outcome.unwrap().text().into_owned()).collect();
    assert_eq!((pages, server.connections()), (vec!["page".to_owned(); 3], 3));
}

#[test]
fn a_wrong_length_an_early_end_and_rubbish_are_told_apart() {
    let server = Server::start(|head| match head.split(' ').nth(1).unwrap() {
        "/short" => Answer::raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        "/closed" => Answer::raw(b""),
        "/rubbish" => Answer::raw(b"rubbish, and no HTTP\r\n\r\n"),
        "/chunk" => Answer::raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        _ => Answer::page("200 OK", "Content-Encoding: gzip\r\n", b"no gzip"),
    });
    for (path, kind) in [
        ("/short", ErrorKind::Connection),
        ("/closed", ErrorKind::Connection),
        ("/rubbish", ErrorKind::InvalidResponse),
        ("/chunk", ErrorKind::InvalidResponse),
        ("/gzip", ErrorKind::InvalidResponse),
    ] {
        let error = get(format!("{}{path}", server.url), &patient()).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{path}: {error}");
    }
}

#[test]
fn a_silent_server_ends_in_the_phase_that_it_is_silent_in() {
    let server = Server::start(|head| {
        if head.starts_with("get /body") {
            Answer { bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec(), closes: false }
        } else {
            Answer { bytes: Vec::new(), closes: false }
        }
    });
    let limits = [
        Timeout::total(Duration::from_millis(50)),
        Timeout { read: Some(Duration::from_millis(50)), ..Timeout::none() },
    ];
    for timeout in limits {
        for (path, phase) in [("/headers", Phase::Headers), ("/body", Phase::Body)] {
            let error = get(format!("{}{path}", server.url), &Options { timeout, ..patient() }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout(phase), "{error}");
        }
    }
}

#[test]
fn what_failed_is_tried_again_if_that_is_safe() {
    for (method, attempts) in [("GET", 3), ("POST", 1)] {
        let count = AtomicUsize::new(0);
        let server = Server::start(move |_| {
            if count.fetch_add(1, SeqCst) < 2 { Answer::raw(b"") } else { Answer::page("200 OK", "", b"") }
        });
        let request = Request::new(&server.url).unwrap().method(method).unwrap();
        let outcome = get(request, &Options::default());
        assert_eq!(outcome.is_ok(), method == "GET");
        assert_eq!(server.heads().len(), attempts);
    }
}

#[test]
fn retry_after_is_waited_for() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, SeqCst) {
        0 => Answer::page("429 Too Many Requests", "Retry-After: 1\r\n", b""),
        _ => Answer::page("200 OK", "", b"now"),
    });
    let start = std::time::Instant::now();
    let page = get(&server.url, &Options::default()).unwrap();
    assert_eq!((page.text().as_ref(), page.attempts()), ("now", 2));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn credentials_do_not_follow_to_another_origin() {
    let other = Server::start(|_| Answer::page("200 OK", "", b"other"));
    let to = other.url.clone();
    let server = Server::start(move |_| Answer::page("302 Found", &format!("Location: {to}/\r\n"), b""));
    let auth = Some(Credentials::Basic("user".into(), "password".into()));
    let page = get(&server.url, &Options { auth, ..patient() }).unwrap();
    assert_eq!((page.text().as_ref(), page.redirects().len()), ("other", 1));
    assert!(server.heads()[0].contains("authorization: basic "));
    assert!(!other.heads()[0].contains("authorization"));
}

#[test]
fn redirects_end_at_their_number() {
    let server = Server::start(|_| Answer::page("302 Found", "Location: /again\r\n", b""));
    let error = get(&server.url, &Options { redirects: 3, ..patient() }).unwrap_err();
    assert_eq!((error.kind(), server.heads().len()), (ErrorKind::TooManyRedirects, 4));
}

#[test]
fn a_body_that_is_too_large_ends_early() {
    use std::io::Write;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![0; 50 << 20]).unwrap();
    let bomb = packed.finish().unwrap();
    let server = Server::start(move |_| Answer::page("200 OK", "Content-Encoding: gzip\r\n", &bomb));
    let error = get(&server.url, &Options { max_bytes: Some(1 << 20), ..patient() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(get(&server.url, &patient()).unwrap().body().len(), 50 << 20);
}

#[test]
fn cookies_are_kept_within_a_call_only() {
    let server = Server::start(|_| Answer::page("200 OK", "Set-Cookie: key=value\r\n", b""));
    let options = Options { cookies: true, concurrency: 1, ..patient() };
    for _ in 0..2 {
        fetch([&server.url, &server.url], &options).unwrap();
    }
    let sent: Vec<_> = server.heads().iter().map(|head| head.contains("cookie: key=value")).collect();
    assert_eq!(sent, [false, true, false, true]);
}

#[test]
fn robots_are_asked_once_and_obeyed() {
    let server = Server::start(|head| {
        let robots = head.starts_with("get /robots.txt");
        Answer::page("200 OK", "", if robots { b"User-agent: *\nDisallow: /private\n" } else { b"page" })
    });
    let urls = ["/private/a", "/open", "/private/b"].map(|path| format!("{}{path}", server.url));
    let outcomes = fetch(&urls, &Options { robots: true, ..patient() }).unwrap();
    let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().map(raddle_fetch::Error::kind)).collect();
    assert_eq!(kinds, [Some(ErrorKind::Robots), None, Some(ErrorKind::Robots)]);
    assert_eq!(server.heads().len(), 2);
}

#[test]
fn a_stream_gives_each_outcome_and_says_when_it_is_idle() {
    let server = Server::start(|_| Answer::page("200 OK", "", b"x"));
    let stream = Stream::new(patient()).unwrap();
    stream.push((0..100).map(|index| (index, Request::new(&server.url))));
    stream.close();
    let mut seen = Vec::new();
    while stream.wait(None) == News::Outcomes {
        seen.extend(stream.take().into_iter().map(|(index, outcome)| (index, outcome.unwrap().status())));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).map(|index| (index, 200)).collect::<Vec<_>>());
    assert_eq!(stream.outstanding(), 0);
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let server = Server::start(|head| {
        if head.contains("range: bytes=5-") {
            assert!(head.contains("if-range: \"tag\""));
            return Answer::page("206 Partial Content", "ETag: \"tag\"\r\nContent-Range: bytes 5-9/10\r\n", b"56789");
        }
        Answer::raw(b"HTTP/1.1 200 OK\r\nETag: \"tag\"\r\nContent-Length: 10\r\n\r\n01234")
    });
    let folder = std::env::temp_dir().join(format!("raddle-fetch-test-{}", std::process::id()));
    let checksum = Checksum::parse("md5:781e5e245d69b566979b86e28d23f2c7").unwrap();
    let item = DownloadItem::new(format!("{}/digits", server.url)).checksum(checksum);
    let cut = download([item.clone()], &folder, &patient()).unwrap().remove(0);
    assert_eq!((cut.error.unwrap().kind(), cut.path), (ErrorKind::Connection, None));
    let whole = download([item], &folder, &patient()).unwrap().remove(0);
    assert!(whole.error.is_none() && whole.resumed, "{:?}", whole.error);
    assert_eq!(std::fs::read(whole.path.unwrap()).unwrap(), b"0123456789");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    std::fs::remove_dir_all(folder).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder for one test.
fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("raddle-fetch-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn encodings_over_one_another_are_undone_on_the_way_to_a_file() {
    let body = gzip(&gzip(b"content"));
    let server = Server::start(move |_| Answer::page("200 OK", "Content-Encoding: gzip, gzip\r\n", &body));
    assert_eq!(get(&server.url, &patient()).unwrap().text(), "content");
    let folder = folder("twice");
    let done = download([format!("{}/file", server.url)], &folder, &patient()).unwrap().remove(0);
    assert_eq!(std::fs::read(done.path.unwrap()).unwrap(), b"content");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_part_that_was_not_asked_for_is_refused_at_once() {
    let server = Server::start(|_| {
        Answer::page("206 Partial Content", "ETag: \"tag\"\r\nContent-Range: bytes 5-9/10\r\n", b"56789")
    });
    let folder = folder("unasked");
    let done = download([format!("{}/file", server.url)], &folder, &patient()).unwrap().remove(0);
    assert_eq!(done.error.unwrap().kind(), ErrorKind::InvalidResponse);
    assert_eq!(server.heads().len(), 1);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_range_that_ends_early_is_no_whole_file() {
    let server = Server::start(|head| {
        let tag = "ETag: \"tag\"\r\n";
        if head.contains("range: bytes=5-") {
            return Answer::page("206 Partial Content", &format!("{tag}Content-Range: bytes 5-6/10\r\n"), b"56");
        }
        if head.contains("range: bytes=7-") {
            return Answer::page("206 Partial Content", &format!("{tag}Content-Range: bytes 7-9/10\r\n"), b"789");
        }
        Answer::raw(format!("HTTP/1.1 200 OK\r\n{tag}Content-Length: 10\r\n\r\n01234").as_bytes())
    });
    let folder = folder("early");
    let url = format!("{}/digits", server.url);
    for expected in [Some(ErrorKind::Connection), Some(ErrorKind::Connection), None] {
        let done = download([&url], &folder, &patient()).unwrap().remove(0);
        assert_eq!(done.error.map(|error| error.kind()), expected);
        assert_eq!(done.path.is_some(), expected.is_none());
    }
    assert_eq!(std::fs::read(folder.join("digits")).unwrap(), b"0123456789");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_range_of_unknown_end_is_fetched_anew_and_an_overlong_one_refused() {
    for (range, body, expected) in [
        ("bytes 5-6/*", &b"56"[..], Ok("0123456789")),
        ("bytes 5-9/10", b"56789 and more", Err(ErrorKind::InvalidResponse)),
    ] {
        let count = AtomicUsize::new(0);
        let server = Server::start(move |head| {
            let tag = "ETag: \"tag\"\r\n";
            if head.contains("range: bytes=5-") {
                return Answer::page("206 Partial Content", &format!("{tag}Content-Range: {range}\r\n"), body);
            }
            let whole = Answer::page("200 OK", tag, b"0123456789");
            let cut = whole.bytes.len() - if count.fetch_add(1, SeqCst) == 0 { 5 } else { 0 };
            Answer::raw(&whole.bytes[..cut])
        });
        let folder = folder("ranges");
        let url = format!("{}/digits", server.url);
        assert!(download([&url], &folder, &patient()).unwrap().remove(0).error.is_some());
        // A call of its own knows no more than what the server says now.
        let done = download([&url], &folder, &patient()).unwrap().remove(0);
        let found = done.path.map(|path| std::fs::read_to_string(path).unwrap());
        assert_eq!(found.as_deref().ok_or_else(|| done.error.unwrap().kind()), expected);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_wait_beyond_all_time_is_not_waited_for() {
    let server = Server::start(|_| Answer::page("429 Too Many Requests", "Retry-After: 18446744073709551615\r\n", b""));
    let options = Options { longest_wait: Duration::MAX, ..Options::default() };
    assert_eq!(get(&server.url, &options).unwrap().status(), 429);
}

#[test]
fn decoding_ends_with_the_time_limit() {
    let bomb = gzip(&vec![0; 128 << 20]);
    let server = Server::start(move |_| Answer::page("200 OK", "Content-Encoding: gzip\r\n", &bomb));
    // The whole takes some hundred milliseconds at the very least.
    let options = Options { timeout: Timeout::total(Duration::from_millis(30)), ..patient() };
    assert!(matches!(get(&server.url, &options).unwrap_err().kind(), ErrorKind::Timeout(_)));
}

#[test]
fn the_page_of_a_redirect_is_not_read_and_that_of_another_status_is() {
    let server = Server::start(|head| match head.split(' ').nth(1).unwrap() {
        "/moved" => Answer::page("302 Found", "Location: /there\r\nContent-Encoding: gzip\r\n", b"no gzip"),
        "/choices" => Answer::page("300 Multiple Choices", "Location: /there\r\n", &[b'x'; 100_000]),
        _ => Answer::page("200 OK", "", b"there"),
    });
    assert_eq!(get(format!("{}/moved", server.url), &patient()).unwrap().text(), "there");
    let choices = get(format!("{}/choices", server.url), &patient()).unwrap();
    assert_eq!((choices.status(), choices.body().len()), (300, 100_000));
}

#[test]
fn nothing_is_fetched_far_ahead_of_the_reader() {
    let seen = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&seen);
    let server = Server::start(move |_| {
        counted.fetch_add(1, SeqCst);
        Answer::page("200 OK", "", b"x")
    });
    let stream = Stream::new(Options { concurrency: 4, ..patient() }).unwrap();
    stream.push((0..200).map(|index| (index, Request::new(&server.url))));
    stream.close();
    let mut taken = 0;
    while stream.wait(None) == News::Outcomes {
        assert!(seen.load(SeqCst) <= taken + 4);
        taken += stream.take().len();
    }
    assert_eq!((taken, seen.load(SeqCst)), (200, 200));
}

#[test]
fn connections_that_rest_are_bounded() {
    let server = Server::start(|_| Answer::page("200 OK", "", b"x"));
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let urls: Vec<_> = (1..=100).map(|last| format!("http://127.0.0.{last}:{port}/")).collect();
    // Options of its own: other tests, which run at the same time, must not take the session in between.
    let client = ClientOptions { proxy: Proxy::Direct, http2: true, ..ClientOptions::default() };
    let outcomes = fetch(&urls, &Options { concurrency: 1, client, ..patient() }).unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(server.connections(), 100);
    // 16 rest, and the last that were dropped may not have been closed yet.
    assert!(server.open() < 40, "{}", server.open());
}

#[test]
fn a_robots_file_follows_its_own_redirects_and_knows_the_requests_own_agent() {
    let server = Server::start(|head| match head.split(' ').nth(1).unwrap() {
        "/robots.txt" => Answer::page("301 Moved", "Location: /rules\r\n", b""),
        "/rules" => Answer::page("200 OK", "", b"User-agent: nice\nDisallow:\n\nUser-agent: *\nDisallow: /\n"),
        _ => Answer::page("200 OK", "", b"page"),
    });
    let options = Options { robots: true, redirects: 0, ..patient() };
    let nice = Request::new(&server.url).unwrap().header("User-Agent", b"nice/1.0").unwrap();
    let outcomes = fetch([Request::new(&server.url), Ok(nice)], &options).unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap_err().kind(), ErrorKind::Robots);
    assert_eq!(outcomes[1].as_ref().unwrap().text(), "page");
}

#[test]
fn a_caller_who_comes_and_goes_does_not_stop_the_decoding() {
    let body = gzip(&vec![0; 16 << 20]);
    let server = Server::start(move |_| Answer::page("200 OK", "Content-Encoding: gzip\r\n", &body));
    let mut batch = Batch::new(Options { timeout: Timeout::none(), ..patient() }).unwrap();
    batch.push(0, Request::new(&server.url));
    batch.close();
    // The caller leaves at once, over and over: each turn must leave the next something to do.
    while batch.step(Some(std::time::Instant::now()), Eagerness::EachOutcome, None) == Step::Paused {}
    assert_eq!(batch.take().next().unwrap().1.unwrap().body().len(), 16 << 20);
}
