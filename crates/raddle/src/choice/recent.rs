//! What was measured lately, without the one measurement that stands out.

use std::collections::VecDeque;

use super::controller::Observation;

/// How much of the work is looked back on, in seconds of it: a change is seen when so much has been done in the new way.
const SPAN: f64 = 0.05;
/// How many measurements are kept at least, however long each was.
const FEWEST: usize = 4;
/// And at most.
const MOST: usize = 64;

/// The last observations.
#[derive(Debug, Default)]
pub(super) struct Recent {
    seen: VecDeque<Observation>,
    keeps_all: bool,
}

/// Means of the last observations, in seconds an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mean {
    pub(super) wall: f64,
    pub(super) busy: f64,
}

impl Recent {
    pub(super) fn push(&mut self, seen: Observation) {
        self.seen.push_back(seen);
        while !self.keeps_all && self.is_too_much() {
            self.seen.pop_front();
        }
    }

    pub(super) fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    fn is_too_much(&self) -> bool {
        self.seen.len() > MOST || (self.seen.len() > FEWEST && self.later_than_first() >= SPAN)
    }

    fn later_than_first(&self) -> f64 {
        self.seen.iter().skip(1).map(|one| one.wall).sum()
    }

    /// Seconds of the work that is looked back on.
    pub(super) fn wall(&self) -> f64 {
        self.seen.iter().map(|one| one.wall).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn clear(&mut self) {
        self.seen.clear();
    }

    /// The mean of an item. Of four and more, the one that took longest an item is left out: a core may have been away, and
    /// one slow item among fast ones says nothing of the rest.
    pub(super) fn mean(&self) -> Option<Mean> {
        let an_item = |one: &Observation| one.wall / one.items as f64;
        let is_trimmed = self.seen.len() >= FEWEST && !self.keeps_all;
        let outlier = (0..self.seen.len()).max_by(|a, b| an_item(&self.seen[*a]).total_cmp(&an_item(&self.seen[*b])));
        let kept = self.seen.iter().enumerate().filter(|(place, _)| !is_trimmed || Some(*place) != outlier);
        let (items, wall, busy) = kept
            .fold((0, 0.0, 0.0), |(items, wall, busy), (_, one)| (items + one.items, wall + one.wall, busy + one.busy));
        (items > 0).then(|| Mean { wall: wall / items as f64, busy: busy / items as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(items: u64, wall: f64) -> Observation {
        Observation { items, wall, busy: wall }
    }

    #[test]
    fn one_slow_item_among_fast_ones_is_left_out() {
        let mut recent = Recent::default();
        for wall in [0.001, 0.001, 0.5, 0.001, 0.001] {
            recent.push(seen(1, wall));
        }
        let mean = recent.mean().expect("there are some");
        assert!((mean.wall - 0.001).abs() < 1e-9);
    }

    #[test]
    fn what_has_changed_is_seen_after_a_few_items() {
        let mut recent = Recent::default();
        (0..100).for_each(|_| recent.push(seen(100, 0.001)));
        (0..4).for_each(|_| recent.push(seen(1, 0.02)));
        let mean = recent.mean().expect("there are some");
        assert!(mean.wall > 0.015, "{mean:?}");
    }

    #[test]
    fn nothing_seen_has_no_mean() {
        assert_eq!(Recent::default().mean(), None);
    }
}
