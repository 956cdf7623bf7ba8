//! `raddle.Response`: what became of one item. Its parts become Python objects when someone asks for them.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyTuple};

use raddle_fetch::{Bytes, Charset, Error, ErrorKind, Outcome, Phase, Response, ResponseParts, Version};

use crate::fetch::shown;
use crate::fetch_request::request_class;

/// The word by which the package knows a kind of error, and the phase of a timeout.
fn word(kind: ErrorKind) -> (&'static str, Option<&'static str>) {
    match kind {
        ErrorKind::InvalidUrl => ("url", None),
        ErrorKind::InvalidRequest => ("request", None),
        ErrorKind::Dns => ("dns", None),
        ErrorKind::Connection => ("connection", None),
        ErrorKind::Tls => ("tls", None),
        ErrorKind::Timeout(phase) => ("timeout", Some(Phase::name(phase))),
        ErrorKind::TooManyRedirects => ("redirects", None),
        ErrorKind::TooLarge => ("large", None),
        ErrorKind::Robots => ("robots", None),
        ErrorKind::Checksum => ("checksum", None),
        ErrorKind::File => ("file", None),
        ErrorKind::Status(_) => ("status", None),
        ErrorKind::Cancelled => ("cancelled", None),
        _ => ("response", None),
    }
}

/// The kind of an error that a word stands for.
fn kind(word: &str, phase: Option<&str>) -> ErrorKind {
    let phases = [Phase::Connect, Phase::Headers, Phase::Body];
    let timeouts = phases.map(ErrorKind::Timeout);
    let kinds = [
        ErrorKind::InvalidUrl,
        ErrorKind::InvalidRequest,
        ErrorKind::Dns,
        ErrorKind::Connection,
        ErrorKind::Tls,
        ErrorKind::TooManyRedirects,
        ErrorKind::TooLarge,
        ErrorKind::Robots,
        ErrorKind::Cancelled,
    ];
    let known = kinds.into_iter().chain(timeouts).find(|kind| self::word(*kind) == (word, phase));
    known.unwrap_or(ErrorKind::InvalidResponse)
}

/// What an exception is made of: the word, the URL, the message, the attempts and the phase.
pub(crate) type Told = (String, String, String, u32, Option<String>);

pub(crate) fn told(error: &Error) -> Told {
    let (kind, phase) = word(error.kind());
    (kind.into(), error.url().into(), error.detail().into(), error.attempts(), phase.map(Into::into))
}

fn raise(py: Python<'_>, told: &Told) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = MAKE.import(py, "raddle._fetch_errors", "make_error").and_then(|make| make.call1(told.clone()));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// The exception of the package for an error of the engine.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    raise(py, &told(error))
}

/// The answer to one request, or the error that came in its place.
///
/// Examples
/// --------
/// >>> import raddle
/// >>> response = raddle.fetch(["no url"])[0]
/// >>> response.ok, response.status, type(response.error).__name__
/// (False, None, 'InvalidURL')
#[pyclass(frozen, weakref, name = "Response", module = "raddle")]
pub(crate) struct FetchResponse {
    /// The body is not in here, but beside it.
    outcome: Outcome,
    item: Py<PyAny>,
    /// The body until somebody asks for `content`, which then takes its place: no body is kept twice.
    body: Mutex<Bytes>,
    body_bytes: usize,
    content: PyOnceLock<Py<PyBytes>>,
    charset: OnceLock<Charset>,
    headers: PyOnceLock<Py<PyAny>>,
    request: PyOnceLock<Py<PyAny>>,
}

impl FetchResponse {
    pub(crate) fn new(mut outcome: Outcome, item: Bound<'_, PyAny>) -> Self {
        let body = outcome.as_mut().map(Response::take_body).unwrap_or_default();
        Self {
            outcome,
            body_bytes: body.len(),
            body: Mutex::new(body),
            item: item.unbind(),
            content: PyOnceLock::new(),
            charset: OnceLock::new(),
            headers: PyOnceLock::new(),
            request: PyOnceLock::new(),
        }
    }

    /// Takes the body from where it is now.
    fn with_body<T>(&self, py: Python<'_>, work: impl FnOnce(&[u8]) -> T) -> T {
        if let Some(content) = self.content.get(py) {
            return work(content.bind(py).as_bytes());
        }
        // A handle of the body, so that the lock is not held meanwhile.
        let body = self.lock_body().clone();
        work(&body)
    }

    fn lock_body(&self) -> MutexGuard<'_, Bytes> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The charset of the body; it is looked for once.
    fn charset_of(&self, response: &Response, body: &[u8]) -> Charset {
        // Not `get_or_init`: a process forked meanwhile would wait for ever for the thread that it has not.
        if let Some(known) = self.charset.get() {
            return *known;
        }
        let found = Charset::find(response.headers().get("content-type"), body);
        *self.charset.get_or_init(|| found)
    }
}

/// The state of a response as it is pickled.
type State<'py> =
    ((String, Option<u16>, String, Vec<(String, Vec<u8>)>), (Bound<'py, PyBytes>, f64, u32, Vec<String>), Option<Told>);

/// How pickle makes a response anew: by a function, from the item and the state.
type Reduced<'py> = (Bound<'py, PyAny>, (Py<PyAny>, State<'py>));

#[pymethods]
impl FetchResponse {
    /// The URL that answered; after redirects, the last one.
    #[getter]
    fn url(&self, py: Python<'_>) -> String {
        match &self.outcome {
            Ok(response) => response.url().to_owned(),
            Err(error) if error.url().is_empty() => shown(self.item.bind(py)),
            Err(error) => error.url().to_owned(),
        }
    }

    /// The `raddle.Request` that was made; for a plain URL, one that says the same.
    #[getter]
    fn request<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let made = self.request.get_or_try_init(py, || {
            let item = self.item.bind(py);
            let request =
                if item.is_instance_of::<PyString>() { request_class(py)?.call1((item,))? } else { item.clone() };
            Ok::<_, PyErr>(request.unbind())
        })?;
        Ok(made.bind(py).clone())
    }

    /// The status, such as 200; None if there is an error.
    #[getter]
    fn status(&self) -> Option<u16> {
        self.outcome.as_ref().ok().map(Response::status)
    }

    /// Whether there is an answer whose status is below 400.
    #[getter]
    fn ok(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Response::is_ok)
    }

    /// The version of HTTP, such as 'HTTP/1.1'; None if there is an error.
    #[getter]
    fn http_version(&self) -> Option<String> {
        self.outcome.as_ref().ok().map(|response| format!("{:?}", response.version()))
    }

    /// The headers: a mapping that knows no upper or lower case; `get_all` gives those that repeat.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let made = self.headers.get_or_try_init(py, || {
            let class = CLASS.import(py, "raddle._headers", "Headers")?;
            Ok::<_, PyErr>(class.call1((self.pairs(py),))?.unbind())
        })?;
        Ok(made.bind(py).clone())
    }

    /// The body as bytes, decoded from its content-encoding.
    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let made = self.content.get_or_init(py, || self.with_body(py, |body| PyBytes::new(py, body).unbind()));
        // What has been copied is let go.
        drop(std::mem::take(&mut *self.lock_body()));
        made.bind(py).clone()
    }

    /// The body as text, by its declared charset, else by the one that it looks like.
    #[getter]
    fn text<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let Ok(response) = &self.outcome else { return PyString::new(py, "") };
        self.with_body(py, |body| {
            let text = py.detach(|| self.charset_of(response, body).decode(body));
            PyString::new(py, &text)
        })
    }

    /// The name of the charset that `text` is read by.
    #[getter]
    fn charset(&self, py: Python<'_>) -> Option<&'static str> {
        let response = self.outcome.as_ref().ok()?;
        Some(self.with_body(py, |body| py.detach(|| self.charset_of(response, body).name())))
    }

    /// Seconds from the moment the last attempt was sent to the last byte of its body.
    #[getter]
    fn elapsed(&self) -> f64 {
        match &self.outcome {
            Ok(response) => response.elapsed().as_secs_f64(),
            Err(error) => error.elapsed().as_secs_f64(),
        }
    }

    /// How often the request was tried; 0 if it could not be sent at all.
    #[getter]
    fn attempts(&self) -> u32 {
        match &self.outcome {
            Ok(response) => response.attempts(),
            Err(error) => error.attempts(),
        }
    }

    /// The URLs that sent the request on, in their order.
    #[getter]
    fn redirects<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let urls = self.outcome.as_ref().map(Response::redirects).unwrap_or_default();
        PyTuple::new(py, urls.iter().map(|url| &**url))
    }

    /// What kept the answer from coming, a `raddle.FetchError`; None if it came, whatever its status.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<PyErr> {
        self.outcome.as_ref().err().map(|error| exception(py, error))
    }

    /// The body, read as JSON.
    ///
    /// Raises
    /// ------
    /// FetchError
    ///     If there is no answer.
    /// ValueError
    ///     If the body is no JSON.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        if let Err(error) = &self.outcome {
            return Err(exception(py, error));
        }
        LOADS.import(py, "json", "loads")?.call1((self.content(py),))
    }

    /// Raise the error if there is one, or an `HTTPStatusError` for a status of 400 and above; else return the response.
    fn raise_for_status(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        match &slf.get().outcome {
            Err(error) => Err(exception(py, error)),
            Ok(response) if response.status() < 400 => Ok(slf),
            Ok(_) => {
                let made = MAKE.import(py, "raddle._fetch_errors", "make_status_error")?.call1((&slf,))?;
                Err(PyErr::from_value(made))
            }
        }
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        match &self.outcome {
            Ok(response) => {
                let bytes = thousands(self.body_bytes);
                let seconds = response.elapsed().as_secs_f64();
                format!("<Response {} {} {bytes} bytes in {seconds:.2} s>", response.status(), response.url())
            }
            Err(error) => {
                let kind = exception(py, error).get_type(py).name().map(|name| name.to_string());
                format!("<Response {} {}: {}>", kind.unwrap_or_default(), self.url(py), error.detail())
            }
        }
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let (py, this) = (slf.py(), slf.get());
        let pairs = this
            .outcome
            .as_ref()
            .map(|response| response.headers().iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect());
        let redirects = this.outcome.as_ref().map(Response::redirects).unwrap_or_default();
        let state = (
            (this.url(py), this.status(), this.http_version().unwrap_or_default(), pairs.unwrap_or_default()),
            (
                this.with_body(py, |body| PyBytes::new(py, body)),
                this.elapsed(),
                this.attempts(),
                redirects.iter().map(|url| url.to_string()).collect(),
            ),
            this.outcome.as_ref().err().map(told),
        );
        Ok((slf.get_type().getattr("_restore")?, (this.item.clone_ref(py), state)))
    }

    #[staticmethod]
    fn _restore(item: Bound<'_, PyAny>, state: State<'_>) -> Self {
        let ((url, status, version, headers), (body, elapsed, attempts, redirects), error) = state;
        let elapsed = Duration::try_from_secs_f64(elapsed).unwrap_or_default();
        let outcome = match error {
            Some((word, url, detail, attempts, phase)) => {
                Err(Error::new(kind(&word, phase.as_deref()), url, detail).after(attempts, elapsed))
            }
            None => Ok(Response::from(ResponseParts {
                url: url.into(),
                status: status.unwrap_or_default(),
                version: if version == "HTTP/2.0" { Version::HTTP_2 } else { Version::HTTP_11 },
                headers: headers.into_iter().collect(),
                body: Bytes::copy_from_slice(body.as_bytes()),
                elapsed,
                attempts,
                redirects: redirects.into_iter().map(Into::into).collect(),
            })),
        };
        Self::new(outcome, item)
    }
}

impl FetchResponse {
    /// Names and values as texts: bytes beyond ASCII are read as Latin-1, as HTTP always had it.
    fn pairs<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyString>, String)> {
        let headers = self.outcome.as_ref().map(Response::headers).ok();
        let pairs = headers.into_iter().flat_map(raddle_fetch::Headers::iter);
        pairs.map(|(name, value)| (PyString::new(py, name), value.iter().map(|b| char::from(*b)).collect())).collect()
    }
}

/// A number as people read it, such as `12,345`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % 3 == first % 3 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
