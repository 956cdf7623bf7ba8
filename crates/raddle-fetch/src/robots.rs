//! robots.txt: what a site asks programs to leave alone (RFC 9309).

use std::collections::HashMap;

use robotstxt::{DefaultMatcher, RobotsParseHandler, parse_robotstxt};

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
    File { text: String, concerning: HashMap<String, String> },
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

    /// Whether a program with this name may fetch the URL; else why not.
    pub(crate) fn allow(&mut self, agent: &str, url: &str) -> Result<(), &'static str> {
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
        let rules = concerning.get(agent).map_or("", String::as_str);
        if DefaultMatcher::default().one_agent_allowed_by_robots(rules, agent, url) {
            Ok(())
        } else {
            Err("the site's robots.txt does not allow it")
        }
    }
}

/// What of a file concerns one agent: the groups that name it, else those for all. The rest is read only once.
fn concern(text: &str, agent: &str) -> String {
    let mut groups =
        Groups { agent, is_in_rules: true, names_it: false, names_all: false, its: None, of_all: String::new() };
    parse_robotstxt(text, &mut groups);
    format!("User-agent: *\n{}", groups.its.unwrap_or(groups.of_all))
}

/// Sorts the lines of a file by whom they concern.
struct Groups<'a> {
    agent: &'a str,
    /// A name after a rule begins a new group.
    is_in_rules: bool,
    names_it: bool,
    names_all: bool,
    its: Option<String>,
    of_all: String,
}

impl Groups<'_> {
    fn rule(&mut self, verb: &str, path: &str) {
        self.is_in_rules = true;
        let line = format!("{verb}: {path}\n");
        if self.names_all {
            self.of_all.push_str(&line);
        }
        if let (true, Some(its)) = (self.names_it, &mut self.its) {
            its.push_str(&line);
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
        self.rule("Allow", path);
    }

    fn handle_disallow(&mut self, _: u32, path: &str) {
        self.rule("Disallow", path);
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
        assert!(rules.allow("raddle", "http://h/open").is_ok());
        assert!(rules.allow("raddle", "http://h/private/x").is_err());
        assert!(rules.allow("other", "http://h/open").is_err());
    }

    #[test]
    fn groups_of_one_agent_count_together_and_names_may_share_a_group() {
        let text = b"User-agent: raddle\nUser-agent: other\nDisallow: /a\n\nUser-agent: x\nDisallow: /\n\nUser-agent: RADDLE/2\nDisallow: /b\nAllow: /b/c\n";
        let mut rules = Rules::of(Some((200, text)));
        let allowed = ["/a", "/b", "/b/c", "/d"].map(|path| rules.allow("raddle", &format!("http://h{path}")).is_ok());
        assert_eq!(allowed, [false, false, true, true]);
        assert!(rules.allow("other", "http://h/b").is_ok());
        assert!(rules.allow("third", "http://h/a").is_ok());
    }

    #[test]
    fn a_missing_file_allows_and_a_broken_server_does_not() {
        assert!(Rules::of(Some((404, b""))).allow(AGENT, "http://h/").is_ok());
        assert!(Rules::of(Some((503, b""))).allow(AGENT, "http://h/").is_err());
        assert!(Rules::of(None).allow(AGENT, "http://h/").is_err());
    }

    #[test]
    fn the_product_is_the_first_word_of_the_user_agent() {
        assert_eq!(product("my-bot/1.0 (+http://h)"), "my-bot");
    }
}
