//! The options of a call, read once from what Python says.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use raddle_fetch::{ClientCertificate, ClientOptions, Credentials, Options, Proxy, Timeout, Verify, parse_header};

/// What a call of `fetch` and its kind asks for. The package has checked the types.
#[pyclass(frozen, module = "raddle._native")]
pub(crate) struct FetchOptions {
    pub(crate) options: Options,
    pub(crate) raises: bool,
}

/// Seconds for the whole, for connecting and for silence.
pub(crate) type Limits = (Option<f64>, Option<f64>, Option<f64>);

pub(crate) fn timeout(limits: Limits) -> PyResult<Timeout> {
    let read = |seconds: Option<f64>| match seconds {
        None => Ok(None),
        Some(seconds) if seconds > 0.0 => Ok(Duration::try_from_secs_f64(seconds).ok()),
        Some(seconds) => Err(PyValueError::new_err(format!("timeout= must be more than 0 seconds, not {seconds}"))),
    };
    Ok(Timeout { total: read(limits.0)?, connect: read(limits.1)?, read: read(limits.2)? })
}

/// Reads `auth=`, a pair of user and password.
pub(crate) fn credentials(auth: &Bound<'_, PyAny>) -> PyResult<Credentials> {
    auth.extract().map(|(user, password)| Credentials::Basic(user, password))
}

#[pymethods]
impl FetchOptions {
    #[new]
    fn new(values: &Bound<'_, PyDict>) -> PyResult<Self> {
        let defaults = Options::default();
        let headers: Vec<(String, Vec<u8>)> = get(values, "headers", Vec::new())?;
        let mut map = raddle_fetch::HeaderMap::new();
        for (name, value) in headers {
            let (name, value) = parse_header(&name, &value).map_err(PyValueError::new_err)?;
            let is_second = name == "host" && map.contains_key("host");
            if is_second || name == "content-length" {
                let why = if is_second { "a second Host" } else { "Content-Length, which each body has of its own" };
                return Err(PyValueError::new_err(format!("headers= must not name {why}: leave it out")));
            }
            map.append(name, value);
        }
        let options = Options {
            concurrency: get(values, "concurrency", defaults.concurrency)?,
            per_host: get(values, "per_host", None)?,
            rate: get(values, "rate", None)?,
            timeout: match values.get_item("timeout")? {
                Some(limits) => timeout(limits.extract()?)?,
                None => defaults.timeout,
            },
            retries: get(values, "retries", defaults.retries)?,
            retry_statuses: get(values, "retry_statuses", defaults.retry_statuses)?,
            longest_wait: Duration::try_from_secs_f64(get(values, "longest_wait", 30.0)?).unwrap_or(Duration::MAX),
            headers: map,
            params: get(values, "params", Vec::new())?,
            auth: values.get_item("auth")?.map(|auth| credentials(&auth)).transpose()?,
            redirects: get(values, "redirects", defaults.redirects)?,
            max_bytes: get(values, "max_bytes", None)?,
            cookies: get(values, "cookies", false)?,
            robots: get(values, "robots", false)?,
            client: client(values)?,
        };
        Ok(Self { options, raises: get(values, "raises", false)? })
    }
}

fn client(values: &Bound<'_, PyDict>) -> PyResult<ClientOptions> {
    let proxy = match get::<Option<String>>(values, "proxy", None)? {
        None => Proxy::Environment,
        Some(url) if url.is_empty() => Proxy::Direct,
        Some(url) => Proxy::Url(url),
    };
    let verify = match values.get_item("verify")? {
        None => Verify::System,
        Some(value) if value.is_instance_of::<PyString>() => Verify::File(value.extract::<PathBuf>()?),
        Some(value) => {
            if value.extract()? {
                Verify::System
            } else {
                Verify::Nothing
            }
        }
    };
    let certificate = get::<Option<(PathBuf, PathBuf)>>(values, "cert", None)?;
    Ok(ClientOptions {
        proxy,
        verify,
        certificate: certificate.map(|(certificate, key)| ClientCertificate { certificate, key }),
        http2: get(values, "http2", true)?,
    })
}

fn get<'py, T>(values: &Bound<'py, PyDict>, name: &str, default: T) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    match values.get_item(name)? {
        Some(value) => value.extract().map_err(Into::into),
        None => Ok(default),
    }
}

/// The bytes of a Python object, shared with nobody.
pub(crate) fn bytes_of(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    Ok(value.cast::<PyBytes>()?.as_bytes().to_vec())
}
