//! Which charset a body is in: as declared, else by its byte order mark, else as a page says of itself, else as it looks.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// How far a page is searched for a charset that it declares: what the HTML standard wants.
const SEARCHED: usize = 1024;

/// Reads a body as text, and names the charset.
pub fn decode<'a>(content_type: Option<&[u8]>, body: &'a [u8]) -> (Cow<'a, str>, &'static str) {
    let encoding = find(content_type, body);
    // A byte order mark wins over everything else, and is no part of the text.
    let (text, used, _) = encoding.decode(body);
    (text, used.name())
}

fn find(content_type: Option<&[u8]>, body: &[u8]) -> &'static Encoding {
    let content_type = content_type.map(String::from_utf8_lossy).unwrap_or_default().to_ascii_lowercase();
    if let Some(declared) = parameter(&content_type).and_then(|label| Encoding::for_label(label.as_bytes())) {
        return declared;
    }
    if let Some((marked, _)) = Encoding::for_bom(body) {
        return marked;
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
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(body, true);
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
