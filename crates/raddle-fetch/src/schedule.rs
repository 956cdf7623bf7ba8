//! Which request goes next: a queue for each host, the least busy host first, in the order of the input.
//!
//! It does no input or output and asks no clock, so that each of its decisions can be tested. Invariants: never more than
//! `concurrency` requests run, never more than `per_host` to one host, and two starts at one host are `gap` apart.
//! A host is in `ready` if and only if it may start its first request now.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A host's place in the table.
pub(crate) type HostId = usize;

struct Host<T> {
    name: Box<str>,
    queue: VecDeque<(u64, T)>,
    running: usize,
    /// Jobs that come back to this host later.
    expected: usize,
    /// No start before this moment.
    free_at: Option<Instant>,
    /// Since it has asked for patience: so many requests at a time, one more with each that is answered.
    trusted: usize,
    /// Its entry in `ready`.
    listed: Option<(usize, u64)>,
}

/// What happens at a moment to come.
enum Event<T> {
    /// The host may start again.
    Free,
    /// The job comes back.
    Back(u64, T),
}

struct Later<T> {
    at: Instant,
    order: u64,
    host: HostId,
    event: Event<T>,
}

/// The queues and limits of one batch.
pub(crate) struct Schedule<T> {
    concurrency: usize,
    per_host: usize,
    gap: Duration,
    hosts: Vec<Option<Host<T>>>,
    vacant: Vec<HostId>,
    names: HashMap<Box<str>, HostId>,
    /// Those that may start: running requests, the order of the first job, the host.
    ready: BTreeSet<(usize, u64, HostId)>,
    later: BinaryHeap<Reverse<Later<T>>>,
    running: usize,
    unread: usize,
    queued: usize,
    delayed: usize,
    events: u64,
}

impl<T> Schedule<T> {
    pub(crate) fn new(concurrency: usize, per_host: Option<usize>, gap: Duration) -> Self {
        Self {
            concurrency,
            per_host: per_host.unwrap_or(usize::MAX),
            gap,
            hosts: Vec::new(),
            vacant: Vec::new(),
            names: HashMap::new(),
            ready: BTreeSet::new(),
            later: BinaryHeap::new(),
            running: 0,
            unread: 0,
            queued: 0,
            delayed: 0,
            events: 0,
        }
    }

    /// Slots that nobody uses.
    pub(crate) fn free_slots(&self) -> usize {
        self.concurrency.saturating_sub(self.running + self.unread)
    }

    /// Jobs that wait, for whatever reason.
    pub(crate) fn waiting(&self) -> usize {
        self.queued + self.delayed
    }

    /// Whether a job could start now, given a slot.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether nothing runs and nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.running == 0 && self.waiting() == 0
    }

    /// Adds a job to a host's queue, in its place by `order`.
    pub(crate) fn push(&mut self, host: &str, order: u64, job: T) {
        let id = self.id(host);
        self.enqueue(id, order, job);
    }

    fn enqueue(&mut self, id: HostId, order: u64, job: T) {
        let Some(host) = self.hosts[id].as_mut() else { return };
        let place = host.queue.iter().rposition(|(other, _)| *other <= order).map_or(0, |i| i + 1);
        host.queue.insert(place, (order, job));
        self.queued += 1;
        self.list(id);
    }

    /// Adds a job that comes into its queue at a moment to come.
    pub(crate) fn push_later(&mut self, host: &str, order: u64, job: T, at: Instant) {
        let id = self.id(host);
        if let Some(host) = self.hosts[id].as_mut() {
            host.expected += 1;
        }
        self.delayed += 1;
        self.schedule(at, id, Event::Back(order, job));
    }

    /// Lets no request to a host start before `until`, and then one at a time, and one more with each [`Schedule::relax`]: all
    /// that were refused would else come back together, and be refused again.
    pub(crate) fn pause(&mut self, id: HostId, until: Instant) {
        let Some(host) = self.hosts[id].as_mut() else { return };
        host.trusted = 1;
        if host.free_at.is_none_or(|at| at < until) {
            host.free_at = Some(until);
            self.list(id);
            self.schedule(until, id, Event::Free);
        }
    }

    /// Notes that a host answers as usual.
    pub(crate) fn relax(&mut self, id: HostId) {
        if let Some(host) = self.hosts[id].as_mut().filter(|host| host.trusted < usize::MAX) {
            host.trusted = if host.trusted < self.concurrency { host.trusted + 1 } else { usize::MAX };
            self.list(id);
        }
    }

    /// Says how many outcomes nobody has read: they take the places of requests.
    pub(crate) fn hold(&mut self, unread: usize) {
        self.unread = unread;
    }

    /// The next job to start, if there is a slot and a host that may.
    pub(crate) fn start(&mut self, now: Instant) -> Option<(HostId, T)> {
        self.settle(now);
        if self.free_slots() == 0 {
            return None;
        }
        let (_, _, id) = self.ready.pop_first()?;
        let host = self.hosts[id].as_mut()?;
        host.listed = None;
        let (_, job) = host.queue.pop_front()?;
        host.running += 1;
        self.queued -= 1;
        self.running += 1;
        if self.gap > Duration::ZERO {
            host.free_at = Some(now + self.gap);
            self.schedule(now + self.gap, id, Event::Free);
        }
        self.list(id);
        Some((id, job))
    }

    /// Notes that a job that was started has ended.
    pub(crate) fn finish(&mut self, id: HostId) {
        self.running -= 1;
        if let Some(host) = self.hosts[id].as_mut() {
            host.running -= 1;
        }
        self.list(id);
        self.drop_if_idle(id);
    }

    /// When something changes by itself.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        self.later.peek().map(|Reverse(later)| later.at)
    }

    /// Brings the table up to date.
    fn settle(&mut self, now: Instant) {
        while self.later.peek().is_some_and(|Reverse(later)| later.at <= now) {
            let Some(Reverse(later)) = self.later.pop() else { return };
            let Some(host) = self.hosts[later.host].as_mut() else { continue };
            host.expected -= 1;
            match later.event {
                Event::Free => {
                    if host.free_at.is_some_and(|at| at <= now) {
                        host.free_at = None;
                    }
                    self.list(later.host);
                    self.drop_if_idle(later.host);
                }
                Event::Back(order, job) => {
                    self.delayed -= 1;
                    self.enqueue(later.host, order, job);
                }
            }
        }
    }

    fn schedule(&mut self, at: Instant, host: HostId, event: Event<T>) {
        if let (Event::Free, Some(entry)) = (&event, self.hosts[host].as_mut()) {
            entry.expected += 1; // the host must live until then
        }
        self.events += 1;
        self.later.push(Reverse(Later { at, order: self.events, host, event }));
    }

    fn id(&mut self, name: &str) -> HostId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let host = Host {
            name: name.into(),
            queue: VecDeque::new(),
            running: 0,
            expected: 0,
            free_at: None,
            trusted: usize::MAX,
            listed: None,
        };
        let id = self.vacant.pop().unwrap_or(self.hosts.len());
        if id == self.hosts.len() {
            self.hosts.push(Some(host));
        } else {
            self.hosts[id] = Some(host);
        }
        self.names.insert(name.into(), id);
        id
    }

    /// Puts a host into `ready`, or out of it, as its state is.
    fn list(&mut self, id: HostId) {
        let Some(host) = self.hosts[id].as_mut() else { return };
        let may_start = host.running < self.per_host.min(host.trusted) && host.free_at.is_none();
        let wanted = host.queue.front().filter(|_| may_start).map(|(order, _)| (host.running, *order));
        if host.listed == wanted {
            return;
        }
        if let Some((running, order)) = host.listed {
            self.ready.remove(&(running, order, id));
        }
        if let Some((running, order)) = wanted {
            self.ready.insert((running, order, id));
        }
        host.listed = wanted;
    }

    /// Forgets a host that has nothing left: a batch may meet millions.
    fn drop_if_idle(&mut self, id: HostId) {
        let idle = |host: &Host<T>| host.running == 0 && host.expected == 0 && host.queue.is_empty();
        if let Some(host) = self.hosts[id].take_if(|host| idle(host)) {
            self.names.remove(&host.name);
            self.vacant.push(id);
        }
    }
}

impl<T> PartialEq for Later<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<T> Eq for Later<T> {}

impl<T> PartialOrd for Later<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Later<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;

    const NO_GAP: Duration = Duration::ZERO;

    fn starts<T>(schedule: &mut Schedule<T>, now: Instant) -> Vec<T> {
        std::iter::from_fn(|| schedule.start(now).map(|(_, job)| job)).collect()
    }

    #[test]
    fn one_host_goes_in_the_order_of_the_input() {
        let mut schedule = Schedule::new(10, None, NO_GAP);
        for order in [1, 0, 2] {
            schedule.push("a", order, order);
        }
        assert_eq!(starts(&mut schedule, Instant::now()), [0, 1, 2]);
    }

    #[test]
    fn concurrency_is_never_exceeded_and_a_slot_is_used_again() {
        let mut schedule = Schedule::new(2, None, NO_GAP);
        for order in 0..5 {
            schedule.push("a", order, order);
        }
        let now = Instant::now();
        let (host, first) = schedule.start(now).unwrap();
        assert_eq!((first, starts(&mut schedule, now)), (0, vec![1]));
        schedule.finish(host);
        assert_eq!(starts(&mut schedule, now), [2]);
    }

    #[test]
    fn a_host_at_its_limit_does_not_hold_up_the_others() {
        let mut schedule = Schedule::new(10, Some(2), NO_GAP);
        for order in 0..5 {
            schedule.push("slow", order, ("slow", order));
        }
        schedule.push("fast", 5, ("fast", 5));
        assert_eq!(starts(&mut schedule, Instant::now()), [("slow", 0), ("fast", 5), ("slow", 1)]);
        assert!(!schedule.has_ready());
        assert_eq!(schedule.waiting(), 3);
    }

    #[test]
    fn a_slow_host_without_a_limit_leaves_the_others_their_share() {
        let mut schedule = Schedule::new(4, None, NO_GAP);
        for order in 0..8 {
            schedule.push("slow", order, "slow");
            schedule.push("fast", 8 + order, "fast");
        }
        let now = Instant::now();
        let mut running = Vec::new();
        while let Some(started) = schedule.start(now) {
            running.push(started);
        }
        // Every fast one ends, no slow one does: the share of the slow host must not grow.
        for _ in 0..6 {
            let done = running.iter().position(|(_, job)| *job == "fast").unwrap();
            schedule.finish(running.remove(done).0);
            running.extend(schedule.start(now));
        }
        assert_eq!(running.iter().filter(|(_, job)| *job == "slow").count(), 2);
    }

    #[test]
    fn a_rate_spaces_the_starts_of_each_host() {
        let gap = Duration::from_millis(100);
        let mut schedule = Schedule::new(10, None, gap);
        for order in 0..3 {
            schedule.push("a", order, ("a", order));
            schedule.push("b", order, ("b", order));
        }
        let now = Instant::now();
        assert_eq!(starts(&mut schedule, now), [("a", 0), ("b", 0)]);
        assert_eq!(schedule.next_event(), Some(now + gap));
        assert_eq!(starts(&mut schedule, now + gap / 2), []);
        assert_eq!(starts(&mut schedule, now + gap), [("a", 1), ("b", 1)]);
    }

    #[test]
    fn a_job_that_comes_back_later_waits_for_its_moment_without_a_slot() {
        let mut schedule = Schedule::new(1, None, NO_GAP);
        let now = Instant::now();
        let at = now + Duration::from_secs(1);
        schedule.push_later("a", 0, "retried", at);
        schedule.push("a", 1, "next");
        let (host, job) = schedule.start(now).unwrap();
        assert_eq!(job, "next");
        schedule.finish(host);
        assert!(schedule.start(now).is_none() && !schedule.is_empty());
        assert_eq!(starts(&mut schedule, at), ["retried"]);
    }

    #[test]
    fn a_paused_host_starts_nothing_until_its_moment() {
        let mut schedule = Schedule::new(5, None, NO_GAP);
        let now = Instant::now();
        schedule.push("a", 0, 0);
        let (host, _) = schedule.start(now).unwrap();
        schedule.push("a", 1, 1);
        schedule.pause(host, now + Duration::from_secs(2));
        schedule.pause(host, now + Duration::from_secs(1));
        assert_eq!(starts(&mut schedule, now + Duration::from_secs(1)), []);
        assert_eq!(starts(&mut schedule, now + Duration::from_secs(2)), []);
        schedule.finish(host);
        assert_eq!(starts(&mut schedule, now + Duration::from_secs(2)), [1]);
    }

    #[test]
    fn a_host_that_asked_for_patience_gets_one_more_with_each_answer() {
        let mut schedule = Schedule::new(5, None, NO_GAP);
        let now = Instant::now();
        schedule.push("a", 0, 0);
        let (host, _) = schedule.start(now).unwrap();
        schedule.pause(host, now + Duration::from_secs(1));
        for order in 1..20 {
            schedule.push("a", order, order);
        }
        schedule.finish(host);
        let later = now + Duration::from_secs(1);
        let mut started = Vec::new();
        for _ in 0..6 {
            started.push(starts(&mut schedule, later).len());
            schedule.relax(host);
            schedule.finish(host);
        }
        // One in place of that which ended, and one more; five is the concurrency.
        assert_eq!(started, [1, 2, 2, 2, 2, 1]);
    }

    #[test]
    fn outcomes_that_nobody_reads_take_the_places_of_requests() {
        let mut schedule = Schedule::new(3, None, NO_GAP);
        for order in 0..4 {
            schedule.push("a", order, order);
        }
        schedule.hold(2);
        assert_eq!(starts(&mut schedule, Instant::now()), [0]);
        schedule.hold(0);
        assert_eq!(starts(&mut schedule, Instant::now()), [1, 2]);
    }

    #[test]
    fn hosts_that_are_done_leave_nothing_behind() {
        let mut schedule = Schedule::new(5, None, Duration::from_millis(1));
        let mut now = Instant::now();
        for order in 0..100 {
            schedule.push(&format!("host {order}"), order, ());
            let (host, ()) = schedule.start(now).unwrap();
            schedule.finish(host);
            now += Duration::from_millis(2);
        }
        assert!(schedule.start(now).is_none());
        assert!(schedule.names.is_empty() && schedule.later.is_empty() && schedule.is_empty());
        assert!(schedule.hosts.len() < 5);
    }
}
