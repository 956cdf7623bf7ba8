//! A file in memory that processes share by its descriptor: written at an offset, and mapped piece by piece.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::NonNull;

use rustix::fs::{self, FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{self, MapFlags, ProtFlags};

/// An anonymous file of a fixed length. What was never written costs nothing.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    descriptor: OwnedFd,
    bytes: u64,
}

/// Who sees what is written to a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: it is written to the file.
    Shared,
    /// This mapping alone: a page that is written is copied first.
    Private,
}

impl MemoryFile {
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        let descriptor = fs::memfd_create("raddle-arena", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        fs::ftruncate(&descriptor, bytes)?;
        // No process that has the descriptor can cut it short under the others, which would kill them.
        fs::fcntl_add_seals(&descriptor, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self { descriptor, bytes })
    }

    pub(crate) fn open(descriptor: OwnedFd) -> io::Result<Self> {
        let is_sealed = fs::fcntl_get_seals(&descriptor)?.contains(SealFlags::SHRINK);
        let bytes = u64::try_from(fs::fstat(&descriptor)?.st_size).unwrap_or_default();
        if !is_sealed || bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not the arena of a program"));
        }
        Ok(Self { descriptor, bytes })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Whether so much from an offset on lies within.
    fn check(&self, offset: u64, bytes: usize) -> io::Result<()> {
        let end = offset.checked_add(bytes as u64);
        if bytes > 0 && end.is_some_and(|end| end <= self.bytes) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not lie within the arena"))
    }

    /// Writes `bytes` bytes from `source` on to the file. Memory that is not there is an error.
    ///
    /// # Safety
    /// So many bytes can be read there meanwhile.
    pub(crate) unsafe fn write(&self, mut offset: u64, mut source: *const u8, mut bytes: usize) -> io::Result<()> {
        while bytes > 0 {
            // SAFETY: the caller vouches for the memory. The kernel copies it, so it may change meanwhile.
            let written = unsafe { libc::pwrite(fd(&self.descriptor), source.cast(), bytes, offset.cast_signed()) };
            match usize::try_from(written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    // SAFETY: the kernel has read so many bytes from there on.
                    source = unsafe { source.add(count) };
                    offset += count as u64;
                    bytes -= count;
                }
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills `place` with what lies at an offset.
    pub(crate) fn read(&self, mut offset: u64, mut place: &mut [u8]) -> io::Result<()> {
        self.check(offset, place.len())?;
        while !place.is_empty() {
            match rustix::io::pread(&self.descriptor, &mut *place, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    offset += count as u64;
                    place = &mut place[count..];
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives the memory of a range back: it reads as zeros.
    pub(crate) fn forget(&self, offset: u64, bytes: u64) -> io::Result<()> {
        Ok(fs::fallocate(&self.descriptor, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, bytes)?)
    }

    /// Maps a range, which begins at a page.
    pub(crate) fn map(&self, offset: u64, bytes: usize, access: Access) -> io::Result<Mapped> {
        self.check(offset, bytes)?;
        let flags = match access {
            Access::Shared => MapFlags::SHARED,
            Access::Private => MapFlags::PRIVATE,
        };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place, so nothing else is unmapped; the length is not 0.
        let start = unsafe { mm::mmap(std::ptr::null_mut(), bytes, protection, flags, &self.descriptor, offset)? };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("the system maps nothing at null"))?;
        Ok(Mapped { start, bytes, there: 0 })
    }
}

fn fd(descriptor: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    descriptor.as_raw_fd()
}

/// A piece of the file in this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Mapped {
    start: NonNull<u8>,
    bytes: usize,
    /// So many from the start on are there to be written.
    there: usize,
}

// SAFETY: it gives out an address alone; what is done there is the caller's to prove. Any thread may unmap it.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Has so many bytes from the start on be there to be written: all at once costs a third of one by one, and memory that
    /// the system refuses is an error here, where a write to it would end the process.
    pub(crate) fn prepare(&mut self, bytes: usize) -> io::Result<()> {
        let bytes = bytes.min(self.bytes);
        if bytes <= self.there {
            return Ok(());
        }
        // SAFETY: it is the mapping's memory, which keeps its content.
        let populated = unsafe { mm::madvise(self.start.as_ptr().cast(), bytes, mm::Advice::LinuxPopulateWrite) };
        match populated {
            // A system that does not know this lets the pages come when they are written.
            Ok(()) | Err(Errno::INVAL) => self.there = bytes,
            Err(Errno::INTR) => {}
            Err(_) => return Err(io::ErrorKind::OutOfMemory.into()),
        }
        Ok(())
    }

    /// Its memory has been given back since it was prepared.
    pub(crate) fn note_forgotten(&mut self) {
        self.there = 0;
    }

    /// Puts another mapping of the same length in the place of this one, in one step for all threads that look.
    ///
    /// # Errors
    /// The system's; then it is as it was.
    pub(crate) fn replace_by(&mut self, other: Self) -> io::Result<()> {
        debug_assert_eq!(self.bytes, other.bytes, "what is replaced is as long as what comes");
        let (from, to) = (other.start.as_ptr().cast(), self.start.as_ptr().cast());
        // SAFETY: both are mappings that are there, of this length, and neither is used by anybody but through `self`, whose
        // place stays mapped. The other's place is empty afterwards, so it is not to be unmapped.
        unsafe { mm::mremap_fixed(from, other.bytes, self.bytes, mm::MremapFlags::MAYMOVE, to)? };
        std::mem::forget(other);
        self.there = 0;
        Ok(())
    }

    /// Whether this process has written to a part of a private mapping, so that it has pages of its own there. `true` also if
    /// the system does not tell.
    pub(crate) fn is_written(&self, start: usize, bytes: usize) -> bool {
        has_own_pages(self.start.as_ptr() as u64 + start as u64, bytes as u64).unwrap_or(true)
    }
}

/// Looks at the bits that `/proc/self/pagemap` has for each page: one that is there, or swapped out, and of no file, was copied
/// to be written.
fn has_own_pages(start: u64, bytes: u64) -> io::Result<bool> {
    const ENTRY: u64 = size_of::<u64>() as u64;
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_A_FILE: u64 = 1 << 61;
    let page = rustix::param::page_size() as u64;
    let map = std::fs::File::open("/proc/self/pagemap")?;
    let (mut at, end) = (start / page * ENTRY, (start + bytes).div_ceil(page) * ENTRY);
    let mut chunk = [0; 1 << 14];
    while at < end {
        let wanted = (end - at).min(chunk.len() as u64) as usize;
        let entries = &mut chunk[..wanted];
        map.read_exact_at(entries, at)?;
        at += wanted as u64;
        let is_own = |entry: &[u8; 8]| {
            let bits = u64::from_ne_bytes(*entry);
            bits & (PRESENT | SWAPPED) != 0 && bits & OF_A_FILE == 0
        };
        if entries.as_chunks().0.iter().any(is_own) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and whoever used it had it. It cannot fail for a mapping that is there.
        let _ = unsafe { mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Knows whether a child of a fork is still there: a page that everybody has who was forked while it was mapped, and nobody after
/// an `exec` or the end. Unlike a descriptor it cannot be closed by a program that closes all it has.
#[derive(Debug)]
pub(crate) struct ForkWitness {
    file: OwnedFd,
    /// Around the fork.
    page: Option<Mapped>,
}

impl ForkWitness {
    pub(crate) fn new() -> io::Result<Self> {
        let file = fs::memfd_create("raddle-fork", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        fs::ftruncate(&file, rustix::param::page_size() as u64)?;
        let mut witness = Self { file, page: None };
        witness.open()?;
        Ok(witness)
    }

    /// Before a fork: its child is one of those that are waited for.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        let bytes = rustix::param::page_size();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place, so nothing else is unmapped; the length is not 0.
        let start = unsafe { mm::mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, &self.file, 0)? };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("the system maps nothing at null"))?;
        self.page = Some(Mapped { start, bytes, there: 0 });
        Ok(())
    }

    /// After the fork, in the parent.
    pub(crate) fn close(&mut self) {
        self.page = None;
    }

    /// Whether all children are gone. They are there as long as the system does not say so.
    pub(crate) fn is_alone(&self) -> bool {
        // A file that somebody has mapped to write to it cannot be sealed against that.
        self.page.is_none() && fs::fcntl_add_seals(&self.file, SealFlags::WRITE).is_ok()
    }
}

/// How much memory this process may use: what the machine has, or less if a control group says so.
pub(crate) fn memory_allowed() -> u64 {
    let system = rustix::system::sysinfo();
    let total = (system.totalram as u64).saturating_mul(u64::from(system.mem_unit).max(1));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups.lines().filter_map(limit_of_group).fold(total, u64::min)
}

/// The lowest limit of a control group and of those in which it lies; `line` is one of `/proc/self/cgroup`.
fn limit_of_group(line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    // In a container the path may be one outside of it: then what is at the root is its own.
    let path = Path::new(path.trim_start_matches('/'));
    let limits = path.ancestors().map(|group| Path::new(root).join(group).join(file));
    limits.filter_map(|limit| std::fs::read_to_string(limit).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_use_some_memory_and_no_more_than_there_is() {
        let allowed = memory_allowed();
        assert!(allowed > 1 << 20, "{allowed}");
        assert_eq!(limit_of_group("1:cpu:/"), None);
        assert_eq!(limit_of_group("rubbish"), None);
    }

    #[test]
    fn nothing_beyond_its_end_is_mapped_or_read() -> io::Result<()> {
        let file = MemoryFile::new(1 << 16)?;
        assert!(file.map(0, (1 << 16) + 1, Access::Private).is_err());
        assert!(file.map(u64::MAX, 1, Access::Private).is_err());
        assert!(file.read(1 << 16, &mut [0]).is_err());
        assert_eq!(file.map(0, 1 << 16, Access::Private)?.bytes(), 1 << 16);
        Ok(())
    }

    #[test]
    fn what_is_written_to_a_private_mapping_is_known_page_by_page() -> io::Result<()> {
        let file = MemoryFile::new(1 << 20)?;
        let (mut mapped, private) = (file.map(0, 1 << 20, Access::Shared)?, file.map(0, 1 << 20, Access::Private)?);
        mapped.prepare(1 << 20)?;
        let place = |at: usize| mapped.start().as_ptr().wrapping_add(at);
        // SAFETY: the place lies in the mapping, which lives, and this thread alone uses it.
        unsafe { place(70_000).write(1) };
        let first = place(0);
        mapped.replace_by(private)?;
        assert_eq!(mapped.start().as_ptr(), first);
        // SAFETY: as above.
        unsafe {
            assert_eq!(first.add(70_000).read(), 1);
            assert!(!mapped.is_written(0, 1 << 20), "what was written before is the file's");
            first.add(70_000).write(2);
        }
        assert!(mapped.is_written(0, 1 << 20) && mapped.is_written(70_000, 1));
        assert!(!mapped.is_written(0, 4096) && !mapped.is_written(200_000, 800_000));
        let mut seen = [0];
        file.read(70_000, &mut seen)?;
        assert_eq!(seen, [1], "what was written afterwards is the mapping's own");
        Ok(())
    }

    #[test]
    fn only_a_file_that_cannot_shrink_is_opened() -> io::Result<()> {
        assert!(MemoryFile::open(super::super::memory_file()?).is_err());
        let file = MemoryFile::new(1 << 16)?;
        let copy = file.descriptor().try_clone_to_owned()?;
        assert!(MemoryFile::open(copy).is_ok());
        Ok(())
    }
}
