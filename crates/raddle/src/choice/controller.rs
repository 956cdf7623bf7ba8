//! Which way a map goes, from what is measured while it runs.
//!
//! The map tells what it observes; [`Controller::decide`] says whether another way pays for what remains. A move has to gain
//! a fifth and some milliseconds, and is proposed twice before it is made, so that noise does not push a map to and fro. What a way was
//! seen to take more than predicted is added to later predictions for it.

use super::advice::{duration_text, share_text};
use super::model::{Costs, Machine, Outlook, Plan, Way};
use super::recent::Recent;

/// Some items that were measured together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// How many; at least 1.
    pub items: u64,
    /// Seconds that they took.
    pub wall: f64,
    /// Seconds of a core that they took, or would have if one had been free.
    pub busy: f64,
}

/// What a map is to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Go on as it is.
    Stay,
    /// Another way would pay: look first whether the function can go it, and what sending costs.
    Examine,
    /// Go on in this way, with so many workers.
    Move(Plan),
}

/// A change of mind.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// How many items had been done.
    pub done: u64,
    /// What was chosen.
    pub plan: Plan,
    /// Why, in a sentence.
    pub reason: String,
}

/// A move has to make what remains this much shorter.
const GAIN: f64 = 0.8;
/// And by so many seconds: what a wrong move may cost.
const LEAST_GAIN: f64 = 0.01;
/// An item that takes so long, in seconds, needs no second proposal.
const LONG_ITEM: f64 = 0.01;
/// So many seconds of work are measured before a loop is left: the first calls may be slower than the rest.
const LEAST_SEEN: f64 = 9e-4;
/// How many items are expected at least where nobody knows. A guess: what is mapped over is seldom less.
const UNKNOWN: u64 = 20;
/// How often it has to be looked who holds the interpreter lock before computing is believed to do without it.
const LOOKS: f64 = 3.0;
/// Old looks fade: so many count at most.
const MOST_LOOKS: f64 = 16.0;
/// More threads than a map has by itself: one that holds the interpreter lock whenever it can computes a greater share of its
/// time than one of these.
const MOST_CONTENDING: f64 = 64.0;
/// The share of the looks below which computing does without the lock; above the other, it holds it all the time.
const FREE: f64 = 0.2;
/// As [`FREE`].
const HELD: f64 = 0.7;

/// Gathers what is measured, and decides.
#[derive(Debug)]
pub struct Controller {
    machine: Machine,
    limit: Option<usize>,
    total: Option<u64>,
    has_lock: bool,
    way: Way,
    /// The way of the first item.
    began: Way,
    done: u64,
    recent: Recent,
    /// What items took before the last move, until the new way has been measured.
    known: Option<Costs>,
    looks: f64,
    held: f64,
    sending: Option<(f64, f64)>,
    is_examined: bool,
    forbidden: Vec<(Way, String)>,
    corrections: [f64; 3],
    proposed: Option<Way>,
    moves: Vec<Move>,
}

impl Controller {
    /// For a map of so many items, if that is known, by at most `limit` workers. `has_lock`: the threads of the program share an
    /// interpreter lock.
    pub fn new(machine: Machine, total: Option<u64>, limit: Option<usize>, has_lock: bool) -> Self {
        Self {
            machine,
            limit,
            total,
            has_lock,
            way: Way::Sequential,
            began: Way::Sequential,
            done: 0,
            recent: Recent::default(),
            known: None,
            looks: 0.0,
            held: 0.0,
            sending: None,
            is_examined: false,
            forbidden: Vec::new(),
            corrections: [1.0; 3],
            proposed: None,
            moves: Vec::new(),
        }
    }

    /// Items were measured, in whatever way is gone at present.
    pub fn observe(&mut self, seen: Observation) {
        if seen.items > 0 && seen.wall.is_finite() && seen.busy.is_finite() {
            let wall = seen.wall.max(1e-9);
            self.recent.push(Observation { wall, busy: seen.busy.clamp(0.0, wall), ..seen });
        }
    }

    /// So many items are done, measured or not.
    pub fn count_done(&mut self, items: u64) {
        self.done += items;
    }

    /// It was looked so often, while the function ran, whether the interpreter lock is held; it was, so often.
    pub fn observe_lock(&mut self, looks: u32, held: u32) {
        self.looks += f64::from(looks);
        self.held += f64::from(held.min(looks));
        if self.looks > MOST_LOOKS {
            self.held *= MOST_LOOKS / self.looks;
            self.looks = MOST_LOOKS;
        }
    }

    /// The workers of the present way took so many seconds for so many items, from the first to the last.
    pub fn observe_pace(&mut self, items: u64, seconds: f64) {
        let Some(costs) = self.costs() else { return };
        let predicted = Outlook { items, ..self.outlook(costs) }.plan(self.way, true).seconds;
        if predicted > 0.0 && seconds.is_finite() {
            let kept = &mut self.corrections[self.way as usize];
            *kept = (0.5 * *kept + 0.5 * seconds / predicted).clamp(1.0, 5.0);
        }
    }

    /// What sending an item to a process and back takes, as [`Costs::sending`] and [`Costs::receiving`].
    pub fn observe_sending(&mut self, sending: f64, receiving: f64) {
        self.sending = Some((sending.max(0.0), receiving.max(0.0)));
    }

    /// The function has been looked at: nothing but what is [forbidden](Self::forbid) stands against a way.
    pub fn set_examined(&mut self) {
        self.is_examined = true;
    }

    /// This way is never gone: the reason stands in the report.
    pub fn forbid(&mut self, way: Way, reason: &str) {
        if !self.is_forbidden(way) {
            self.forbidden.push((way, reason.into()));
        }
    }

    /// All that is measured counts alike, and not the last alone: for a sample of the whole.
    pub fn keep_all(&mut self) {
        self.recent.keep_all();
    }

    /// What the machine asks has been measured.
    pub fn set_machine(&mut self, machine: Machine) {
        self.machine = machine;
    }

    /// What the machine asks, as far as is known.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The way that is gone at present.
    pub fn way(&self) -> Way {
        self.way
    }

    /// How many items are done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// What was changed, and why.
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// The ways that cannot be gone, and why.
    pub fn forbidden(&self) -> &[(Way, String)] {
        &self.forbidden
    }

    /// What an item takes, as far as is known.
    pub fn costs(&self) -> Option<Costs> {
        let is_new = self.known.is_some() && self.recent.len() < 2;
        let measured = if is_new { None } else { self.recent.mean() };
        let mut costs = match (measured, self.known) {
            (None, known) => known?,
            (Some(mean), known) => self.split(mean.wall, mean.busy, known),
        };
        (costs.sending, costs.receiving) = self.sending.unwrap_or_default();
        Some(costs)
    }

    /// Divides what was measured into waiting, holding the lock, and computing without it.
    fn split(&self, wall: f64, busy: f64, known: Option<Costs>) -> Costs {
        let mut waiting = wall - busy;
        // Clocks and measuring make a little of it up.
        if waiting < 0.05 * wall || waiting < 2e-6 {
            waiting = 0.0;
        }
        let mut costs = Costs { waiting, ..Costs::default() };
        if !self.has_lock {
            costs.released = busy;
        } else if self.way == Way::Processes {
            // There, nobody can tell; before, it was seen.
            let free = known.map_or(0.0, |known| known.released / known.computing().max(1e-12));
            costs.released = free * busy;
            costs.holding = busy - costs.released;
        } else {
            costs.holding = self.held_share(busy / wall) * busy;
            costs.released = busy - costs.holding;
        }
        if self.way == Way::Threads && costs.holding > 0.5 * busy {
            // Threads that wait for each other's lock do not wait for anything outside.
            costs.waiting = match known {
                Some(known) => waiting.min(known.waiting),
                // In a map that began on threads nobody has seen: so many never wait for one lock.
                None if busy * MOST_CONTENDING < wall => waiting,
                None => 0.0,
            };
        }
        costs
    }

    /// The share of its computing in which the function holds the lock. Until that has been looked at, all of it.
    fn held_share(&self, busy: f64) -> f64 {
        // What waits is without the lock anyhow: looks count as far as they fell on computing.
        if self.looks * busy < 0.9 * LOOKS {
            return 1.0;
        }
        let share = (self.held / self.looks / busy).min(1.0);
        if share < FREE {
            0.0
        } else if share > HELD {
            1.0
        } else {
            share
        }
    }

    /// How many items are expected to remain; where nobody knows, as many again, and some at least.
    pub fn remaining(&self) -> u64 {
        self.total.map_or(self.done.max(UNKNOWN), |total| total.saturating_sub(self.done))
    }

    fn outlook(&self, costs: Costs) -> Outlook {
        Outlook { machine: self.machine, costs, items: self.remaining(), limit: self.limit }
    }

    /// What the present way takes for what remains.
    pub fn present(&self) -> Option<Plan> {
        Some(self.predicted(&self.outlook(self.costs()?), self.way))
    }

    fn predicted(&self, outlook: &Outlook, way: Way) -> Plan {
        let plan = outlook.plan(way, way == self.way);
        Plan { seconds: plan.seconds * self.corrections[way as usize], ..plan }
    }

    /// What each way takes for all items, from its start; without those that are forbidden.
    pub fn forecast(&self, items: u64) -> Vec<Plan> {
        let Some(costs) = self.costs() else { return Vec::new() };
        let outlook = Outlook { items, ..self.outlook(costs) };
        let ways = Way::ALL.into_iter().filter(|way| !self.is_forbidden(*way));
        ways.map(|way| outlook.plan(way, false)).collect()
    }

    fn is_forbidden(&self, way: Way) -> bool {
        self.forbidden.iter().any(|(one, _)| *one == way)
    }

    /// Whether another way pays for what remains.
    pub fn decide(&mut self) -> Decision {
        let Some(costs) = self.costs() else { return Decision::Stay };
        let Some(plan) = self.better(costs) else {
            self.proposed = None;
            return Decision::Stay;
        };
        if !self.is_examined {
            return Decision::Examine;
        }
        let is_sure = costs.total() >= LONG_ITEM || self.proposed == Some(plan.way);
        self.proposed = Some(plan.way);
        if !is_sure {
            return Decision::Stay;
        }
        self.go(plan, costs);
        Decision::Move(plan)
    }

    fn better(&self, costs: Costs) -> Option<Plan> {
        let outlook = self.outlook(costs);
        if self.way == Way::Sequential && self.recent.wall() < LEAST_SEEN {
            return None;
        }
        let computes = costs.computing() > 0.3 * costs.total();
        if self.has_lock && self.way == Way::Sequential && computes && self.looks < LOOKS && self.is_early(&outlook) {
            // Threads or processes: it will soon be seen who holds the lock.
            return None;
        }
        let stay = self.predicted(&outlook, self.way).seconds;
        let others = Way::ALL.into_iter().filter(|way| *way != self.way && !self.is_forbidden(*way));
        let best = others.map(|way| self.predicted(&outlook, way)).min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
        (best.way != self.way && best.seconds < GAIN * stay && stay - best.seconds > LEAST_GAIN).then_some(best)
    }

    /// Whether little of the whole has been done.
    fn is_early(&self, outlook: &Outlook) -> bool {
        (self.done as f64) < 0.1 * (self.done + outlook.items) as f64
            || (self.done as f64) * outlook.costs.total() < 0.1
    }

    fn go(&mut self, plan: Plan, costs: Costs) {
        let reason = self.reason(&plan, costs);
        self.moves.push(Move { done: self.done, plan, reason });
        self.known = Some(costs);
        self.recent.clear();
        self.proposed = None;
        self.way = plan.way;
    }

    /// The map begins in this way, as somebody has decided.
    pub fn start(&mut self, way: Way) {
        self.way = way;
        self.began = way;
    }

    /// How many items to give to one of so many workers at a time, in the present way.
    pub fn chunk(&self, workers: usize) -> usize {
        self.costs().map_or(1, |costs| self.outlook(costs).chunk(self.way, workers))
    }

    /// The map goes another way than was decided: that of the decision could not be gone.
    pub fn go_back(&mut self, reason: &str) {
        let way = self.way;
        self.forbid(way, reason);
        self.known = self.costs();
        self.recent.clear();
        self.way = Way::Sequential;
        let plan = Plan { way: Way::Sequential, workers: 1, chunk: 1, seconds: 0.0 };
        self.moves.push(Move { done: self.done, plan, reason: reason.into() });
    }

    fn reason(&self, plan: &Plan, costs: Costs) -> String {
        let workers = match plan.way {
            Way::Sequential => "a plain loop".to_owned(),
            way => format!("{} {}", plan.workers, way.name()),
        };
        let stay = self.predicted(&self.outlook(costs), self.way);
        format!(
            "{}: {workers} to take {} for the {} items that {}, {} {}",
            describe(&costs),
            duration_text(plan.seconds),
            self.remaining(),
            if self.total.is_some() { "remain" } else { "may come" },
            if self.way == Way::Sequential { "the loop" } else { self.way.name() },
            duration_text(stay.seconds),
        )
    }

    /// What was found, what was decided and why, a line each.
    pub fn report(&self) -> Vec<String> {
        let of = self.total.map_or(String::new(), |total| format!(" of {total}"));
        let mut lines = vec![format!("{}{of} items done, now {}", self.done, self.way.name())];
        lines.extend(self.costs().map(|costs| describe(&costs)));
        if self.moves.is_empty() && self.costs().is_some() {
            lines.push(match self.began {
                Way::Sequential => "it stayed a plain loop: nothing else was predicted to pay".into(),
                began => format!("it was done by {} from the first item on", began.name()),
            });
        }
        lines.extend(self.moves.iter().map(|one| format!("after {} items: {}", one.done, one.reason)));
        lines.extend(self.forbidden.iter().map(|(way, reason)| format!("no {}: {reason}", way.name())));
        lines
    }
}

/// What an item takes, in a clause.
pub(super) fn describe(costs: &Costs) -> String {
    let total = costs.total();
    let parts = [
        (costs.waiting, "waiting"),
        (costs.holding, "computing with the interpreter lock held"),
        (costs.released, "computing without the interpreter lock"),
    ];
    let shares = parts.iter().filter(|(seconds, _)| *seconds >= 0.01 * total && *seconds > 0.0);
    let shares: Vec<String> = shares.map(|(seconds, what)| format!("{} {what}", share_text(seconds / total))).collect();
    let sent = costs.sending + costs.receiving;
    let sent = if sent > 0.01 * total { format!(", and {} to send it", duration_text(sent)) } else { String::new() };
    format!("an item takes {} ({}){sent}", duration_text(total), shares.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(total: u64) -> Controller {
        let mut made = Controller::new(Machine::guessed(4), Some(total), None, true);
        made.set_examined();
        made
    }

    /// Runs a plain loop of items, and tells the way that is decided on within so many.
    fn after(controller: &mut Controller, items: u32, wall: f64, busy: f64, held: u32) -> Way {
        for _ in 0..items {
            controller.count_done(1);
            controller.observe(Observation { items: 1, wall, busy });
            controller.observe_lock(1, held);
            controller.decide();
        }
        controller.way()
    }

    #[test]
    fn a_function_that_waits_goes_to_threads() {
        assert_eq!(after(&mut controller(100), 2, 0.1, 0.0001, 0), Way::Threads);
    }

    #[test]
    fn a_function_that_holds_the_lock_goes_to_processes() {
        assert_eq!(after(&mut controller(1000), 5, 0.01, 0.01, 1), Way::Processes);
    }

    #[test]
    fn a_function_that_releases_the_lock_goes_to_threads() {
        assert_eq!(after(&mut controller(1000), 5, 0.01, 0.01, 0), Way::Threads);
    }

    #[test]
    fn without_an_interpreter_lock_computing_goes_to_threads() {
        let mut plain = Controller::new(Machine::guessed(4), Some(1000), None, false);
        plain.set_examined();
        plain.forbid(Way::Processes, "there are none");
        assert_eq!(after(&mut plain, 2, 0.01, 0.01, 1), Way::Threads);
    }

    #[test]
    fn a_trivial_function_stays_a_loop() {
        assert_eq!(after(&mut controller(10_000), 1000, 1e-7, 1e-7, 1), Way::Sequential);
    }

    #[test]
    fn what_is_forbidden_is_never_chosen() {
        let mut made = controller(1000);
        made.forbid(Way::Processes, "it stores to the global 'total'");
        assert_eq!(after(&mut made, 20, 0.01, 0.01, 1), Way::Sequential);
        assert!(made.report().iter().any(|line| line.contains("no processes: it stores to the global 'total'")));
    }

    #[test]
    fn nothing_is_moved_that_was_not_examined() {
        let mut made = Controller::new(Machine::guessed(4), Some(1000), None, true);
        made.count_done(1);
        made.observe(Observation { items: 1, wall: 0.5, busy: 0.0 });
        assert_eq!(made.decide(), Decision::Examine);
        made.set_examined();
        assert!(matches!(made.decide(), Decision::Move(plan) if plan.way == Way::Threads));
    }

    #[test]
    fn a_short_item_is_moved_at_the_second_proposal() {
        let mut made = controller(100_000);
        made.observe_lock(5, 5);
        made.observe(Observation { items: 1, wall: 0.001, busy: 0.001 });
        assert_eq!(made.decide(), Decision::Stay);
        made.observe(Observation { items: 1, wall: 0.001, busy: 0.001 });
        assert!(matches!(made.decide(), Decision::Move(_)));
    }

    #[test]
    fn a_function_that_starts_computing_is_taken_from_threads_to_processes() {
        let mut made = controller(10_000);
        assert_eq!(after(&mut made, 2, 0.02, 0.0, 0), Way::Threads);
        // On threads that take turns at the lock, each waits for the others.
        assert_eq!(after(&mut made, 20, 0.2, 0.02, 1), Way::Processes);
    }

    #[test]
    fn a_function_that_starts_waiting_is_taken_from_processes_to_threads() {
        let mut made = controller(10_000);
        assert_eq!(after(&mut made, 5, 0.02, 0.02, 1), Way::Processes);
        assert_eq!(after(&mut made, 20, 0.02, 0.0, 0), Way::Threads);
    }

    #[test]
    fn work_that_becomes_trivial_comes_back_to_the_loop() {
        let mut made = controller(1_000_000);
        assert_eq!(after(&mut made, 5, 0.02, 0.02, 1), Way::Processes);
        made.observe_sending(1e-6, 1e-6);
        for _ in 0..20 {
            made.observe(Observation { items: 10_000, wall: 1e-3, busy: 1e-3 });
            made.decide();
        }
        assert_eq!(made.way(), Way::Sequential);
    }

    #[test]
    fn workers_that_are_slower_than_a_loop_are_left() {
        let mut made = controller(1000);
        assert_eq!(after(&mut made, 5, 0.01, 0.01, 1), Way::Processes);
        (0..5).for_each(|_| made.observe_pace(20, 1.0));
        assert_eq!(after(&mut made, 3, 0.01, 0.01, 1), Way::Sequential);
    }

    #[test]
    fn a_number_that_nobody_knows_is_taken_to_be_as_many_again() {
        let mut made = Controller::new(Machine::guessed(4), None, None, true);
        made.set_examined();
        made.count_done(10);
        assert_eq!(made.remaining(), 20);
        made.count_done(90);
        assert_eq!(made.remaining(), 100);
    }

    #[test]
    fn the_reason_tells_what_was_measured_and_what_is_expected() {
        let mut made = controller(100);
        after(&mut made, 2, 0.1, 0.0, 0);
        let reason = &made.moves()[0].reason;
        assert!(reason.contains("an item takes 100 ms (100 % waiting)"), "{reason}");
        assert!(reason.contains("32 threads to take 402 ms for the 99 items that remain, the loop 9.90 s"), "{reason}");
    }

    #[test]
    fn a_map_that_begins_on_threads_waits_where_it_hardly_computes_and_says_where_it_was_done() {
        let mut made = controller(100);
        made.start(Way::Threads);
        after(&mut made, 10, 0.01, 1e-5, 0);
        let report = made.report().join("\n");
        assert!(report.contains("100 % waiting"), "{report}");
        assert!(report.contains("it was done by threads from the first item on"), "{report}");
        let mut contended = controller(100);
        contended.start(Way::Threads);
        contended.observe(Observation { items: 1, wall: 0.01, busy: 0.001 });
        assert_eq!(
            contended.costs().map(|costs| costs.waiting),
            Some(0.0),
            "it waited for the lock, as far as is known"
        );
    }
}
