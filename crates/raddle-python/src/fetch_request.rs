//! An item of the input: a URL, or a `raddle.Request`.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use raddle_fetch::{Error, Request};

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
        return Ok(Request::new(&url.to_string_lossy()));
    }
    if item.is_instance(request_class(item.py())?)? {
        return read_request(item);
    }
    let kind = item.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "item {index} of urls is of type {kind}: each must be a URL (str) or a raddle.Request"
    )))
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
    let url: String = item.getattr("url")?.cast_into::<PyString>()?.to_string_lossy().into_owned();
    let (method, headers, params, body, auth, limits): Parts<'_> = item.call_method0("_parts")?.extract()?;
    let auth = auth.map(|auth| credentials(&auth)).transpose()?;
    let limits = limits.map(timeout).transpose()?;
    let body = body.map(|body| bytes_of(&body)).transpose()?;
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| Ok((name.as_str(), bytes_of(value)?))).collect::<PyResult<_>>()?;
    let build = || -> Result<Request, Error> {
        let mut request = Request::new(&url)?.method(&method)?;
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
        Ok(if let Some(body) = body { request.body(body) } else { request })
    };
    Ok(build())
}
