//! Where the large parts of a call or a result lie, as it stands in the place of its pickle (submit -> TRANSPORT -> result).
//!
//! ```text
//! apart = 1 kind:u8 segments:u32 (offset:u64 total:u64)* parts:u32 (segment:u32 start:u64 length:u64)* pickle:rest
//! ```
//!
//! It begins with a byte with which no pickle does. `offset` is the place of a segment, of which `total` bytes are used; each part
//! lies in one of them. Of a pickle that lies apart too the last part is it. Invariant: whatever the bytes are, what is read of
//! them names parts within their segments, or is damage.

use crate::layout::Damaged;

/// The first byte. A pickle of protocol 2 or later begins with 0x80.
const MARK: u8 = 1;

pub(crate) const BROKEN: Damaged = Damaged { what: "a part of it does not lie where it should" };

/// Whether bytes in the place of a pickle are of something that lies apart.
pub(crate) fn is_apart(pickle: &[u8]) -> bool {
    pickle.first() == Some(&MARK)
}

/// What tells where parts lie.
#[derive(Default)]
pub(crate) struct Placing {
    /// Places, and how much of each is used.
    pub(crate) segments: Vec<(u64, u64)>,
    /// Which segment, where in it, and how long.
    pub(crate) parts: Vec<(usize, u64, u64)>,
}

impl Placing {
    pub(crate) fn index_of(&mut self, offset: u64, total: u64) -> usize {
        self.segments.iter().position(|(other, _)| *other == offset).unwrap_or_else(|| {
            self.segments.push((offset, total));
            self.segments.len() - 1
        })
    }

    pub(crate) fn written(&self, kind: u8, rest: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![MARK, kind];
        out.extend_from_slice(&u32::try_from(self.segments.len()).ok()?.to_le_bytes());
        for number in self.segments.iter().flat_map(|(offset, total)| [offset, total]) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.parts.len()).ok()?.to_le_bytes());
        for (segment, start, length) in &self.parts {
            out.extend_from_slice(&u32::try_from(*segment).ok()?.to_le_bytes());
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
        }
        out.extend_from_slice(rest);
        Some(out)
    }
}

pub(crate) struct Placed<'a> {
    pub(crate) kind: u8,
    /// Each part lies within one of the segments.
    pub(crate) placing: Placing,
    pub(crate) rest: &'a [u8],
}

impl<'a> Placed<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Damaged> {
        Self::read(bytes).ok_or(BROKEN)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let ([MARK, kind], rest) = bytes.split_first_chunk::<2>()? else { return None };
        let (entries, rest) = table::<16>(rest)?;
        let segments = entries.iter().map(|entry| Some((number(entry)?, number(&entry[8..])?)));
        let segments = segments.collect::<Option<Vec<_>>>()?;
        let (entries, rest) = table::<20>(rest)?;
        let parts = entries.iter().map(|entry| {
            let (index, place) = entry.split_first_chunk::<4>()?;
            let index = usize::try_from(u32::from_le_bytes(*index)).ok()?;
            let (start, length) = (number(place)?, number(&place[8..])?);
            let (_, total) = segments.get(index)?;
            start.checked_add(length).filter(|end| end <= total).map(|_| (index, start, length))
        });
        let parts = parts.collect::<Option<_>>()?;
        Some(Self { kind: *kind, placing: Placing { segments, parts }, rest })
    }
}

/// A table whose length stands before it, of entries of `N` bytes; and what follows it.
fn table<const N: usize>(bytes: &[u8]) -> Option<(&[[u8; N]], &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (table, rest) = rest.split_at_checked(count.checked_mul(N)?)?;
    Some((table.as_chunks::<N>().0, rest))
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk::<8>().map(|number| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Placing {
        let mut placing = Placing::default();
        assert_eq!((placing.index_of(64, 100), placing.index_of(0, 7), placing.index_of(64, 100)), (0, 1, 0));
        placing.parts.extend([(0, 3, 97), (1, 0, 7), (0, 0, 0)]);
        placing
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = example().written(2, b"rest").expect("it is short");
        assert!(is_apart(&written));
        let Placed { kind, placing, rest } = Placed::read(&written).expect("it is whole");
        assert_eq!((kind, rest), (2, &b"rest"[..]));
        assert_eq!((placing.segments, placing.parts), (example().segments, example().parts));
    }

    #[test]
    fn a_part_outside_of_its_segment_is_damage() {
        for part in [(0, 4, 97), (1, 8, 0), (2, 0, 0), (0, u64::MAX, 1)] {
            let mut placing = example();
            placing.parts.push(part);
            assert!(Placed::parse(&placing.written(0, &[]).expect("it is short")).is_err(), "{part:?}");
        }
    }

    #[test]
    fn what_is_cut_short_is_damage() {
        let written = example().written(0, &[]).expect("it is short");
        assert!((0..written.len()).all(|end| Placed::parse(&written[..end]).is_err()));
    }
}
