//! Names of what tasks run, each kept once: a task carries a number.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};

use crate::per_fork::PerFork;

/// So many different names are kept; what comes later is [`OTHERS`]. A guess: a program has fewer functions.
const MOST_NAMES: usize = 1 << 16;
/// Names are kept up to about this many bytes.
const MOST_BYTES: usize = 200;
const OTHERS: &str = "(others)";

#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, NonZeroU32>,
    texts: Vec<Arc<str>>,
}

static NAMES: PerFork<RwLock<Names>> = PerFork::new();

/// The name of what a task runs, by a number.
///
/// ```
/// use raddle::events::Name;
///
/// assert_eq!(Name::of("square"), Name::of("square"));
/// assert_eq!(&*Name::of("square").text(), "square");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name(NonZeroU32);

impl Name {
    /// The name that reads so; a long one is shortened.
    pub fn of(text: &str) -> Self {
        let text = shortened(text);
        let names = NAMES.get().read().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = names.numbers.get(text) {
            return Self(*number);
        }
        drop(names);
        let mut names = NAMES.get().write().unwrap_or_else(PoisonError::into_inner);
        let is_full = names.texts.len() >= MOST_NAMES;
        Self(names.add(if is_full { OTHERS } else { text }))
    }

    /// How it reads.
    pub fn text(self) -> Arc<str> {
        let names = NAMES.get().read().unwrap_or_else(PoisonError::into_inner);
        // In a child of a fork, names of the parent are gone.
        names.texts.get(self.0.get() as usize - 1).map_or_else(|| OTHERS.into(), Arc::clone)
    }

    /// The number, and 0 for none.
    pub(crate) fn bits(name: Option<Self>) -> u32 {
        name.map_or(0, |name| name.0.get())
    }

    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        NonZeroU32::new(bits).map(Self)
    }
}

impl Names {
    fn add(&mut self, text: &str) -> NonZeroU32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        let number = NonZeroU32::MIN.saturating_add(self.texts.len() as u32 - 1);
        self.numbers.insert(text, number);
        number
    }
}

fn shortened(text: &str) -> &str {
    if text.len() <= MOST_BYTES {
        return text;
    }
    let end = (0..=MOST_BYTES).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_a_long_one_is_shortened_between_characters() {
        assert_eq!(Name::of("once"), Name::of("once"));
        assert_ne!(Name::of("once"), Name::of("twice"));
        let long = "é".repeat(150);
        assert_eq!(Name::of(&long).text().chars().count(), 100);
        assert_eq!(Name::from_bits(Name::bits(Some(Name::of("once")))), Some(Name::of("once")));
        assert_eq!(Name::from_bits(0), None);
    }
}
