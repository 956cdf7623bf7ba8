//! robots.txt: what a site asks programs to leave alone (RFC 9309).

use robotstxt::DefaultMatcher;

/// The name by which a site can address raddle.
pub(crate) const AGENT: &str = "raddle";

/// The largest robots.txt that is read; the RFC wants at least 500 KB.
pub(crate) const LARGEST: u64 = 512 << 10;

/// What one site allows.
#[derive(Clone, Debug)]
pub(crate) enum Rules {
    /// It has no robots.txt: everything.
    Everything,
    /// It could not be asked: nothing.
    Nothing,
    /// What the file says.
    File(String),
}

impl Rules {
    /// Reads the answer to the request for robots.txt: its status and its body; `None` if there was no answer.
    pub(crate) fn of(answer: Option<(u16, &[u8])>) -> Self {
        match answer {
            Some((200..300, body)) => Rules::File(String::from_utf8_lossy(body).into_owned()),
            Some((300..500, _)) => Rules::Everything,
            _ => Rules::Nothing,
        }
    }

    /// Whether a program with this name may fetch the URL; else why not.
    pub(crate) fn allow(&self, agent: &str, url: &str) -> Result<(), &'static str> {
        match self {
            Rules::Everything => Ok(()),
            Rules::Nothing => Err("the site's robots.txt could not be read, which means that nothing is allowed"),
            Rules::File(text) if DefaultMatcher::default().one_agent_allowed_by_robots(text, agent, url) => Ok(()),
            Rules::File(_) => Err("the site's robots.txt does not allow it"),
        }
    }
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
        let rules = Rules::of(Some((200, text)));
        assert!(rules.allow("raddle", "http://h/open").is_ok());
        assert!(rules.allow("raddle", "http://h/private/x").is_err());
        assert!(rules.allow("other", "http://h/open").is_err());
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
