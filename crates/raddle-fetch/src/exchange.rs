//! One request sent, one answer read: the step between the schedule and the network.
//!
//! Invariant: a connection goes back to the pool only when its answer was read to the end.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{HeaderMap, Method, Uri, Version, response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use raddle::events::is_listening;
use tokio::time::{Instant, Sleep};
use url::{Position, Url};

use crate::client::{Client, origin};
use crate::connect::{ConnectFailed, chain};
use crate::decode::{self, Decoded, Decoder};
use crate::error::{ErrorKind, Phase};
use crate::options::Timeout;
use crate::pool::{Body, Connection};
use crate::redirect;
use crate::target::Target;

/// A redirect's page is read this far, so that its connection can be used again; further it is not worth it.
const REDIRECT_PAGE: u64 = 64 << 10;

/// After a rest like this a connection that breaks is taken for one that the server had closed: servers keep them for
/// 2 s at least. One that breaks sooner breaks because of the request.
const STALE: Duration = Duration::from_secs(1);

/// Where there is no file descriptor for a connection, others are waited for: how often, and how long each time. A second is
/// a guess: most requests of the same batch end in it.
const FILE_LOOKS: u32 = 200;
const FILE_PAUSE: Duration = Duration::from_millis(5);

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether it passes by the connections that rest: the attempt before found its own broken.
    pub(crate) is_wary: bool,
}

/// What an exchange tells of its course.
pub(crate) struct Course {
    /// When the request was sent, or began to connect.
    pub(crate) started: std::time::Instant,
    /// How often it was sent again because the server had closed a resting connection.
    pub(crate) resent: u32,
    /// What was done so far, for those who listen to events.
    pub(crate) phases: Vec<(&'static str, std::time::Instant, std::time::Instant)>,
}

impl Course {
    pub(crate) fn new() -> Self {
        Self { started: std::time::Instant::now(), resent: 0, phases: Vec::new() }
    }

    /// A phase ends now, which began with the end of the one before, or at the start.
    fn ends(&mut self, phase: &'static str) {
        if is_listening() {
            let from = self.phases.last().map_or(self.started, |(.., to)| *to).max(self.started);
            self.phases.push((phase, from, std::time::Instant::now()));
        }
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) head: response::Parts,
    pub(crate) body: Bytes,
}

/// Whether a request may be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would end the same way.
    Never,
    /// If doing it twice does no harm: the server may have done it already.
    IfIdempotent,
    /// It never reached the server.
    Always,
    /// The request was changed so that it makes sense now; it is not counted as another attempt.
    Now,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
    pub(crate) again: Again,
}

impl Failed {
    pub(crate) fn lasting(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), again: Again::Never }
    }
}

/// Decides, when a head has come, where its body goes.
pub(crate) trait Receiver: Send {
    /// Changes the headers of the request that is about to be sent.
    ///
    /// # Errors
    /// If the place for the body cannot be had.
    fn prepare(&mut self, _headers: &mut HeaderMap) -> Result<(), Failed> {
        Ok(())
    }

    /// The place for the body of this answer.
    ///
    /// # Errors
    /// If the body is not wanted; it is then not read.
    fn place(&mut self, head: &response::Parts) -> Result<Target, Failed>;

    /// Sees to the end of a body that has been read whole: a step of it, and whether there are more.
    ///
    /// # Errors
    /// If it is not what it should be.
    fn settle(&mut self) -> Result<bool, Failed> {
        Ok(false)
    }
}

/// Keeps bodies in memory, up to a limit.
pub(crate) struct InMemory(pub(crate) Option<u64>);

impl Receiver for InMemory {
    fn place(&mut self, _: &response::Parts) -> Result<Target, Failed> {
        Ok(Target::memory(self.0))
    }
}

/// Keeps the beginnings of bodies, which are enough.
pub(crate) struct Beginning(pub(crate) u64);

impl Receiver for Beginning {
    fn place(&mut self, _: &response::Parts) -> Result<Target, Failed> {
        Ok(Target::beginning(self.0))
    }
}

/// Whether sending this twice does no more than sending it once.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}

/// Sends a request and reads its answer; `spent` counts from earlier steps of the same attempt.
///
/// `course` is told what does not count: waits for a stream, and connections that the server had closed.
pub(crate) async fn exchange(
    client: &Client,
    outgoing: &Outgoing,
    timeout: Timeout,
    spent: Duration,
    follows: bool,
    receiver: &mut dyn Receiver,
    course: &mut Course,
) -> Result<Answer, Failed> {
    let mut clock = pin!(Clock::start(timeout, spent));
    loop {
        let rested = client.pool.take(origin(&outgoing.url));
        let rested = rested.filter(|(connection, _)| connection.is_http2() || !outgoing.is_wary);
        let rest = rested.as_ref().map(|(_, rest)| *rest);
        let mut connection = match rested {
            Some((connection, _)) => connection,
            // Boxed, because it is rare and large: each exchange is moved to its place as a whole.
            None => {
                let connected = Box::pin(connect(client, outgoing, clock.as_mut())).await;
                course.ends("connect");
                connected?
            }
        };
        if connection.is_http2() {
            if !Box::pin(connection.admit()).await {
                continue;
            }
            // The wait for a stream is a queue: the time limits begin behind it.
            clock.set(Clock::start(timeout, spent));
            course.started = std::time::Instant::now();
        }
        let sent = send(client, &mut connection, outgoing, clock.as_mut()).await;
        course.ends("wait");
        match sent {
            Ok((head, body)) => {
                let read = read(client, connection, outgoing, head, body, follows, receiver, clock).await;
                course.ends("body");
                return read;
            }
            // The server had closed a connection that rested: that is no answer to this request.
            Err(failed) if rest.is_some_and(|rest| is_stale(&failed, &outgoing.method, rest)) => {
                client.pool.forget(origin(&outgoing.url));
                course.resent += u32::from(failed.again != Again::Always);
            }
            Err(failed) => {
                if let ErrorKind::Timeout(_) = failed.kind {
                    client.pool.doubt(origin(&outgoing.url), &connection);
                }
                return Err(failed);
            }
        }
    }
}

/// Whether a failure says that the server had closed the connection while it rested, and nothing about the request.
fn is_stale(failed: &Failed, method: &Method, rest: Duration) -> bool {
    failed.kind == ErrorKind::Connection
        && match failed.again {
            Again::Always | Again::Now => true,
            Again::IfIdempotent => is_idempotent(method) && rest >= STALE,
            Again::Never => false,
        }
}

async fn connect(client: &Client, outgoing: &Outgoing, mut clock: Pin<&mut Clock>) -> Result<Connection, Failed> {
    let limit = clock.as_ref().timeout.connect;
    clock.as_mut().limit(limit);
    let mut connected = clock.as_mut().within(client.connect(&outgoing.url)).await;
    for _ in 0..FILE_LOOKS {
        let Ok(Err(ConnectFailed { lacks_files: true, .. })) = &connected else { break };
        // Those that rest are closed when their tasks have had their turn; the others when their requests have ended.
        client.pool.forget_all();
        connected = clock.as_mut().within(connect_later(client, &outgoing.url)).await;
    }
    match connected {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(failed)) => Err(Failed {
            kind: failed.kind,
            detail: failed.detail,
            again: if failed.may_pass { Again::Always } else { Again::Never },
        }),
        Err(_) => Err(clock.passed(Phase::Connect, 0)),
    }
}

async fn connect_later(client: &Client, url: &Url) -> Result<Connection, ConnectFailed> {
    tokio::time::sleep(FILE_PAUSE).await;
    client.connect(url).await
}

async fn send(
    client: &Client,
    connection: &mut Connection,
    outgoing: &Outgoing,
    mut clock: Pin<&mut Clock>,
) -> Result<(response::Parts, Incoming), Failed> {
    let request = message(client, connection, outgoing)?;
    let limit = clock.as_ref().timeout.read;
    clock.as_mut().limit(limit);
    let sent = clock.as_mut().within(async {
        connection.ready().await.map_err(|error| broken(&error, true))?;
        connection.send(request).await.map_err(|error| {
            let is_unsent = error.message().is_some();
            broken(error.error(), is_unsent)
        })
    });
    match sent.await {
        Ok(answer) => answer.map(http::Response::into_parts),
        Err(_) => Err(clock.passed(Phase::Headers, 0)),
    }
}

fn may_have_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::TRACE)
}

/// The request as hyper wants it.
fn message(client: &Client, connection: &Connection, outgoing: &Outgoing) -> Result<http::Request<Body>, Failed> {
    let url = &outgoing.url;
    let invalid = |error: &dyn std::fmt::Display| {
        Failed::lasting(ErrorKind::InvalidUrl, format!("this URL cannot stand in a request: {error}"))
    };
    let forwarded = client.connector.forwarded(url);
    let whole = connection.is_http2() || forwarded.is_some();
    let target = if whole { &url[..Position::AfterQuery] } else { &url[Position::BeforePath..Position::AfterQuery] };
    let uri = Uri::try_from(target).map_err(|error| invalid(&error))?;
    let mut headers = outgoing.headers.clone();
    if connection.is_http2() {
        // HTTP/2 names the host by itself, and has no connections to keep.
        headers.remove(HOST);
        headers.remove(CONNECTION);
    } else if !headers.contains_key(HOST) {
        let host = &url[Position::BeforeHost..Position::AfterPort];
        headers.insert(HOST, HeaderValue::from_str(host).map_err(|error| invalid(&error))?);
    }
    if let Some(Some(credentials)) = forwarded {
        headers.insert(PROXY_AUTHORIZATION, credentials);
    }
    if outgoing.body.is_empty() && may_have_body(&outgoing.method) && !headers.contains_key(CONTENT_LENGTH) {
        // Some servers wait for a body that nothing says is missing.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let mut request = http::Request::new(Full::new(outgoing.body.clone()));
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    if connection.is_http2() {
        *request.version_mut() = Version::HTTP_2;
    }
    Ok(request)
}

#[expect(clippy::too_many_arguments, reason = "the parts of one exchange, each used once")]
async fn read(
    client: &Client,
    connection: Connection,
    outgoing: &Outgoing,
    head: response::Parts,
    mut body: Incoming,
    follows: bool,
    receiver: &mut dyn Receiver,
    mut clock: Pin<&mut Clock>,
) -> Result<Answer, Failed> {
    let announced = body.size_hint().exact();
    if follows && redirect::is_one(head.status, &head.headers) {
        // Nobody reads a redirect's page: it is thrown away as it came.
        return skip(client, connection, outgoing, head, body, clock).await;
    }
    let codings = decode::codings(head.headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes));
    if codings.len() > decode::MOST_CODINGS {
        return Err(Failed::lasting(ErrorKind::InvalidResponse, "the body is encoded more than five times over"));
    }
    let mut target = receiver.place(&head)?;
    if let (Some(bytes), true) = (announced, codings.is_empty()) {
        target.check(bytes)?;
        target.expect(bytes);
    }
    let mut decoder = Decoder::new(&codings, target);
    let mut received = 0;
    loop {
        let limit = clock.as_ref().timeout.read;
        clock.as_mut().limit(limit);
        let frame = match clock.as_mut().within(body.frame()).await {
            Err(_) => {
                client.pool.doubt(origin(&outgoing.url), &connection);
                return Err(clock.passed(Phase::Body, received));
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(cut(&error, received, announced)),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(piece) = frame.into_data() else { continue };
        received += piece.len() as u64;
        let decoded = match decoder.push(piece) {
            Ok(()) => decode_all(&mut decoder, clock.as_mut(), received).await,
            Err(error) => Err(undecodable(&decoder, &error)),
        };
        if let Err(failed) = decoded {
            // The beginning is enough for some; the connection is closed, with the rest in it.
            return if decoder.target().has_its_share() {
                Ok(Answer { head, body: decoder.into_bytes() })
            } else {
                Err(failed)
            };
        }
    }
    client.pool.rest(origin(&outgoing.url), connection);
    decoder.end();
    decode_all(&mut decoder, clock.as_mut(), received).await?;
    while receiver.settle()? {
        turn().await;
    }
    Ok(Answer { head, body: decoder.into_bytes() })
}

/// Lets everything else have its turn.
///
/// Not tokio's own: it puts the wake-up off to the end of the turn of its loop, and where the caller leaves the loop just
/// then, to look for signals, the wake-up would be lost.
async fn turn() {
    let mut has_waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Decodes what has come, a slice at a time: in between, the time limit and the other requests have their turn.
async fn decode_all(decoder: &mut Decoder, mut clock: Pin<&mut Clock>, received: u64) -> Result<(), Failed> {
    while decoder.step().map_err(|error| undecodable(decoder, &error))? == Decoded::More {
        if clock.as_mut().within(turn()).await.is_err() {
            return Err(clock.passed(Phase::Body, received));
        }
    }
    Ok(())
}

/// Reads a page that nobody wants, so that its connection can be used again, unless it is long.
async fn skip(
    client: &Client,
    connection: Connection,
    outgoing: &Outgoing,
    head: response::Parts,
    mut body: Incoming,
    mut clock: Pin<&mut Clock>,
) -> Result<Answer, Failed> {
    let mut left = REDIRECT_PAGE;
    while left > 0 {
        match clock.as_mut().within(body.frame()).await {
            Ok(Some(Ok(frame))) => left = left.saturating_sub(frame.data_ref().map_or(0, |piece| piece.len() as u64)),
            Ok(None) => {
                client.pool.rest(origin(&outgoing.url), connection);
                break;
            }
            _ => break,
        }
    }
    Ok(Answer { head, body: Bytes::new() })
}

fn undecodable(decoder: &Decoder, error: &std::io::Error) -> Failed {
    match decoder.target() {
        target if target.is_overfull() => target.too_large(),
        target if target.is_broken() => {
            Failed::lasting(ErrorKind::File, format!("the file could not be written: {error}"))
        }
        _ => Failed::lasting(
            ErrorKind::InvalidResponse,
            format!("the body does not fit its Content-Encoding ({error}): the server sent a broken or cut body"),
        ),
    }
}

/// A request that found no answer.
fn broken(error: &hyper::Error, is_unsent: bool) -> Failed {
    if error.is_parse() {
        let why = chain(error);
        // Only hyper's servers are told this in another way than by its words.
        let detail = if why.contains("too large") {
            "the answer's head is too large: at most 100 headers, and 128 KB, are read".into()
        } else {
            format!("the answer is not HTTP ({why}): is this a web server?")
        };
        return Failed::lasting(ErrorKind::InvalidResponse, detail);
    }
    let again = if is_unsent { Again::Always } else { Again::IfIdempotent };
    let why = if error.is_incomplete_message() { "the server closed it".into() } else { chain(error) };
    Failed {
        kind: ErrorKind::Connection,
        detail: format!("the connection ended before the answer began: {why}"),
        again,
    }
}

/// Whether the bytes that came are wrong, and not missing.
fn is_invalid(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput};
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), InvalidData | InvalidInput))
}

/// A body that ended too soon.
fn cut(error: &hyper::Error, received: u64, announced: Option<u64>) -> Failed {
    let of = announced.map(|bytes| format!(" of {bytes}")).unwrap_or_default();
    let why = chain(error);
    if error.is_parse() || is_invalid(error) {
        let detail = format!("the body is not valid HTTP after {received}{of} bytes: {why}");
        return Failed::lasting(ErrorKind::InvalidResponse, detail);
    }
    Failed {
        kind: ErrorKind::Connection,
        detail: format!("the connection broke after {received}{of} bytes of the body: {why}"),
        again: Again::IfIdempotent,
    }
}

/// The limits of one exchange, in one timer.
struct Clock {
    timeout: Timeout,
    /// When the whole must have ended.
    end: Option<Instant>,
    /// Which limit the timer is set to: true for a part, false for the whole.
    is_part: bool,
    sleep: Pin<Box<Sleep>>,
    is_set: bool,
}

struct Passed;

impl Clock {
    fn start(timeout: Timeout, spent: Duration) -> Self {
        let now = Instant::now();
        let end = timeout.total.and_then(|total| now.checked_add(total.saturating_sub(spent)));
        let sleep = Box::pin(tokio::time::sleep_until(end.unwrap_or(now)));
        Self { timeout, end, is_part: false, sleep, is_set: end.is_some() }
    }

    /// Sets the timer for the next part, which must not outlast the whole.
    fn limit(self: Pin<&mut Self>, part: Option<Duration>) {
        let this = self.get_mut();
        let part_end = part.and_then(|limit| Instant::now().checked_add(limit));
        let until = match (part_end, this.end) {
            (None, None) => return this.is_set = false,
            (None, Some(_)) if this.is_set && !this.is_part => return,
            (None, Some(end)) => (end, false),
            (Some(part), Some(end)) if end <= part => (end, false),
            (Some(part), _) => (part, true),
        };
        (this.is_part, this.is_set) = (until.1, true);
        this.sleep.as_mut().reset(until.0);
    }

    /// Waits for `work`, which goes first: what is there already is taken, however late it is.
    async fn within<T>(self: Pin<&mut Self>, work: impl Future<Output = T>) -> Result<T, Passed> {
        let this = self.get_mut();
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            if this.is_set && this.sleep.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Passed));
            }
            Poll::Pending
        })
        .await
    }

    fn passed(&self, phase: Phase, received: u64) -> Failed {
        let (limit, name) = match (phase, self.is_part) {
            (_, false) => (self.timeout.total, "timeout"),
            (Phase::Connect, true) => (self.timeout.connect, "connect timeout"),
            (_, true) => (self.timeout.read, "read timeout"),
        };
        let when = match phase {
            Phase::Connect => "while connecting".to_owned(),
            Phase::Headers => "waiting for the answer's headers".to_owned(),
            Phase::Body => format!("in the body, after {received} bytes"),
        };
        let seconds = limit.unwrap_or_default().as_secs_f64();
        Failed {
            kind: ErrorKind::Timeout(phase),
            detail: format!("the {name} of {seconds} s passed {when}: the server is slow, or timeout= too short"),
            again: if phase == Phase::Connect { Again::Always } else { Again::IfIdempotent },
        }
    }
}
