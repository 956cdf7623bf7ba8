//! Checksums of files, as servers publish them: `sha256:` and hexadecimal digits.

use std::fmt;

use sha2::digest::DynDigest;

/// What a file must be, told by a digest of it.
///
/// ```
/// use raddle_fetch::Checksum;
///
/// assert!(Checksum::parse("md5:d41d8cd98f00b204e9800998ecf8427e").is_ok());
/// assert!(Checksum::parse("md5:d41d").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    kind: Kind,
    digest: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Kind {
    const ALL: [(&'static str, Kind, usize); 5] = [
        ("md5", Kind::Md5, 16),
        ("sha1", Kind::Sha1, 20),
        ("sha256", Kind::Sha256, 32),
        ("sha384", Kind::Sha384, 48),
        ("sha512", Kind::Sha512, 64),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind, _)| *kind == self).map_or("", |(name, ..)| name)
    }
}

impl Checksum {
    /// Reads `md5:`, `sha1:`, `sha256:`, `sha384:` or `sha512:` and hexadecimal digits.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = "a checksum is md5, sha1, sha256, sha384 or sha512, a colon, and hexadecimal digits";
        let (name, digits) = text.split_once(':').ok_or_else(|| format!("{expected}, not {text:?}"))?;
        let lower = name.trim().to_ascii_lowercase();
        let (_, kind, length) = Kind::ALL
            .into_iter()
            .find(|(known, ..)| *known == lower)
            .ok_or_else(|| format!("{expected}: {name:?} is not known"))?;
        let digits: Option<Vec<u8>> = digits.trim().chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
        match digits {
            Some(digits) if digits.len() == 2 * length => {
                Ok(Self { kind, digest: digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect() })
            }
            _ => Err(format!("{expected}: {lower} has {} of them, unlike {text:?}", 2 * length)),
        }
    }

    pub(crate) fn hasher(&self) -> Box<dyn DynDigest + Send> {
        match self.kind {
            Kind::Md5 => Box::new(md5::Md5::default()),
            Kind::Sha1 => Box::new(sha1::Sha1::default()),
            Kind::Sha256 => Box::new(sha2::Sha256::default()),
            Kind::Sha384 => Box::new(sha2::Sha384::default()),
            Kind::Sha512 => Box::new(sha2::Sha512::default()),
        }
    }

    /// Compares with what a file has.
    ///
    /// # Errors
    /// Both, if they differ.
    pub(crate) fn check(&self, digest: &[u8]) -> Result<(), String> {
        if *self.digest == *digest {
            return Ok(());
        }
        let found = Self { kind: self.kind, digest: digest.into() };
        Err(format!("the file is {found}, and not {self}: it was changed, or the checksum is of another file"))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), hex(&self.digest))
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
