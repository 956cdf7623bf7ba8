//! `download`: as `fetch`, but the bodies go to files.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use raddle_fetch::{Checksum, Download, DownloadItem, Downloads, Eagerness, Step};

use crate::fetch::{Report, drive, refuse};
use crate::fetch_options::FetchOptions;
use crate::fetch_request::read_item;
use crate::fetch_response::{Told, told};

/// Items that are read at once: enough for hosts to take turns.
const AHEAD: usize = 1024;

/// URL or request, name and checksum of a file.
type Given<'py> = (Bound<'py, PyAny>, Option<String>, Option<String>);

/// URL, path, status, size, whether it was resumed, checksum, seconds, attempts and error of a download.
type Done = (String, Option<PathBuf>, Option<u16>, u64, bool, Option<String>, f64, u32, Option<Told>);

/// Refuse a name that no file in the folder can have.
#[pyfunction]
pub(crate) fn check_name(name: &str) -> PyResult<()> {
    raddle_fetch::check_file_name(name).map_err(PyValueError::new_err)
}

/// Refuse a text that is no checksum.
#[pyfunction]
pub(crate) fn check_checksum(text: &str) -> PyResult<()> {
    read_checksum(text).map(drop)
}

fn read_checksum(text: &str) -> PyResult<Checksum> {
    Checksum::parse(text).map_err(|detail| PyValueError::new_err(format!("checksum=: {detail}")))
}

fn read_given(given: &Bound<'_, PyAny>, index: usize) -> PyResult<DownloadItem> {
    let (item, name, checksum): Given<'_> = given.extract()?;
    let mut made = DownloadItem::new(read_item(&item, index)?);
    if let Some(name) = name {
        made = made.name(&name).map_err(PyValueError::new_err)?;
    }
    if let Some(text) = checksum {
        made = made.checksum(read_checksum(&text)?);
    }
    Ok(made)
}

fn told_download(download: Download) -> Done {
    let Download { url, path, status, size, resumed, checksum, elapsed, attempts, error } = download;
    (url, path, status, size, resumed, checksum, elapsed.as_secs_f64(), attempts, error.as_ref().map(told))
}

/// Download the items of a list into a folder; return what became of each, in its order.
#[pyfunction]
pub(crate) fn download(
    py: Python<'_>,
    items: &Bound<'_, PyList>,
    folder: PathBuf,
    options: &Bound<'_, FetchOptions>,
    overwrite: bool,
    resume: bool,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<Vec<Done>> {
    let FetchOptions { options, raises } = options.get();
    let mut downloads = Downloads::new(&folder, options.clone(), overwrite, resume).map_err(|error| refuse(&error))?;
    let mut ended: Vec<Option<Download>> = Vec::new();
    ended.resize_with(items.len(), || None);
    let (mut read, mut done) = (0, 0);
    let mut report = Report::new(progress);
    loop {
        let step = drive(py, report.next(), |until| downloads.step(until, Eagerness::EachOutcome))?;
        if step == Step::Done {
            break;
        }
        if step == Step::Hungry {
            for given in items.iter().skip(read).take(AHEAD) {
                downloads.push(read as u64, read_given(&given, read)?);
                read += 1;
            }
            if read >= ended.len() {
                downloads.close();
            }
        }
        for (index, download) in py.detach(|| downloads.take()) {
            if let (true, Some(error)) = (*raises, &download.error) {
                return Err(crate::fetch_response::exception(py, error));
            }
            ended[index as usize] = Some(download);
            done += 1;
        }
        report.tell(done)?;
    }
    report.end(done)?;
    Ok(ended.into_iter().flatten().map(told_download).collect())
}
