//! Content-encodings, undone while the body arrives, a slice at a time.
//!
//! Invariant: one step writes at most a slice, however much a piece of the network unfolds to, so that time limits, signals
//! and other requests have their turn, and a body that grows without end is stopped at the limit.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brotli_decompressor::Decompressor;
use bytes::{Buf, Bytes};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as RawZstd, InBuffer, Operation, OutBuffer};

use crate::target::Target;

/// What is offered to servers.
pub(crate) const OFFERED: &str = "gzip, deflate, br, zstd";

/// Encodings over one another that are undone; nobody has a use for more than two.
pub(crate) const MOST_CODINGS: usize = 5;

/// The largest window of zstd, as RFC 9659 wants it for the web: 8 MB.
const ZSTD_WINDOW_LOG: u32 = 23;
/// What is written at once, and how often in a step: together about a quarter of a millisecond.
const SLICE: usize = 64 << 10;
const SLICES_A_STEP: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Reads a `Content-Encoding`. An unknown coding leaves the body as it is, as it does in other clients.
pub(crate) fn codings<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<Coding> {
    let mut found = Vec::new();
    for word in values.flat_map(|value| value.split(|b| *b == b',')) {
        match word.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => {}
            b"gzip" | b"x-gzip" => found.push(Coding::Gzip),
            b"deflate" => found.push(Coding::Deflate),
            b"br" => found.push(Coding::Brotli),
            b"zstd" => found.push(Coding::Zstd),
            _ => return Vec::new(),
        }
    }
    found
}

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// There is more to write without more input.
    More,
    /// Everything that has come is written.
    All,
}

/// A body on its way to its target.
pub(crate) struct Decoder {
    feed: Feed,
    /// None for a body that is not encoded.
    reader: Option<Box<dyn Read + Send>>,
    is_begun: bool,
    slice: Vec<u8>,
    target: Target,
}

impl Decoder {
    /// A decoder for encodings in the order in which they were applied.
    pub(crate) fn new(codings: &[Coding], target: Target) -> Self {
        let feed = Feed::default();
        let mut input: Input = Box::new(Fetched { feed: feed.clone(), piece: Bytes::new() });
        let mut reader: Option<Box<dyn Read + Send>> = None;
        for coding in codings.iter().rev() {
            if let Some(before) = reader.take() {
                input = Box::new(BufReader::new(before));
            }
            reader = Some(decoder(*coding, std::mem::replace(&mut input, Box::new(io::empty()))));
        }
        Self { feed, reader, is_begun: false, slice: Vec::new(), target }
    }

    /// Takes the next piece from the network. The one before must have been decoded.
    pub(crate) fn push(&mut self, piece: Bytes) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        self.is_begun = true;
        if self.reader.is_none() {
            return self.target.take(piece);
        }
        self.feed.lock().piece = piece;
        Ok(())
    }

    /// Says that nothing more will come; [`Decoder::step`] then sees to the end.
    pub(crate) fn end(&mut self) {
        self.feed.lock().has_ended = true;
    }

    /// Decodes and writes a slice.
    ///
    /// # Errors
    /// If the encoded body is broken, or not whole at its end, or if the target takes no more.
    pub(crate) fn step(&mut self) -> io::Result<Decoded> {
        // An empty body is whole in any encoding.
        let Some(reader) = self.reader.as_mut().filter(|_| self.is_begun) else { return Ok(Decoded::All) };
        self.slice.resize(SLICE, 0);
        for _ in 0..SLICES_A_STEP {
            match reader.read(&mut self.slice) {
                Ok(0) => {
                    // What follows the end is padding.
                    self.feed.lock().piece.clear();
                    return Ok(Decoded::All);
                }
                Ok(bytes) => self.target.write_all(&self.slice[..bytes])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Decoded::All),
                Err(error) => return Err(error),
            }
        }
        Ok(Decoded::More)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The body that was kept in memory.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.target.into_bytes()
    }
}

/// What has come from the network and is not decoded yet.
#[derive(Clone, Default)]
struct Feed(Arc<Mutex<Fed>>);

#[derive(Default)]
struct Fed {
    piece: Bytes,
    has_ended: bool,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Fed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end of a feed: when it is empty, the reader is told to come back.
struct Fetched {
    feed: Feed,
    piece: Bytes,
}

impl Read for Fetched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let bytes = there.len().min(into.len());
        into[..bytes].copy_from_slice(&there[..bytes]);
        self.consume(bytes);
        Ok(bytes)
    }
}

impl BufRead for Fetched {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.is_empty() {
            let mut fed = self.feed.lock();
            if fed.piece.is_empty() && !fed.has_ended {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.piece = std::mem::take(&mut fed.piece);
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, bytes: usize) {
        self.piece.advance(bytes);
    }
}

type Input = Box<dyn BufRead + Send>;

fn decoder(coding: Coding, input: Input) -> Box<dyn Read + Send> {
    match coding {
        Coding::Gzip => Box::new(Gzip { member: Some(GzDecoder::new(input)) }),
        Coding::Deflate => Box::new(Deflate { raw: None, is_whole: false, input }),
        Coding::Brotli => Box::new(Decompressor::new(input, 16 << 10)),
        Coding::Zstd => Box::new(Zstd { raw: None, is_whole: false, input }),
    }
}

/// Members of gzip, one after the other; what else follows is padding.
struct Gzip {
    member: Option<GzDecoder<Input>>,
}

impl Read for Gzip {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = self.member.as_mut() else { return Ok(0) };
            match member.read(into)? {
                0 => {}
                bytes => return Ok(bytes),
            }
            let is_another = member.get_mut().fill_buf()?.first() == Some(&0x1f);
            self.member = self.member.take().filter(|_| is_another).map(|ended| GzDecoder::new(ended.into_inner()));
        }
    }
}

/// Deflate with zlib's header, or without: some servers leave it out.
struct Deflate {
    raw: Option<Decompress>,
    is_whole: bool,
    input: Input,
}

impl Read for Deflate {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.is_whole {
            let there = self.input.fill_buf()?;
            let is_end = there.is_empty();
            let has_header = there.first().is_some_and(|first| first & 0x0f == 8 && first >> 4 <= 7);
            let raw = self.raw.get_or_insert_with(|| Decompress::new(has_header));
            let (before_in, before_out) = (raw.total_in(), raw.total_out());
            let status = raw.decompress(there, into, FlushDecompress::None).map_err(io::Error::from)?;
            let (consumed, written) = (raw.total_in() - before_in, raw.total_out() - before_out);
            self.input.consume(consumed as usize);
            self.is_whole = status == Status::StreamEnd;
            if written > 0 {
                return Ok(written as usize);
            }
            if is_end && !self.is_whole {
                return Err(cut());
            }
        }
        Ok(0)
    }
}

/// Frames of zstd, whose own reader does not tell whether the last one is whole.
struct Zstd {
    raw: Option<RawZstd<'static>>,
    is_whole: bool,
    input: Input,
}

impl Read for Zstd {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let there = self.input.fill_buf()?;
            let is_end = there.is_empty();
            if is_end && self.is_whole {
                return Ok(0);
            }
            let raw = match &mut self.raw {
                Some(raw) => raw,
                empty => {
                    let mut raw = RawZstd::new()?;
                    raw.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                    empty.insert(raw)
                }
            };
            let mut input = InBuffer::around(there);
            let mut output = OutBuffer::around(&mut *into);
            let left = raw.run(&mut input, &mut output)?;
            let (consumed, written) = (input.pos(), output.pos());
            self.input.consume(consumed);
            if consumed + written > 0 {
                self.is_whole = left == 0;
            }
            if written > 0 {
                return Ok(written);
            }
            if is_end {
                return Err(cut());
            }
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Decodes a body that comes in pieces of a size; returns it and the steps.
    fn decode(codings: &[Coding], body: &[u8], piece: usize) -> io::Result<(Bytes, usize)> {
        let mut decoder = Decoder::new(codings, Target::memory(None));
        let mut steps = 0;
        let mut drain = |decoder: &mut Decoder| {
            steps += 1;
            while decoder.step()? == Decoded::More {
                steps += 1;
            }
            Ok::<_, io::Error>(())
        };
        for piece in body.chunks(piece) {
            decoder.push(Bytes::copy_from_slice(piece))?;
            drain(&mut decoder)?;
        }
        decoder.end();
        drain(&mut decoder)?;
        Ok((decoder.into_bytes(), steps))
    }

    fn encoded() -> (Vec<u8>, Vec<(Coding, Vec<u8>)>) {
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| (n % 1013).to_le_bytes()).collect();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(&text).unwrap();
        let all = vec![
            (Coding::Gzip, gzip(&text)),
            (Coding::Deflate, zlib.finish().unwrap()),
            (Coding::Deflate, raw.finish().unwrap()),
            (Coding::Zstd, zstd::encode_all(&*text, 3).unwrap()),
        ];
        (text, all)
    }

    #[test]
    fn bodies_are_the_same_in_pieces_of_any_size_and_cut_ones_are_refused() {
        let (text, all) = encoded();
        for (coding, body) in all {
            for piece in [1, 7, 1000, 1 << 20] {
                assert!(decode(&[coding], &body, piece).unwrap().0 == text, "{coding:?} {piece}");
                assert!(decode(&[coding], &body[..body.len() - 1], piece).is_err(), "{coding:?} {piece}");
            }
        }
    }

    #[test]
    fn encodings_over_one_another_are_undone_in_turn() {
        let (text, all) = encoded();
        for (coding, body) in all {
            assert!(decode(&[coding, Coding::Gzip], &gzip(&body), 1000).unwrap().0 == text, "{coding:?}");
        }
    }

    #[test]
    fn members_of_gzip_follow_one_another_and_padding_is_left() {
        let both = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decode(&[Coding::Gzip], &both, 3).unwrap().0, "one two");
        let padded = [gzip(b"one"), vec![0; 512]].concat();
        assert_eq!(decode(&[Coding::Gzip], &padded, 100).unwrap().0, "one");
    }

    #[test]
    fn a_bomb_is_decoded_a_slice_at_a_time() {
        let (body, steps) = decode(&[Coding::Gzip], &gzip(&vec![0; 32 << 20]), 1 << 20).unwrap();
        assert_eq!(body.len(), 32 << 20);
        assert!(steps >= (32 << 20) / (SLICE * SLICES_A_STEP), "{steps}");
    }

    #[test]
    fn an_empty_body_is_whole() {
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
            assert!(decode(&[coding], b"", 1).unwrap().0.is_empty());
        }
    }
}
