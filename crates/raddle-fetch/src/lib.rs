//! Many web pages at the speed of the network, on the calling thread.
//!
//! ```no_run
//! use raddle_fetch::Options;
//!
//! let pages = ["http://127.0.0.1:8000/a", "http://127.0.0.1:8000/b", "no url"];
//! for outcome in raddle_fetch::fetch(pages, &Options::default())? {
//!     match outcome {
//!         Ok(response) => println!("{} {} {} bytes", response.status(), response.url(), response.body().len()),
//!         Err(error) => println!("{error}"),
//!     }
//! }
//! # Ok::<(), raddle_fetch::Error>(())
//! ```
//!
//! One bad URL is one [`Error`] among the outcomes; it never ends the batch. A batch goes through the event loop of a
//! session, which the calling thread drives and which keeps its connections for the next call: there is no thread in the
//! background, and nothing runs while nobody asks.
//!
//! The crate is also the engine of `raddle.fetch` in Python, and knows nothing of Python.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod batch;
mod charset;
mod checksum;
mod client;
mod connect;
mod decode;
mod download;
mod error;
mod exchange;
mod filename;
mod job;
mod options;
mod part;
mod pool;
mod redirect;
mod request;
mod resolve;
mod response;
mod retry;
mod robots;
mod schedule;
mod session;
mod stream;
mod target;
mod tls;

pub use batch::{Batch, Eagerness, Outcome, Step};
pub use bytes::Bytes;
pub use charset::Charset;
pub use checksum::Checksum;
pub use download::{Download, DownloadItem, Downloads, download};
pub use error::{Error, ErrorKind, Phase};
pub use filename::check_given as check_file_name;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
pub use options::{ClientCertificate, ClientOptions, Options, Proxy, Timeout, Verify};
pub use request::{Credentials, IntoRequest, Request, invalid_url, parse_header, parse_method};
pub use response::{Headers, Response, ResponseParts};
pub use stream::{News, Stream};

/// Items that are taken from the input at once: enough for hosts to take turns.
const AHEAD: usize = 1024;

/// Fetches all items, and returns their outcomes in the order of the input.
///
/// # Errors
/// Only for options that cannot be met.
///
/// ```
/// # use std::io::{Read, Write};
/// # let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let url = format!("http://{}/", server.local_addr().unwrap());
/// # std::thread::spawn(move || {
/// #     let (mut connection, _) = server.accept().unwrap();
/// #     let _ = connection.read(&mut [0; 4096]).unwrap();
/// #     connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
/// # });
/// use raddle_fetch::Options;
///
/// let outcomes = raddle_fetch::fetch([url.as_str(), "no url"], &Options::default())?;
/// assert_eq!(outcomes[0].as_ref().unwrap().text(), "hello");
/// assert!(outcomes[1].is_err());
/// # Ok::<(), raddle_fetch::Error>(())
/// ```
pub fn fetch<I>(items: I, options: &Options) -> Result<Vec<Outcome>, Error>
where
    I: IntoIterator<Item: IntoRequest>,
{
    let mut items = items.into_iter().map(IntoRequest::into_request).enumerate();
    let mut batch = Batch::new(options.clone())?;
    let mut outcomes: Vec<Option<Outcome>> = Vec::new();
    loop {
        match batch.step(None, Eagerness::Hungry, None) {
            Step::Hungry => {
                let known = outcomes.len();
                for (index, item) in items.by_ref().take(AHEAD) {
                    outcomes.push(None);
                    batch.push(index as u64, item);
                }
                if outcomes.len() < known + AHEAD {
                    batch.close();
                }
            }
            Step::Finished | Step::Paused => {}
            Step::Done => break,
        }
        for (index, outcome) in batch.take() {
            outcomes[index as usize] = Some(outcome);
        }
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// Fetches one URL.
///
/// # Errors
/// Why there is no response.
///
/// ```
/// # use std::io::{Read, Write};
/// # let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let url = format!("http://{}/", server.local_addr().unwrap());
/// # std::thread::spawn(move || {
/// #     let (mut connection, _) = server.accept().unwrap();
/// #     let _ = connection.read(&mut [0; 4096]).unwrap();
/// #     connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
/// # });
/// let response = raddle_fetch::get(url, &raddle_fetch::Options::default())?;
/// assert_eq!((response.status(), response.is_ok()), (404, false));
/// # Ok::<(), raddle_fetch::Error>(())
/// ```
pub fn get(item: impl IntoRequest, options: &Options) -> Outcome {
    let mut batch = Batch::new(options.clone())?;
    batch.push(0, item.into_request());
    batch.close();
    batch.step(None, Eagerness::EachOutcome, None);
    let outcome = batch.take().next();
    outcome.expect("a batch that was closed ends each item before it is done").1
}
