//! The file of a download while it is not whole, and what is needed to go on with it.
//!
//! Its name is made of the URL, so that a later call finds it; a note beside it holds the validator by which the server can
//! say that its file is still the same. Invariants: a part is written by one download at a time (it is locked), it is never
//! opened through a link, it belongs to this process's user alone (its name is no secret, and the folder may be open to
//! others), and bytes are added to it only if the server has confirmed the validator.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{
    CONTENT_ENCODING, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use sha2::Digest;
use sha2::digest::DynDigest;

use crate::checksum::{Checksum, hex};

/// From this size on the note is written at the start, so that even a killed process leaves something to go on with.
const NOTED_AT_ONCE: u64 = 1 << 20;
/// What of an old part is read and hashed in a step: about a millisecond.
const HASHED_AT_ONCE: usize = 1 << 20;
/// Parts of one URL that may be under way in one folder.
const MOST: u32 = 1000;
const FIRST_LINE: &str = "raddle download 1";

/// A part file.
pub(crate) struct Part {
    folder: PathBuf,
    /// The digest of the URL.
    key: String,
    file: Option<(PathBuf, File)>,
    pub(crate) length: u64,
    validator: Option<String>,
    resumes: bool,
    pub(crate) resumed: bool,
    checksum: Option<Checksum>,
    hasher: Option<Box<dyn DynDigest + Send>>,
    /// What of the beginning is to be hashed still, and from where on.
    unhashed: Option<(Box<dyn DynDigest + Send>, u64)>,
    /// The range that the last request asked for begins here.
    asked: u64,
    /// The size of the whole file, as far as the server tells it.
    total: Option<u64>,
    /// Where the range that is being received ends, if it is one.
    end: Option<u64>,
}

/// What an answer means for a part.
pub(crate) enum Meaning {
    /// The bytes to come begin at the file's first.
    Anew,
    /// The bytes to come follow those that are there.
    GoOn,
    /// The server cannot go on where the part ends: without it the request makes sense again.
    Useless(&'static str),
}

impl Part {
    pub(crate) fn new(folder: &Path, url: &str, resumes: bool, checksum: Option<Checksum>) -> Self {
        Self {
            folder: folder.into(),
            key: hex(&sha2::Sha256::digest(url.as_bytes())),
            file: None,
            length: 0,
            validator: None,
            resumes,
            resumed: false,
            checksum,
            hasher: None,
            unhashed: None,
            asked: 0,
            total: None,
            end: None,
        }
    }

    /// Asks for the rest of the file, if there is a beginning to go on with.
    pub(crate) fn ask(&mut self, headers: &mut HeaderMap) -> io::Result<()> {
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
        self.asked = 0;
        if !self.resumes {
            return Ok(());
        }
        if self.file.is_none() {
            self.adopt()?;
        }
        let validator = self.validator.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        if let (Some(validator), true) = (validator, self.length > 0) {
            headers.insert(IF_RANGE, validator);
            headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={}-", self.length)).map_err(io::Error::other)?);
            self.asked = self.length;
        }
        Ok(())
    }

    /// What the head of an answer with a body says about the part.
    pub(crate) fn meaning(&self, status: u16, headers: &HeaderMap) -> Meaning {
        match status {
            206 if self.asked == 0 => Meaning::Useless("the server sent a part of the file that was not asked for"),
            206 if headers.contains_key(CONTENT_ENCODING) => {
                Meaning::Useless("the server sent a part in another encoding")
            }
            206 if !self.is_the_rest(headers) => Meaning::Useless("the server sent another part of the file"),
            206 if self.total.or(range(headers).and_then(|range| range.total)).is_none() => {
                Meaning::Useless("the server sent a part of the file and not how long the whole is")
            }
            206 if validator(headers).is_some_and(|new| Some(new) != self.validator) => {
                Meaning::Useless("the file has changed on the server")
            }
            206 => Meaning::GoOn,
            416 if self.asked > 0 => Meaning::Useless("the file has become shorter on the server"),
            _ => Meaning::Anew,
        }
    }

    /// Whether a `Content-Range` begins where this part ends, and speaks of the same file.
    fn is_the_rest(&self, headers: &HeaderMap) -> bool {
        range(headers).is_some_and(|range| {
            let is_same = self.total.is_none() || range.total.is_none() || self.total == range.total;
            range.start == self.asked && is_same
        })
    }

    /// Whether the last request asked for the rest of a file.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked > 0
    }

    /// What is missing at the end of an answer; the server may send less than was asked for.
    pub(crate) fn missing(&self) -> u64 {
        self.total.map_or(0, |total| total.saturating_sub(self.length))
    }

    /// Whether more came than the range that the server named.
    pub(crate) fn is_overlong(&self) -> bool {
        self.end.is_some_and(|end| self.length > end)
    }

    /// Hashes a piece of what was there before; returns whether there is more of it.
    pub(crate) fn hash_some(&mut self) -> io::Result<bool> {
        let Some((mut hasher, at)) = self.unhashed.take() else { return Ok(false) };
        let (_, file) = self.file.as_mut().ok_or_else(no_file)?;
        let mut piece = vec![0; HASHED_AT_ONCE];
        file.seek(SeekFrom::Start(at))?;
        let bytes = file.read(&mut piece)?;
        if bytes == 0 {
            self.hasher = Some(hasher);
            return Ok(false);
        }
        hasher.update(&piece[..bytes]);
        self.unhashed = Some((hasher, at + bytes as u64));
        Ok(true)
    }

    /// Makes the file ready for its first byte.
    pub(crate) fn begin(&mut self, headers: &HeaderMap, announced: Option<u64>) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(self.claim()?);
        }
        let (path, file) = self.file.as_mut().ok_or_else(no_file)?;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        remove_note(path);
        self.length = 0;
        self.end = None;
        self.resumed = false;
        self.hasher = self.checksum.as_ref().map(Checksum::hasher);
        self.unhashed = None;
        self.total = announced.filter(|_| !headers.contains_key(CONTENT_ENCODING));
        self.validator = validator(headers).filter(|_| !headers.contains_key(CONTENT_ENCODING));
        if announced.is_none_or(|bytes| bytes >= NOTED_AT_ONCE) {
            self.note()?;
        }
        Ok(())
    }

    /// Makes the file ready for the rest.
    pub(crate) fn go_on(&mut self, headers: &HeaderMap) -> io::Result<()> {
        self.resumed = true;
        let range = range(headers);
        self.total = range.as_ref().and_then(|range| range.total).or(self.total);
        self.end = range.map(|range| range.end);
        // The whole is hashed when it is there, a piece at a time.
        self.hasher = None;
        self.unhashed = self.checksum.as_ref().map(|checksum| (checksum.hasher(), 0));
        let (_, file) = self.file.as_mut().ok_or_else(no_file)?;
        file.seek(SeekFrom::Start(self.length)).map(drop)
    }

    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let (_, file) = self.file.as_mut().ok_or_else(no_file)?;
        file.write_all(piece)?;
        self.length += piece.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        Ok(())
    }

    /// Compares the whole file with the checksum that was asked for.
    pub(crate) fn check(&mut self) -> Result<Option<String>, String> {
        let (Some(checksum), Some(hasher)) = (&self.checksum, self.hasher.take()) else { return Ok(None) };
        checksum.check(&hasher.finalize())?;
        Ok(Some(checksum.to_string()))
    }

    /// Gives the file the first name from `number` on that is to be had, and returns it with its number.
    pub(crate) fn rename(
        &mut self,
        overwrite: bool,
        number: u32,
        name: impl Fn(u32) -> Option<String>,
    ) -> io::Result<(PathBuf, u32)> {
        let (path, _) = self.file.as_ref().ok_or_else(no_file)?;
        for number in number..=u32::MAX {
            let Some(name) = name(number) else { continue };
            let to = self.folder.join(name);
            match put(path, &to, overwrite) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    remove_note(path);
                    self.file = None;
                    return Ok((to, number));
                }
            }
        }
        Err(io::Error::other("there is no free name for it"))
    }

    /// Removes what is there.
    pub(crate) fn discard(&mut self) {
        if let Some((path, _)) = self.file.take() {
            remove_note(&path);
            // A file that cannot be removed is in the way of nobody: the next download begins it anew.
            let _ = std::fs::remove_file(path);
        }
        (self.length, self.validator, self.resumed, self.total) = (0, None, false, None);
    }

    /// Leaves what is there for a later call, if that can go on with it.
    pub(crate) fn leave(&mut self) {
        if !(self.resumes && self.length > 0 && self.validator.is_some() && self.note().is_ok()) {
            self.discard();
        }
        self.file = None;
    }

    /// Looks for what an earlier call has left.
    fn adopt(&mut self) -> io::Result<()> {
        let path = self.path(1);
        let Ok(note) = read_note(&path) else { return Ok(()) };
        let mut lines = note.lines();
        if lines.next() != Some(FIRST_LINE) || lines.next() != Some(&self.key) {
            return Ok(());
        }
        let Some(validator) = lines.next() else { return Ok(()) };
        let Ok(file) = open(&path) else { return Ok(()) };
        if file.try_lock().is_err() {
            return Ok(());
        }
        self.length = file.metadata()?.len();
        self.validator = Some(validator.to_owned());
        self.file = Some((path, file));
        Ok(())
    }

    /// Opens a part that nobody else writes.
    fn claim(&self) -> io::Result<(PathBuf, File)> {
        for number in 1..=MOST {
            let path = self.path(number);
            let file = match create(&path) {
                // What a process that was killed has left is begun anew.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match open(&path) {
                    Ok(file) => file,
                    Err(error) if is_in_the_way(&error) => continue,
                    Err(error) => return Err(error),
                },
                created => created?,
            };
            if file.try_lock().is_ok() && is_still(&path, &file) {
                return Ok((path, file));
            }
        }
        Err(io::Error::other("too many downloads of this URL are under way in this folder"))
    }

    fn path(&self, number: u32) -> PathBuf {
        let key = &self.key[..16];
        let number = if number == 1 { String::new() } else { format!("-{number}") };
        self.folder.join(format!(".raddle-{key}{number}.part"))
    }

    /// Notes what a later call has to know.
    fn note(&self) -> io::Result<()> {
        let (Some((path, _)), Some(validator)) = (&self.file, &self.validator) else { return Ok(()) };
        let to = note_path(path);
        let _ = std::fs::remove_file(&to);
        let mut file = OpenOptions::new().write(true).create_new(true).open(to)?;
        writeln!(file, "{FIRST_LINE}\n{}\n{validator}", self.key)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.leave();
        }
    }
}

fn no_file() -> io::Error {
    io::Error::other("the file is not open")
}

/// Makes a file that was not there.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Opens a plain file of ours for reading and writing: nothing that a link leads to, of either kind, and nothing that
/// another user has put there.
fn open(path: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags.cast_signed()).open(path)?;
    // Asked of what is open, so that nothing can take its place in between.
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else has this name"));
    }
    Ok(file)
}

/// Whether a name is taken by something that is no part of ours, such as a link or a file of another user.
fn is_in_the_way(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, IsADirectory, NotFound, PermissionDenied};
    let is_odd = [rustix::io::Errno::LOOP, rustix::io::Errno::NXIO].map(|errno| Some(errno.raw_os_error()));
    // One that is gone was there when it could not be made: it was renamed just then.
    is_odd.contains(&error.raw_os_error())
        || matches!(error.kind(), AlreadyExists | IsADirectory | NotFound | PermissionDenied)
}

/// Whether the file that was locked still has this name: another process may have finished and renamed it.
fn is_still(path: &Path, file: &File) -> bool {
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(here)) => (there.dev(), there.ino()) == (here.dev(), here.ino()),
        _ => false,
    }
}

/// Renames, over what is there or not.
fn put(from: &Path, to: &Path, overwrite: bool) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if overwrite {
        return std::fs::rename(from, to);
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Some file systems do not know the flag.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if to.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        Err(error) => Err(error.into()),
    }
}

fn note_path(part: &Path) -> PathBuf {
    part.with_extension("note")
}

fn read_note(part: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(&note_path(part))?.take(4096).read_to_string(&mut text)?;
    Ok(text)
}

fn remove_note(part: &Path) {
    // Mostly there is none.
    let _ = std::fs::remove_file(note_path(part));
}

/// What tells one state of a file from another for certain: a strong ETag, or a date that is old enough.
fn validator(headers: &HeaderMap) -> Option<String> {
    if let Some(tag) = headers.get(ETAG) {
        return tag.to_str().ok().filter(|text| text.starts_with('"')).map(str::to_owned);
    }
    let text = headers.get(LAST_MODIFIED)?.to_str().ok()?;
    let modified = httpdate::parse_http_date(text).ok()?;
    let date = headers.get(DATE).and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    // A file that changed in this very second may change again in it.
    let is_old = date.is_none_or(|date| date.duration_since(modified).is_ok_and(|age| age >= Duration::from_secs(1)));
    is_old.then(|| text.to_owned())
}

/// What a `Content-Range` says.
struct Range {
    start: u64,
    /// Behind its last byte.
    end: u64,
    total: Option<u64>,
}

/// Reads `bytes start-end/total`; `None` for what is not well formed.
fn range(headers: &HeaderMap) -> Option<Range> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (bytes, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, end) = bytes.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        digits => Some(digits.parse::<u64>().ok()?),
    };
    (start <= end && total.is_none_or(|total| end < total)).then(|| Range { start, end: end.saturating_add(1), total })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_hashed_a_piece_at_a_time() {
        let folder = std::env::temp_dir().join(format!("raddle-fetch-part-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let content = vec![7; 3 * HASHED_AT_ONCE + 1];
        let digest = hex(&sha2::Sha256::digest(&content));
        let mut headers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("\"tag\""))]);
        let mut old = Part::new(&folder, "http://h/file", true, None);
        old.begin(&headers, Some(content.len() as u64)).unwrap();
        old.write(&content[1..]).unwrap();
        drop(old);

        let checksum = Checksum::parse(&format!("sha256:{digest}")).unwrap();
        let mut part = Part::new(&folder, "http://h/file", true, Some(checksum));
        part.ask(&mut HeaderMap::new()).unwrap();
        let range = format!("bytes {}-{}/{}", content.len() - 1, content.len() - 1, content.len());
        headers.insert(CONTENT_RANGE, range.parse().unwrap());
        part.go_on(&headers).unwrap();
        part.write(&content[..1]).unwrap();
        let steps = std::iter::repeat_with(|| part.hash_some().unwrap()).take_while(|has_more| *has_more).count();
        assert!(steps > 3, "{steps}");
        assert!(part.check().unwrap().is_some());
        part.discard();
        std::fs::remove_dir(&folder).unwrap();
    }
}
