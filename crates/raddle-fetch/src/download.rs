//! Pages straight to files: each under a temporary name until it is whole, and resumed where the server's file is the same.
//!
//! Invariant: a file has its final name only when it is whole, and right if a checksum was asked for.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::{ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_LENGTH, HeaderValue, RANGE};
use http::{HeaderMap, response};
use url::Url;

use crate::batch::{Batch, Eagerness, Step};
use crate::checksum::Checksum;
use crate::error::{Error, ErrorKind};
use crate::exchange::{Again, Failed, Receiver};
use crate::filename;
use crate::options::Options;
use crate::part::{Meaning, Part};
use crate::request::{IntoRequest, Request};
use crate::response::Response;
use crate::target::{Sink, Target};

/// The page of an error is read this far, so that its connection can be used again.
const ERROR_PAGE: u64 = 64 << 10;

/// One file to download.
///
/// ```
/// use raddle_fetch::{Checksum, DownloadItem};
///
/// let item = DownloadItem::new("http://127.0.0.1/file").name("mine.bin")?;
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug)]
pub struct DownloadItem {
    request: Result<Request, Error>,
    name: Option<String>,
    checksum: Option<Checksum>,
}

impl DownloadItem {
    /// A file whose name the server or the URL says.
    pub fn new(request: impl IntoRequest) -> Self {
        Self { request: request.into_request(), name: None, checksum: None }
    }

    /// A name in the folder.
    ///
    /// # Errors
    /// What is wrong with the name: it must not lead out of the folder.
    pub fn name(mut self, name: &str) -> Result<Self, String> {
        filename::check_given(name)?;
        self.name = Some(name.to_owned());
        Ok(self)
    }

    /// What the file must be.
    #[must_use]
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = Some(checksum);
        self
    }
}

impl<R: IntoRequest> From<R> for DownloadItem {
    fn from(request: R) -> Self {
        Self::new(request)
    }
}

/// What became of one download.
#[derive(Clone, Debug)]
pub struct Download {
    /// The URL that was asked for.
    pub url: String,
    /// Where the file is.
    pub path: Option<PathBuf>,
    /// The status of the last answer.
    pub status: Option<u16>,
    /// The file's size in bytes; without a file, what had come.
    pub size: u64,
    /// Whether the file goes on from what was there before.
    pub resumed: bool,
    /// The checksum that was asked for, and is right.
    pub checksum: Option<String>,
    /// From the moment the last attempt was sent to its end.
    pub elapsed: Duration,
    /// How often it was tried.
    pub attempts: u32,
    /// Why there is no file.
    pub error: Option<Error>,
}

/// Downloads under way, driven by whoever calls [`Downloads::step`].
#[derive(Debug)]
pub struct Downloads {
    batch: Batch,
    folder: PathBuf,
    overwrite: bool,
    resume: bool,
    max_bytes: Option<u64>,
    underway: HashMap<u64, Underway>,
    /// The names that this call has given, so that it does not overwrite its own files.
    given: HashSet<String>,
    /// For each name that was not free, where to go on numbering.
    numbers: HashMap<String, u32>,
}

struct Underway {
    url: Option<Url>,
    shown: String,
    name: Option<String>,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Underway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What a download and its exchange share.
struct State {
    part: Part,
    /// The caller asks for a range of its own.
    has_own_range: bool,
    /// The name that the server gives.
    named: Option<String>,
    status: Option<u16>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Downloads {
    /// Downloads into a folder that exists.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for options that cannot be met.
    pub fn new(folder: &Path, options: Options, overwrite: bool, resume: bool) -> Result<Self, Error> {
        let max_bytes = options.max_bytes;
        Ok(Self {
            batch: Batch::new(options)?,
            folder: folder.into(),
            overwrite,
            resume,
            max_bytes,
            underway: HashMap::new(),
            given: HashSet::new(),
            numbers: HashMap::new(),
        })
    }

    /// Adds a file.
    pub fn push(&mut self, index: u64, item: DownloadItem) {
        let mut request = item.request;
        if let Ok(request) = &mut request {
            // What is saved is the file itself, and parts of it can be asked for.
            request.headers.entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        }
        let (url, shown) = match &request {
            Ok(request) => (Some(request.url.clone()), request.url().to_owned()),
            Err(error) => (None, error.url().to_owned()),
        };
        let has_own_range = request.as_ref().is_ok_and(|request| request.headers.contains_key(RANGE));
        let state = Arc::new(Mutex::new(State {
            part: Part::new(&self.folder, &shown, self.resume && !has_own_range, item.checksum),
            has_own_range,
            named: None,
            status: None,
        }));
        let receiver = ToFile { state: Arc::clone(&state), limit: self.max_bytes };
        self.underway.insert(index, Underway { url, shown, name: item.name, state });
        self.batch.push_to(index, request, Box::new(receiver));
    }

    /// Says that no more files will come.
    pub fn close(&mut self) {
        self.batch.close();
    }

    /// As [`Batch::step`].
    pub fn step(&mut self, until: Option<Instant>, eagerness: Eagerness) -> Step {
        self.batch.step(until, eagerness, None)
    }

    /// The downloads that have ended since the last time. Their files have their names now.
    pub fn take(&mut self) -> Vec<(u64, Download)> {
        let outcomes: Vec<_> = self.batch.take().collect();
        outcomes.into_iter().filter_map(|(index, outcome)| Some((index, self.finish(index, outcome)?))).collect()
    }

    fn finish(&mut self, index: u64, outcome: Result<Response, Error>) -> Option<Download> {
        let underway = self.underway.remove(&index)?;
        let mut state = lock(&underway.state);
        let mut download = Download {
            url: underway.shown.clone(),
            path: None,
            status: state.status,
            size: state.part.length,
            resumed: state.part.resumed,
            checksum: None,
            elapsed: Duration::ZERO,
            attempts: 0,
            error: None,
        };
        let kept = match outcome {
            Ok(response) => {
                (download.elapsed, download.attempts) = (response.elapsed(), response.attempts());
                download.status = Some(response.status());
                self.place(&underway, &mut state, &response, &mut download)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            (download.elapsed, download.attempts) = (error.elapsed(), error.attempts());
            match error.kind() {
                ErrorKind::Connection | ErrorKind::Timeout(_) | ErrorKind::Dns | ErrorKind::Status(_) => {
                    state.part.leave()
                }
                _ => state.part.discard(),
            }
            download.error = Some(error);
        }
        Some(download)
    }

    /// Gives a whole file its name.
    fn place(
        &mut self,
        underway: &Underway,
        state: &mut State,
        response: &Response,
        download: &mut Download,
    ) -> Result<(), Error> {
        let failed = |kind, detail: String| {
            Error::new(kind, response.url(), detail).after(response.attempts(), response.elapsed())
        };
        let status = response.status();
        if !(200..300).contains(&status) {
            let detail = format!("the server answered {status}, and not with a file");
            return Err(failed(ErrorKind::Status(status), detail));
        }
        download.checksum = state.part.check().map_err(|detail| failed(ErrorKind::Checksum, detail))?;
        let by_url = || underway.url.as_ref().map(filename::from_url).unwrap_or_default();
        let name = underway.name.clone().or_else(|| state.named.take()).unwrap_or_else(by_url);
        let given = &self.given;
        let free = |number| {
            let name = filename::numbered(&name, number);
            (!given.contains(&filename::folded(&name))).then_some(name)
        };
        let first = self.numbers.get(&name).copied().unwrap_or(1);
        let (path, number) = state.part.rename(self.overwrite, first, free).map_err(|error| {
            failed(ErrorKind::File, format!("the file {name:?} could not be put into {:?}: {error}", self.folder))
        })?;
        self.numbers.insert(name, number + 1);
        if let Some(name) = path.file_name() {
            self.given.insert(filename::folded(&name.to_string_lossy()));
        }
        download.path = Some(path);
        Ok(())
    }
}

/// Sends the body of a success to the part file.
struct ToFile {
    state: Arc<Mutex<State>>,
    limit: Option<u64>,
}

impl Receiver for ToFile {
    fn prepare(&mut self, headers: &mut HeaderMap) -> Result<(), Failed> {
        let mut state = lock(&self.state);
        if state.has_own_range {
            return Ok(());
        }
        state.part.ask(headers).map_err(|error| unwritable(&error))
    }

    fn place(&mut self, head: &response::Parts) -> Result<Target, Failed> {
        let mut state = lock(&self.state);
        let status = head.status.as_u16();
        state.status = Some(status);
        let meaning = if state.has_own_range { Meaning::Anew } else { state.part.meaning(status, &head.headers) };
        if let Meaning::Useless(why) = meaning {
            // Without what is there the request makes sense again, once: it then asks for no part.
            let again = if state.part.has_asked() { Again::Now } else { Again::Never };
            state.part.discard();
            return Err(Failed { kind: ErrorKind::InvalidResponse, detail: why.into(), again });
        }
        if !head.status.is_success() {
            return Ok(Target::memory(Some(ERROR_PAGE)));
        }
        let named = head.headers.get(CONTENT_DISPOSITION);
        state.named = named.and_then(|value| filename::from_disposition(value.as_bytes()));
        let ready = if let Meaning::GoOn = meaning {
            state.part.go_on(&head.headers)
        } else {
            let announced = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            state.part.begin(&head.headers, announced)
        };
        ready.map_err(|error| unwritable(&error))?;
        let room = self.limit.map(|limit| limit.saturating_sub(state.part.length));
        Ok(Target::sink(Box::new(ToPart(Arc::clone(&self.state))), room))
    }

    fn settle(&mut self) -> Result<bool, Failed> {
        self.check()
    }
}

impl ToFile {
    /// Looks at a part when its answer has been read whole.
    fn check(&self) -> Result<bool, Failed> {
        let mut state = lock(&self.state);
        if state.part.is_overlong() {
            state.part.discard();
            return Err(Failed::lasting(
                ErrorKind::InvalidResponse,
                "the server sent more than the part that it named",
            ));
        }
        let missing = state.part.missing();
        if missing > 0 && !state.has_own_range && state.status.is_some_and(|status| (200..300).contains(&status)) {
            let detail = format!("the server sent only a part of the file: {missing} bytes are missing");
            return Err(Failed { kind: ErrorKind::Connection, detail, again: Again::IfIdempotent });
        }
        state.part.hash_some().map_err(|error| unwritable(&error))
    }
}

fn unwritable(error: &io::Error) -> Failed {
    Failed::lasting(ErrorKind::File, format!("the file could not be written: {error}"))
}

struct ToPart(Arc<Mutex<State>>);

impl Sink for ToPart {
    fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        lock(&self.0).part.write(piece)
    }
}

/// Downloads all items into a folder, which is made if it is missing; returns what became of each, in their order.
///
/// # Errors
/// Only for options that cannot be met, and for a folder that cannot be made.
///
/// ```
/// # use std::io::{Read, Write};
/// # let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let url = format!("http://{}/greeting.txt", server.local_addr().unwrap());
/// # std::thread::spawn(move || {
/// #     let (mut connection, _) = server.accept().unwrap();
/// #     let _ = connection.read(&mut [0; 4096]).unwrap();
/// #     connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
/// # });
/// # let folder = std::env::temp_dir().join(format!("raddle-doctest-{}", std::process::id()));
/// use raddle_fetch::Options;
///
/// let downloads = raddle_fetch::download([url], &folder, &Options::default())?;
/// let path = downloads[0].path.as_ref().expect("it is there");
/// assert_eq!(path.file_name().unwrap(), "greeting.txt");
/// assert_eq!(std::fs::read(path).unwrap(), b"hello");
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), raddle_fetch::Error>(())
/// ```
pub fn download<I>(items: I, folder: &Path, options: &Options) -> Result<Vec<Download>, Error>
where
    I: IntoIterator<Item: Into<DownloadItem>>,
{
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::new(ErrorKind::File, "", format!("the folder {folder:?} cannot be made: {error}")))?;
    let mut downloads = Downloads::new(folder, options.clone(), false, true)?;
    let mut items = items.into_iter();
    let (mut pushed, mut ended) = (0, Vec::new());
    loop {
        match downloads.step(None, Eagerness::EachOutcome) {
            Step::Done => break,
            Step::Hungry => match items.next() {
                Some(item) => {
                    downloads.push(pushed, item.into());
                    pushed += 1;
                }
                None => downloads.close(),
            },
            Step::Finished | Step::Paused => ended.extend(downloads.take()),
        }
    }
    ended.sort_by_key(|(index, _)| *index);
    Ok(ended.into_iter().map(|(_, download)| download).collect())
}
