//! Which charset a body is in: as declared, else by its byte order mark, else as a page says of itself, else as it looks.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// How far a page is searched for a charset that it declares: what the HTML standard wants.
const SEARCHED: usize = 1024;

/// How much of a body without a declaration is looked at for a guess, from its first byte beyond ASCII on.
const GUESSED: usize = 256 << 10;

/// The charset of a body. To find it costs little however long the body is; only [`Charset::decode`] reads all of it.
///
/// ```
/// use raddle_fetch::Charset;
///
/// let charset = Charset::find(Some(b"text/html; charset=latin1"), b"caf\xe9");
/// assert_eq!((charset.name(), &*charset.decode(b"caf\xe9")), ("windows-1252", "caf\u{e9}"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

impl Charset {
    /// The charset of a body whose `Content-Type` is given.
    pub fn find(content_type: Option<&[u8]>, body: &[u8]) -> Self {
        // A byte order mark wins over everything else.
        Self(Encoding::for_bom(body).map_or_else(|| find(content_type, body), |(marked, _)| marked))
    }

    /// Its name in the Encoding Standard, such as `UTF-8`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The text of a body, without its byte order mark.
    pub fn decode(self, body: &[u8]) -> Cow<'_, str> {
        self.0.decode(body).0
    }
}

fn find(content_type: Option<&[u8]>, body: &[u8]) -> &'static Encoding {
    let content_type = content_type.map(String::from_utf8_lossy).unwrap_or_default().to_ascii_lowercase();
    if let Some(declared) = parameter(&content_type).and_then(|label| Encoding::for_label(label.as_bytes())) {
        return declared;
    }
    if content_type.contains("html") || content_type.contains("xml") {
        let head = &body[..body.len().min(SEARCHED)];
        if let Some(declared) = in_page(&String::from_utf8_lossy(head).to_ascii_lowercase()) {
            return declared;
        }
    }
    if content_type.contains("json") || std::str::from_utf8(body).is_ok() {
        return UTF_8;
    }
    guess(body, GUESSED)
}

/// What a body looks like. Only a part is looked at: the detector needs seconds for some ten megabytes.
fn guess(body: &[u8], most: usize) -> &'static Encoding {
    let start = body.iter().position(|byte| !byte.is_ascii()).unwrap_or(0);
    let part = &body[start..body.len().min(start + most)];
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(part, start + part.len() == body.len());
    detector.guess(None, Utf8Detection::Allow)
}

/// The charset of a `Content-Type`.
fn parameter(content_type: &str) -> Option<&str> {
    let (_, parameters) = content_type.split_once(';')?;
    parameters.split(';').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        (name.trim() == "charset").then(|| value.trim().trim_matches(['"', '\'']))
    })
}

/// The charset in `<meta charset=...>`, `<meta ... content="...; charset=...">` or `<?xml ... encoding="...">`.
fn in_page(head: &str) -> Option<&'static Encoding> {
    let xml = head.trim_start().starts_with("<?xml").then(|| after(head, "encoding")).flatten();
    let found = xml.or_else(|| head.split("<meta").skip(1).find_map(|tag| after(tag.split('>').next()?, "charset")))?;
    let encoding = Encoding::for_label(found.as_bytes())?;
    // A page that says UTF-16 in bytes that could be read so far is not in UTF-16.
    Some(if encoding.is_ascii_compatible() { encoding } else { UTF_8 })
}

/// The word after `name=`.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text[text.find(name)? + name.len()..].trim_start().strip_prefix('=')?.trim_start();
    let rest = rest.trim_start_matches(['"', '\'']);
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.:+".contains(c))).unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_looks_at_what_is_not_ascii_wherever_it_begins() {
        let mut body = vec![b' '; 3 * GUESSED];
        let russian = "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{43c}\u{438}\u{440}. ";
        body.extend_from_slice(&encoding_rs::WINDOWS_1251.encode(&russian.repeat(20)).0);
        let charset = Charset::find(Some(b"text/html"), &body);
        assert_eq!(charset.name(), "windows-1251");
        assert!(charset.decode(&body).ends_with(russian));
    }

    #[test]
    fn a_guess_may_end_inside_a_character() {
        let body = encoding_rs::SHIFT_JIS.encode(&"\u{65e5}\u{672c}\u{8a9e}".repeat(1000)).0.into_owned();
        for most in [2000, 2001] {
            assert_eq!(guess(&body, most).name(), "Shift_JIS");
        }
    }

    #[test]
    fn a_byte_order_mark_wins() {
        let charset = Charset::find(Some(b"text/plain; charset=latin1"), b"\xef\xbb\xbfa");
        assert_eq!((charset.name(), &*charset.decode(b"\xef\xbb\xbfa")), ("UTF-8", "a"));
    }
}
