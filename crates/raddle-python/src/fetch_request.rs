//! An item of the input: a URL, or a `raddle.Request`.

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use raddle_fetch::{Error, ErrorKind, IntoRequest, Request, invalid_url};

use crate::fetch::Item;
use crate::fetch_options::{Limits, bytes_of, credentials, timeout};

/// `raddle.Request`.
pub(crate) fn request_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "raddle._request", "Request")
}

/// Reads an item. What is wrong with a request is its own affair; what is no request at all is the caller's.
///
/// # Errors
/// `TypeError` for what is neither a URL nor a `Request`.
pub(crate) fn read_item(item: &Bound<'_, PyAny>, index: usize) -> PyResult<Item> {
    if let Ok(url) = item.cast::<PyString>() {
        return Ok(read_url(url));
    }
    if item.is_instance(request_class(item.py())?)? {
        return read_request(item);
    }
    let kind = item.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "item {index} of urls is of type {kind}: each must be a URL (str) or a raddle.Request"
    )))
}

fn read_url(url: &Bound<'_, PyString>) -> Item {
    match url.to_str() {
        Ok(text) => Request::new(text),
        // Half a pair of UTF-16, or a byte that could not be read: with another character in its place it is another URL.
        Err(_) => Err(invalid_url(
            &url.to_string_lossy(),
            "this URL holds a character that is none (a surrogate): look how the text was decoded",
        )),
    }
}

/// Method, headers, parameters, body, credentials and time limits, as the class has made them ready.
type Parts<'py> = (
    String,
    Vec<(String, Bound<'py, PyAny>)>,
    Vec<(String, String)>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Option<Limits>,
);

fn read_request(item: &Bound<'_, PyAny>) -> PyResult<Item> {
    let request = match read_url(&item.getattr("url")?.cast_into::<PyString>()?) {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    let url = request.url().to_owned();
    match read_parts(item, request) {
        Err(error) if error.is_instance_of::<PyException>(item.py()) => {
            // One request that cannot be made, such as one whose `json` is none, costs no other.
            let detail = format!("this request cannot be made: {error}");
            Ok(Err(Error::new(ErrorKind::InvalidRequest, url, detail)))
        }
        read => read,
    }
}

fn read_parts(item: &Bound<'_, PyAny>, mut request: Request) -> PyResult<Item> {
    let (method, headers, params, body, auth, limits): Parts<'_> = item.call_method0("_parts")?.extract()?;
    let auth = auth.map(|auth| credentials(&auth)).transpose()?;
    let limits = limits.map(timeout).transpose()?;
    let body = body.map(|body| bytes_of(&body)).transpose()?;
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| Ok((name.as_str(), bytes_of(value)?))).collect::<PyResult<_>>()?;
    let build = || -> Result<Request, Error> {
        request = request.method(&method)?;
        for (name, value) in &headers {
            request = request.header(name, value)?;
        }
        for (name, value) in &params {
            request = request.param(name, value);
        }
        if let Some(auth) = &auth {
            request = request.credentials(auth)?;
        }
        if let Some(limits) = limits {
            request = request.timeout(limits);
        }
        if let Some(body) = body { request.body(body) } else { request }.into_request()
    };
    Ok(build())
}
