//! What has to stay as it is because a child of a fork has it too (worker -> RESULT).
//!
//! A child sees in the arena what its parent saw at the fork, and tells nobody what it looks at. So what there is before a fork
//! is pinned, until the children that have been forked since, and their children, have all ended or become other programs.

use crate::os::ForkWitness;

/// How many forks are watched one by one; later ones are watched together. A witness has a descriptor, and a process has not many.
const MOST_WITNESSES: usize = 64;

/// Things that stay while children of forks may look at them.
#[derive(Debug)]
pub struct Pins<T>(Vec<(ForkWitness, Vec<T>)>);

impl<T> Default for Pins<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Pins<T> {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Before a fork: what its child is going to see. Where the system gives no witness of the child's end, it is there for
    /// ever.
    pub fn pin(&mut self, things: Vec<T>) {
        if things.is_empty() {
            return;
        }
        if self.0.len() >= MOST_WITNESSES
            && let Some((witness, pinned)) = self.0.last_mut()
        {
            match witness.open() {
                Ok(()) => pinned.extend(things),
                Err(_) => std::mem::forget(things),
            }
            return;
        }
        match ForkWitness::new() {
            Ok(witness) => self.0.push((witness, things)),
            Err(_) => std::mem::forget(things),
        }
    }

    /// After the fork, in the parent.
    pub fn note_forked(&mut self) {
        self.0.iter_mut().for_each(|(witness, _)| witness.close());
    }

    /// What no child of a fork has any more.
    #[must_use = "it is dropped where no lock is held"]
    pub fn take_released(&mut self) -> Vec<T> {
        let (released, kept) = std::mem::take(&mut self.0).into_iter().partition(|(witness, _)| witness.is_alone());
        self.0 = kept;
        let released: Vec<(ForkWitness, Vec<T>)> = released;
        released.into_iter().flat_map(|(_, things)| things).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_stays_until_the_fork_is_over() {
        let mut pins = Pins::new();
        pins.pin(vec![1, 2]);
        assert_eq!(pins.take_released(), []);
        pins.note_forked();
        assert_eq!(pins.take_released(), [1, 2]);
        assert!(pins.is_empty());
    }

    #[test]
    fn nothing_needs_no_witness() {
        let mut pins = Pins::<u8>::new();
        pins.pin(Vec::new());
        assert!(pins.is_empty());
    }

    #[test]
    fn many_forks_are_watched_together() {
        let mut pins = Pins::new();
        for number in 0..2 * MOST_WITNESSES {
            pins.pin(vec![number]);
            pins.note_forked();
        }
        assert_eq!(pins.0.len(), MOST_WITNESSES);
        assert_eq!(pins.take_released().len(), 2 * MOST_WITNESSES);
    }
}
