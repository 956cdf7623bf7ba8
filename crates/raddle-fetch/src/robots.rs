//! robots.txt: what a site asks programs to leave alone (RFC 9309).

use std::collections::HashMap;

use robotstxt::parser::escape_pattern;
use robotstxt::{RobotsParseHandler, parse_robotstxt};

/// The name by which a site can address raddle.
pub(crate) const AGENT: &str = "raddle";

/// So much of a robots.txt is read; the RFC wants at least 500 KB.
pub(crate) const LARGEST: u64 = 512 << 10;

/// What one site allows.
#[derive(Clone, Debug)]
pub(crate) enum Rules {
    /// It has no robots.txt: everything.
    Everything,
    /// It could not be asked: nothing.
    Nothing,
    /// What the file says, and what of it concerns the agents that have asked.
    File { text: String, concerning: HashMap<String, Vec<Rule>> },
}

/// One line of a file: the paths that a pattern fits may be fetched, or may not.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pattern: String,
    is_allowed: bool,
}

impl Rules {
    /// Reads the answer to the request for robots.txt: its status and its body; `None` if there was no answer.
    pub(crate) fn of(answer: Option<(u16, &[u8])>) -> Self {
        match answer {
            Some((200..300, body)) => {
                Rules::File { text: String::from_utf8_lossy(body).into_owned(), concerning: HashMap::new() }
            }
            Some((300..500, _)) => Rules::Everything,
            _ => Rules::Nothing,
        }
    }

    /// Whether a program with this name may fetch a path, query included; else why not.
    pub(crate) fn allow(&mut self, agent: &str, path: &str) -> Result<(), &'static str> {
        let (text, concerning) = match self {
            Rules::Everything => return Ok(()),
            Rules::Nothing => {
                return Err("the site's robots.txt could not be read, which means that nothing is allowed");
            }
            Rules::File { text, concerning } => (text, concerning),
        };
        if !concerning.contains_key(agent) {
            concerning.insert(agent.to_owned(), concern(text, agent));
        }
        let path = escape_pattern(path);
        // The longest pattern counts, and is the first.
        let decisive = concerning.get(agent).into_iter().flatten().find(|rule| fits(&path, &rule.pattern));
        if decisive.is_none_or(|rule| rule.is_allowed) {
            Ok(())
        } else {
            Err("the site's robots.txt does not allow it")
        }
    }
}

/// What of a file concerns one agent: the groups that name it, else those for all. The rest is read only once.
fn concern(text: &str, agent: &str) -> Vec<Rule> {
    let mut groups =
        Groups { agent, is_in_rules: true, names_it: false, names_all: false, its: None, of_all: Vec::new() };
    parse_robotstxt(text, &mut groups);
    let mut rules = groups.its.unwrap_or(groups.of_all);
    rules.sort_by_key(|rule| (std::cmp::Reverse(rule.pattern.len()), !rule.is_allowed));
    rules
}

/// Whether a pattern fits the beginning of a path: `*` stands for anything, and `$` at its end for the path's end.
///
/// Each part between two stars is looked for behind the one before, and never again: a pattern that a site has made to be
/// slow is read once too.
fn fits(path: &str, pattern: &str) -> bool {
    let (pattern, is_whole) = pattern.strip_suffix('$').map_or((pattern, false), |before| (before, true));
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return !is_whole || rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    if is_whole { rest.ends_with(last) } else { rest.contains(last) }
}

/// Sorts the lines of a file by whom they concern.
struct Groups<'a> {
    agent: &'a str,
    /// A name after a rule begins a new group.
    is_in_rules: bool,
    names_it: bool,
    names_all: bool,
    its: Option<Vec<Rule>>,
    of_all: Vec<Rule>,
}

impl Groups<'_> {
    fn rule(&mut self, is_allowed: bool, pattern: &str) {
        self.is_in_rules = true;
        if pattern.is_empty() {
            return; // it says nothing
        }
        let rule = Rule { pattern: pattern.to_owned(), is_allowed };
        if self.names_all {
            self.of_all.push(rule.clone());
        }
        if let (true, Some(its)) = (self.names_it, &mut self.its) {
            its.push(rule);
        }
    }
}

impl RobotsParseHandler for Groups<'_> {
    fn handle_robots_start(&mut self) {}

    fn handle_robots_end(&mut self) {}

    fn handle_user_agent(&mut self, _: u32, name: &str) {
        if std::mem::take(&mut self.is_in_rules) {
            (self.names_it, self.names_all) = (false, false);
        }
        if name.trim() == "*" {
            self.names_all = true;
        } else if product(name.trim()).eq_ignore_ascii_case(self.agent) {
            self.names_it = true;
            self.its.get_or_insert_default();
        }
    }

    fn handle_allow(&mut self, _: u32, path: &str) {
        self.rule(true, path);
    }

    fn handle_disallow(&mut self, _: u32, path: &str) {
        self.rule(false, path);
    }

    fn handle_sitemap(&mut self, _: u32, _: &str) {}

    fn handle_unknown_action(&mut self, _: u32, _: &str, _: &str) {}
}

/// The product's name in a `User-Agent`, which is what robots.txt goes by.
pub(crate) fn product(user_agent: &str) -> String {
    user_agent.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-' || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_the_agent_or_of_all() {
        let text = b"User-agent: raddle\nDisallow: /private\n\nUser-agent: *\nDisallow: /\n";
        let mut rules = Rules::of(Some((200, text)));
        assert!(rules.allow("raddle", "/open").is_ok());
        assert!(rules.allow("raddle", "/private/x").is_err());
        assert!(rules.allow("other", "/open").is_err());
    }

    #[test]
    fn groups_of_one_agent_count_together_and_names_may_share_a_group() {
        let text = b"User-agent: raddle\nUser-agent: other\nDisallow: /a\n\nUser-agent: x\nDisallow: /\n\nUser-agent: RADDLE/2\nDisallow: /b\nAllow: /b/c\n";
        let mut rules = Rules::of(Some((200, text)));
        let allowed = ["/a", "/b", "/b/c", "/d"].map(|path| rules.allow("raddle", path).is_ok());
        assert_eq!(allowed, [false, false, true, true]);
        assert!(rules.allow("other", "/b").is_ok());
        assert!(rules.allow("third", "/a").is_ok());
    }

    #[test]
    fn the_longest_pattern_counts_and_of_two_the_one_that_allows() {
        let text = b"User-agent: *\nAllow: /a\nDisallow: /a/b\nAllow: /a/b/c\nDisallow: /x\nAllow: /x\nDisallow:\n";
        let mut rules = Rules::of(Some((200, text)));
        let allowed = ["/a", "/a/b", "/a/b/c", "/x", "/y"].map(|path| rules.allow(AGENT, path).is_ok());
        assert_eq!(allowed, [true, false, true, true, true]);
    }

    #[test]
    fn stars_fit_anything_and_a_dollar_the_end() {
        for (pattern, path, expected) in [
            ("/*.php", "/a.b.php?q", true),
            ("/*.php$", "/a.b.php", true),
            ("/*.php$", "/a.php.php", true),
            ("/*.php$", "/a.php?q", false),
            ("/*ab", "/aaxab", true),
            ("/*/*/c", "/a/b/c/d", true),
            ("/*/*/c", "/a/c", false),
            ("/a*", "/abc", true),
            ("/a$", "/ab", false),
            ("/a$", "/a", true),
            ("/a*a$", "/a", false),
            ("/a$b", "/a$b", true),
            ("*", "/", true),
            ("$", "/", false),
        ] {
            assert_eq!(fits(path, pattern), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn escapes_of_one_character_are_the_same() {
        let mut rules = Rules::of(Some((200, "User-agent: *\nDisallow: /caf\u{e9}\nDisallow: /%7e\n".as_bytes())));
        assert!(rules.allow(AGENT, "/caf%c3%a9").is_err() && rules.allow(AGENT, "/%7E").is_err());
    }

    #[test]
    fn a_missing_file_allows_and_a_broken_server_does_not() {
        assert!(Rules::of(Some((404, b""))).allow(AGENT, "/").is_ok());
        assert!(Rules::of(Some((503, b""))).allow(AGENT, "/").is_err());
        assert!(Rules::of(None).allow(AGENT, "/").is_err());
    }

    #[test]
    fn the_product_is_the_first_word_of_the_user_agent() {
        assert_eq!(product("my-bot/1.0 (+http://h)"), "my-bot");
    }
}
