//! A socket over which one process sends another messages, and descriptors with them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The longest message.
pub const MESSAGE_BYTES: usize = 1 << 17;

/// The most descriptors in one message.
pub const HANDED: usize = 8;

/// Above those of the standard streams.
const FIRST_FREE: i32 = 3;

/// The two ends of a new channel. No program that this one runs inherits them.
///
/// # Errors
/// The system's.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    // The kind of socket that keeps messages apart.
    let kind = SocketType::SEQPACKET;
    Ok(net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// Another descriptor of the same, not one of the numbers of the standard streams.
///
/// # Errors
/// It is not open, or there is no room for one more.
pub fn duplicate(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, FIRST_FREE)?)
}

/// Sends one message, which must not be empty, and lends the other side these descriptors.
///
/// # Errors
/// The other end is closed, or the message is too long, or carries too many descriptors.
pub fn send_message(channel: BorrowedFd<'_>, message: &[u8], handed: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let is_full = handed.len() > HANDED || !ancillary.push(SendAncillaryMessage::ScmRights(handed));
    if !handed.is_empty() && is_full {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message carries fewer descriptors"));
    }
    loop {
        // Whoever is gone is told of by an error, not by a signal.
        match net::sendmsg(channel, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Waits for one message, which is empty at the end, and what comes with it.
///
/// # Errors
/// A signal arrived ([`io::ErrorKind::Interrupted`]), or the other side broke off.
pub fn receive_message(channel: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut message = vec![0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut message)];
    let received = net::recvmsg(channel, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    message.truncate(received.bytes);
    let mut handed = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = part {
            handed.extend(descriptors);
        }
    }
    Ok((message, handed))
}

/// Waits until one of these can be read, or has ended, at most `timeout`: which of them are so.
///
/// # Errors
/// A signal arrived ([`io::ErrorKind::Interrupted`]), or one of them cannot be watched.
pub fn wait_readable(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut watched: Vec<_> = descriptors.iter().map(|each| PollFd::from_borrowed_fd(*each, PollFlags::IN)).collect();
    // A time beyond what the kernel counts is no limit at all.
    let limit = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    poll(&mut watched, limit.as_ref())?;
    Ok(watched.iter().map(|each| !each.revents().is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() -> io::Result<()> {
        let (here, there) = channel()?;
        let (mut reader, writer) = std::io::pipe()?;
        send_message(here.as_fd(), b"one", &[writer.as_fd()])?;
        send_message(here.as_fd(), b"two", &[])?;
        drop(writer);
        let (first, mut handed) = receive_message(there.as_fd())?;
        let (second, none) = receive_message(there.as_fd())?;
        assert_eq!((first.as_slice(), second.as_slice()), (&b"one"[..], &b"two"[..]));
        assert!(none.is_empty());
        let writer = handed.pop().expect("a descriptor came");
        assert!(handed.is_empty());
        std::fs::File::from(writer).write_all(b"through")?;
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        assert_eq!(text, "through");
        Ok(())
    }

    #[test]
    fn the_end_is_an_empty_message_to_read_and_an_error_to_write() -> io::Result<()> {
        let (here, there) = channel()?;
        drop(there);
        assert_eq!(receive_message(here.as_fd())?.0, b"");
        let sent = send_message(here.as_fd(), b"x", &[]).map_err(|error| error.kind());
        assert_eq!(sent, Err(io::ErrorKind::BrokenPipe));
        Ok(())
    }

    #[test]
    fn too_many_descriptors_are_refused() -> io::Result<()> {
        let (here, _there) = channel()?;
        let many = vec![here.as_fd(); HANDED + 1];
        let sent = send_message(here.as_fd(), b"x", &many).map_err(|error| error.kind());
        assert_eq!(sent, Err(io::ErrorKind::InvalidInput));
        Ok(())
    }

    #[test]
    fn only_what_can_be_read_is_told() -> io::Result<()> {
        let (here, there) = channel()?;
        let both = [here.as_fd(), there.as_fd()];
        assert_eq!(wait_readable(&both, Some(Duration::ZERO))?, [false, false]);
        send_message(here.as_fd(), b"x", &[])?;
        assert_eq!(wait_readable(&both, None)?, [false, true]);
        Ok(())
    }

    #[test]
    fn a_duplicate_is_none_of_the_standard_streams() -> io::Result<()> {
        let copy = duplicate(std::io::stdin().as_fd())?;
        assert!(copy.as_raw_fd() >= FIRST_FREE);
        Ok(())
    }
}
