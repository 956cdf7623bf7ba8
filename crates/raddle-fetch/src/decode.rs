//! Content-encodings, undone while the body arrives.
//!
//! Invariant: a decoder writes to its target in small pieces, so a body that grows without end is stopped at the limit.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use zstd::stream::raw::{DParameter, Decoder as RawZstd, InBuffer, Operation, OutBuffer};

use crate::target::Target;

/// What is offered to servers.
pub(crate) const OFFERED: &str = "gzip, deflate, br, zstd";

/// The largest window of zstd, as RFC 9659 wants it for the web: 8 MB.
const ZSTD_WINDOW_LOG: u32 = 23;
const ZSTD_PIECE: usize = 64 << 10;

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

/// A body on its way to its target.
pub(crate) enum Decoder {
    Plain(Target),
    /// Nothing has come yet: an empty body is whole in any coding.
    Waiting(Coding, Target),
    Gzip(Box<MultiGzDecoder<Target>>),
    Zlib(Box<ZlibDecoder<Target>>),
    RawDeflate(Box<DeflateDecoder<Target>>),
    Brotli(Box<DecompressorWriter<Target>>),
    Zstd(Box<Zstd>),
    /// Only while a decoder is being made.
    Changing,
}

/// Frames of zstd; its own writer does not tell whether the last one is whole.
pub(crate) struct Zstd {
    decoder: RawZstd<'static>,
    buffer: Vec<u8>,
    is_whole: bool,
    target: Target,
}

impl Zstd {
    fn new(target: Target) -> io::Result<Self> {
        let mut decoder = RawZstd::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
        Ok(Self { decoder, buffer: vec![0; ZSTD_PIECE], is_whole: false, target })
    }

    fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(piece);
        loop {
            let mut output = OutBuffer::around(self.buffer.as_mut_slice());
            let left = self.decoder.run(&mut input, &mut output)?;
            let bytes = output.pos();
            self.target.write_all(&self.buffer[..bytes])?;
            self.is_whole = left == 0;
            // A full buffer in the middle of a frame may mean that more is to come without more input.
            if input.pos() == piece.len() && (bytes < ZSTD_PIECE || self.is_whole) {
                return Ok(());
            }
        }
    }

    fn end(&self) -> io::Result<()> {
        if self.is_whole { Ok(()) } else { Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last frame is cut")) }
    }
}

impl Decoder {
    pub(crate) fn new(coding: Option<Coding>, target: Target) -> Self {
        match coding {
            None => Decoder::Plain(target),
            Some(coding) => Decoder::Waiting(coding, target),
        }
    }

    /// Takes the next piece from the network.
    pub(crate) fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        if let Decoder::Waiting(..) = self {
            let Decoder::Waiting(coding, target) = std::mem::replace(self, Decoder::Changing) else { return Ok(()) };
            *self = begin(coding, piece[0], target)?;
        }
        match self {
            Decoder::Plain(target) => target.write_all(piece),
            Decoder::Gzip(decoder) => decoder.write_all(piece),
            Decoder::Zlib(decoder) => decoder.write_all(piece),
            Decoder::RawDeflate(decoder) => decoder.write_all(piece),
            Decoder::Brotli(decoder) => decoder.write_all(piece),
            Decoder::Zstd(decoder) => decoder.push(piece),
            Decoder::Waiting(..) | Decoder::Changing => Ok(()),
        }
    }

    /// Sees to the end of the body.
    ///
    /// # Errors
    /// If the encoded body is not whole.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match self {
            Decoder::Plain(_) | Decoder::Waiting(..) | Decoder::Changing => Ok(()),
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Zlib(decoder) => decoder.try_finish(),
            Decoder::RawDeflate(decoder) => decoder.try_finish(),
            Decoder::Brotli(decoder) => decoder.close(),
            Decoder::Zstd(decoder) => decoder.end(),
        }
    }

    pub(crate) fn target(&self) -> Option<&Target> {
        Some(match self {
            Decoder::Plain(target) | Decoder::Waiting(_, target) => target,
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Zlib(decoder) => decoder.get_ref(),
            Decoder::RawDeflate(decoder) => decoder.get_ref(),
            Decoder::Brotli(decoder) => decoder.get_ref(),
            Decoder::Zstd(decoder) => &decoder.target,
            Decoder::Changing => return None,
        })
    }

    /// The body that was kept in memory.
    pub(crate) fn into_bytes(self) -> io::Result<Bytes> {
        let target = match self {
            Decoder::Plain(target) | Decoder::Waiting(_, target) => target,
            Decoder::Gzip(decoder) => decoder.finish()?,
            Decoder::Zlib(decoder) => decoder.finish()?,
            Decoder::RawDeflate(decoder) => decoder.finish()?,
            Decoder::Brotli(decoder) => match decoder.into_inner() {
                Ok(target) | Err(target) => target,
            },
            Decoder::Zstd(decoder) => decoder.target,
            Decoder::Changing => return Ok(Bytes::new()),
        };
        Ok(target.into_bytes())
    }
}

/// Makes the decoder, which for `deflate` depends on the first byte: some servers leave zlib's header out.
fn begin(coding: Coding, first: u8, target: Target) -> io::Result<Decoder> {
    Ok(match coding {
        Coding::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(target))),
        Coding::Deflate if first & 0x0f == 8 && first >> 4 <= 7 => Decoder::Zlib(Box::new(ZlibDecoder::new(target))),
        Coding::Deflate => Decoder::RawDeflate(Box::new(DeflateDecoder::new(target))),
        Coding::Brotli => Decoder::Brotli(Box::new(DecompressorWriter::new(target, 16 << 10))),
        Coding::Zstd => Decoder::Zstd(Box::new(Zstd::new(target)?)),
    })
}
