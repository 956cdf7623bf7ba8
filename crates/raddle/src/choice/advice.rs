//! What was found, in words.

use super::model::{Costs, Plan, Way};

/// A time with three figures and its unit.
///
/// ```
/// assert_eq!(raddle::choice::duration_text(0.1032), "103 ms");
/// ```
pub fn duration_text(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s if s >= 1e-6 => (s * 1e6, "us"),
        s => (s * 1e9, "ns"),
    };
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

pub(super) fn share_text(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// One sentence of advice: what to do, and why. `plans` has a loop and what else is possible, `best` is the one to follow.
pub fn sentence(costs: &Costs, plans: &[Plan], best: &Plan, forbidden: &[(Way, String)]) -> String {
    let loop_seconds = plans.iter().find(|plan| plan.way == Way::Sequential).map_or(0.0, |plan| plan.seconds);
    let computes = costs.computing() > 0.5 * costs.total();
    match best.way {
        Way::Threads if computes => "crunching numbers without the interpreter lock: threads".into(),
        Way::Threads => "waiting for something: threads".into(),
        Way::Processes if computes => "crunching numbers: processes".into(),
        Way::Processes => "waiting and crunching numbers in turn: processes".into(),
        Way::Sequential => {
            let sent = costs.sending + costs.receiving;
            let reason = forbidden.iter().find(|(way, _)| *way == Way::Processes).or(forbidden.first());
            match reason {
                _ if loop_seconds < FAST_ENOUGH => "fast enough already: leave it".into(),
                Some((_, reason)) => format!("leave it a plain loop: {reason}"),
                None if sent > costs.total() => {
                    "the arguments cost more to send than to compute: leave it a plain loop".into()
                }
                None => "neither threads nor processes would make it faster: leave it a plain loop".into(),
            }
        }
    }
}

/// The plan to follow: the fastest, if it is worth the trouble; else the plain loop.
pub fn worthwhile(plans: &[Plan]) -> Option<Plan> {
    let stay = plans.iter().find(|plan| plan.way == Way::Sequential)?;
    let best = plans.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
    let pays = best.seconds < 0.8 * stay.seconds && stay.seconds - best.seconds > 0.01;
    Some(if pays { *best } else { *stay })
}

/// Seconds below which nobody waits for a loop to end. A guess.
const FAST_ENOUGH: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::{Machine, Outlook};

    fn advice(costs: Costs, items: u64) -> String {
        let outlook = Outlook { machine: Machine::guessed(2), costs, items, limit: None };
        let plans = Way::ALL.map(|way| outlook.plan(way, false));
        let best = plans.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds)).expect("there are three");
        sentence(&costs, &plans, best, &[])
    }

    #[test]
    fn advice_is_in_the_words_of_the_rule_of_thumb() {
        let costs = Costs::default();
        assert_eq!(advice(Costs { waiting: 0.1, ..costs }, 50), "waiting for something: threads");
        assert_eq!(advice(Costs { holding: 0.1, ..costs }, 50), "crunching numbers: processes");
        assert_eq!(advice(Costs { holding: 1e-6, ..costs }, 50), "fast enough already: leave it");
        let heavy = Costs { holding: 0.01, sending: 0.05, ..costs };
        assert!(advice(heavy, 500).starts_with("the arguments cost more to send than to compute"));
    }

    #[test]
    fn times_have_three_figures() {
        let texts = [12.0, 0.0015, 0.0999, 3.2e-8].map(duration_text);
        assert_eq!(texts, ["12.0 s", "1.50 ms", "99.9 ms", "32.0 ns"]);
    }
}
