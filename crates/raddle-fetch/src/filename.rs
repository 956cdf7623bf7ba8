//! The name of a downloaded file: no server and no URL leads out of the folder, hides a file or names a device.

use std::ffi::OsStr;
use std::path::{Component, Path};

use url::Url;

/// The longest name, in bytes: file systems take 255, and a temporary name and a number need some of them.
const LONGEST: usize = 200;
/// The longest name that file systems take, in bytes.
const LONGEST_GIVEN: usize = 255;
/// The longest ending that is kept when a name is shortened.
const LONGEST_ENDING: usize = 20;
/// What a file is called whose URL says nothing.
const NAMELESS: &str = "download";

/// The name that a server gives, made harmless; `None` if it gives none that is of use.
pub(crate) fn from_disposition(value: &[u8]) -> Option<String> {
    let mut plain = None;
    let mut extended = None;
    for (name, text) in parameters(value) {
        match name.as_str() {
            "filename" => plain = plain.or(Some(latin_or_utf8(&text))),
            "filename*" => extended = extended.or_else(|| decode_extended(&text)),
            _ => {}
        }
    }
    extended.or(plain).and_then(|name| harmless(&name))
}

/// The name in a URL's path, made harmless.
pub(crate) fn from_url(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut segments| segments.rfind(|segment| !segment.is_empty()));
    let decoded = last.map(|segment| percent_decode(segment.as_bytes()));
    decoded.and_then(|bytes| harmless(&latin_or_utf8(&bytes))).unwrap_or_else(|| NAMELESS.into())
}

/// A name that the caller gives, which is taken as it stands.
///
/// # Errors
/// What is wrong with it.
pub fn check_given(name: &str) -> Result<(), String> {
    let mut components = Path::new(name).components();
    let is_plain = matches!((components.next(), components.next()), (Some(Component::Normal(only)), None)
        if only == OsStr::new(name));
    if !is_plain || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        return Err(format!(
            "{name:?} is no name of a file in the folder: it must have no separators, and not be empty"
        ));
    }
    if name.len() > LONGEST_GIVEN {
        return Err(format!("{name:?} is longer than the 255 bytes that a name may have"));
    }
    Ok(())
}

/// The `number`th name for a file, such as `report (2).tar.gz`.
pub(crate) fn numbered(name: &str, number: u32) -> String {
    if number < 2 {
        return name.to_owned();
    }
    let (stem, ending) = split(name);
    let numbered = format!("{stem} ({number}){ending}");
    if numbered.len() <= LONGEST_GIVEN {
        numbered
    } else {
        format!("{} ({number}){ending}", cut(stem, LONGEST - ending.len()))
    }
}

/// The same name for file systems that know no upper and lower case.
pub(crate) fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// Stem and ending; `.tar.gz` and its kind are one ending.
fn split(name: &str) -> (&str, &str) {
    let Some(dot) = name.rfind('.').filter(|dot| *dot > 0 && name.len() - dot <= LONGEST_ENDING) else {
        return (name, "");
    };
    let dot = match name[..dot].strip_suffix(".tar") {
        Some(stem) if !stem.is_empty() => stem.len(),
        _ => dot,
    };
    name.split_at(dot)
}

/// Makes a name harmless; `None` if nothing is left of it.
fn harmless(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let cleaned: String =
        last.chars().filter(|c| !is_invisible(*c)).map(|c| if is_special(c) { '_' } else { c }).collect();
    // A dot in front hides a file; a dot or a space at the end gets lost on some systems; a dash looks like an option.
    let trimmed = cleaned.trim_start_matches(|c: char| c == '.' || c == '-' || c.is_whitespace());
    let trimmed = trimmed.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    if trimmed.is_empty() {
        return None;
    }
    let named = if is_device(trimmed) { format!("_{trimmed}") } else { trimmed.to_owned() };
    Some(shortened(&named))
}

/// Characters that no name has on one system or another, or that shells take for something else.
fn is_special(c: char) -> bool {
    matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '/' | '\\')
}

/// Characters that a reader does not see, some of which reverse what stands beside them.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}')
}

/// Names that Windows keeps for devices, with any ending.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    match stem.as_str() {
        "con" | "prn" | "aux" | "nul" => true,
        other => match other.strip_prefix("com").or_else(|| other.strip_prefix("lpt")) {
            Some(rest) => rest.chars().count() == 1 && rest.chars().all(|c| c.is_ascii_digit() || "¹²³".contains(c)),
            None => false,
        },
    }
}

fn shortened(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let (stem, ending) = split(name);
    format!("{}{ending}", cut(stem, LONGEST - ending.len()))
}

/// The beginning of a text, of at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim_end()
}

/// The parameters of a header, with quoted values read as they are meant.
fn parameters(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut rest = value.iter().copied().skip_while(|b| *b != b';').skip(1).peekable();
    let mut found = Vec::new();
    while rest.peek().is_some() {
        let mut name = Vec::new();
        while let Some(byte) = rest.next_if(|b| *b != b'=' && *b != b';') {
            name.push(byte);
        }
        let mut text = Vec::new();
        if rest.next() == Some(b'=') {
            while rest.next_if(|b| b.is_ascii_whitespace()).is_some() {}
            if rest.next_if_eq(&b'"').is_some() {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => text.extend(rest.next()),
                        other => text.push(other),
                    }
                }
                while rest.next_if(|b| *b != b';').is_some() {}
            } else {
                while let Some(byte) = rest.next_if(|b| *b != b';') {
                    text.push(byte);
                }
            }
            rest.next();
        }
        let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
        found.push((name, text.trim_ascii().to_vec()));
    }
    found
}

/// Reads `charset'language'percent-encoded` (RFC 8187).
fn decode_extended(text: &[u8]) -> Option<String> {
    let mut parts = text.splitn(3, |b| *b == b'\'');
    let charset = encoding_rs::Encoding::for_label(parts.next()?)?;
    let encoded = parts.nth(1)?;
    Some(charset.decode_without_bom_handling(&percent_decode(encoded)).0.into_owned())
}

fn latin_or_utf8(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}

fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_lose_what_is_harmful() {
        for (given, name) in [
            ("attachment; filename=\"../../evil\"", Some("evil")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\".bashrc\"", Some("bashrc")),
            ("attachment; filename=\"NUL.txt\"", Some("_NUL.txt")),
            ("attachment; filename=\"a:b\"", Some("a_b")),
            ("attachment; filename=\"quote\\\"d;x.txt\"; size=1", Some("quote_d;x.txt")),
            ("attachment; filename=a.txt; filename*=UTF-8''%e2%82%ac%2fb.txt", Some("b.txt")),
            ("attachment; filename*=nosuch''evil", None),
            ("attachment", None),
        ] {
            assert_eq!(from_disposition(given.as_bytes()).as_deref(), name, "{given}");
        }
    }

    #[test]
    fn names_of_urls_are_read_as_people_do() {
        for (given, name) in [
            ("http://h/a/caf%C3%A9%20menu.pdf?x=1", "caf\u{e9} menu.pdf"),
            ("http://h/a/", "a"),
            ("http://h/", "download"),
            ("http://h/%2e%2e%2fevil", "evil"),
            ("http://h/a%00b", "ab"),
        ] {
            assert_eq!(from_url(&Url::parse(given).unwrap()), name, "{given}");
        }
    }

    #[test]
    fn long_names_keep_their_ending() {
        let name = harmless(&format!("{}.tar.gz", "x".repeat(300))).unwrap();
        assert!(name.len() == LONGEST && name.ends_with("x.tar.gz"));
        assert!(harmless(&"\u{1F600}".repeat(100)).unwrap().len() <= LONGEST);
    }

    #[test]
    fn numbers_stand_before_the_ending() {
        assert_eq!(numbered("a.tar.gz", 2), "a (2).tar.gz");
        assert_eq!(numbered("a", 3), "a (3)");
        assert_eq!(numbered("a.txt", 1), "a.txt");
    }

    #[test]
    fn given_names_stay_in_the_folder() {
        for name in ["..", ".", "", "a/b", "/a", "a\\b", "a\0b", "../a", "a/"] {
            assert!(check_given(name).is_err(), "{name:?}");
        }
        assert!(check_given("a b.txt").is_ok() && check_given(".hidden").is_ok());
    }
}
