//! One worker process at the end of a link: tasks, definitions, taking back, large records, and its death.
#![cfg(not(loom))]

use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use raddle::process::link::{ANNOUNCEMENT, Link, Received, Reply, TakenBack};
use raddle::process::mapping::Mapping;
use raddle::process::notes::Notes;
use raddle::process::seat::{PLACES, words_for};
use raddle::process::worker::{Handler, end_with, serve};

const PEER: &str = "RADDLE_WORKER_PEER";

/// What the worker of these tests does, by the first byte of a task.
#[derive(Default)]
struct Servant {
    defined: HashMap<u64, Vec<u8>>,
    notes: Option<Notes>,
    /// Whether the announcement was there at the start.
    is_told: bool,
}

const REVERSE: u8 = 0;
const BLOCK: u8 = 1;
const EXIT: u8 = 2;
const RECALL: u8 = 3;
/// Tells so many notes, with two threads, and is killed if it shall be.
const TELL: u8 = 4;
const TELL_THREE: u8 = 5;

impl Handler for Servant {
    fn connect(&mut self, notes: Notes) {
        self.notes = Some(notes);
    }

    fn start(&mut self) -> Result<(), String> {
        self.is_told = self.defined.contains_key(&ANNOUNCEMENT);
        Ok(())
    }

    fn define(&mut self, number: u64, bytes: Vec<u8>) {
        self.defined.insert(number, bytes);
    }

    fn forget(&mut self, number: u64) {
        self.defined.remove(&number);
    }

    fn run(&mut self, task: Vec<u8>, reply: &mut Vec<u8>) -> u16 {
        match task[0] {
            REVERSE => {
                reply.extend(task[1..].iter().rev());
                REVERSE.into()
            }
            BLOCK => loop {
                std::thread::park();
            },
            EXIT => std::process::exit(3),
            TELL => {
                let notes = self.notes.as_ref().expect("it was connected before");
                tell(notes, u64::from(task[1]) * 100, task[2] == 1);
                u16::from(self.is_told)
            }
            TELL_THREE => {
                let notes = self.notes.as_ref().expect("it was connected before");
                let told = [1_u64, 2, 3]
                    .iter()
                    .all(|number| notes.tell(&number.to_le_bytes(), || unreachable!("nobody sleeps elsewhere here")));
                u16::from(told)
            }
            RECALL => match self.defined.get(&u64::from(task[1])) {
                Some(bytes) => {
                    reply.extend_from_slice(bytes);
                    1
                }
                None => 0,
            },
            other => unreachable!("no test sends {other}"),
        }
    }

    fn ring_elsewhere(&mut self) {
        unreachable!("nobody sleeps elsewhere here");
    }
}

/// Tells numbers from two threads, some of them longer than a ring, and ends this process at once if it is to.
fn tell(notes: &Notes, count: u64, is_killed: bool) {
    let one = |thread: u64| {
        for number in 0..count {
            let mut note = (thread << 32 | number).to_le_bytes().to_vec();
            note.resize(if number == 7 { 600_000 } else { 8 + number as usize % 40 }, 0);
            assert!(notes.tell(&note, || unreachable!("nobody sleeps elsewhere here")));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| one(1));
        one(0);
    });
    if is_killed {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("it is itself");
    }
}

struct Worker {
    process: Child,
    /// Keeps the number of each task.
    link: Link<u64>,
    /// As long as the link.
    _mapping: Mapping,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Worker {
    /// Starts this test once more, as the worker. `None`: this is the worker, and it has served.
    fn start(test: &str) -> Option<Self> {
        Self::start_with(test, |_| {})
    }

    /// As [`start`](Self::start); before the worker starts, `prepare` is called.
    fn start_with(test: &str, prepare: impl FnOnce(&mut Link<u64>)) -> Option<Self> {
        if let Ok(descriptor) = std::env::var(PEER) {
            // SAFETY: the parent has left this descriptor open for this process, and nobody else here uses it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor.parse().expect("the parent gives a number")) };
            let mapping = Mapping::open(descriptor, words_for(1)).expect("it is the parent's memory");
            end_with(std::os::unix::process::parent_id()).expect("the parent is there");
            serve(&mapping, 0, &mut Servant::default()).expect("the parent keeps the rules");
            return None;
        }
        let mapping = Mapping::new(words_for(1)).expect("the system gives memory");
        let inherited = rustix::io::dup(mapping.descriptor()).expect("the system copies a descriptor");
        let mut link = Link::new(&mapping, 0);
        prepare(&mut link);
        let process = Command::new(std::env::current_exe().expect("a test knows its own program"))
            .args([test, "--exact", "--nocapture"])
            .env(PEER, inherited.as_raw_fd().to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("a test can start its own program");
        Some(Self { process, link, _mapping: mapping })
    }

    fn send(&mut self, task: u64, operation: u8, argument: &[u8]) {
        let bytes: Vec<u8> = [&[operation], argument].concat();
        self.link.send(task, bytes.into(), task).expect("the worker keeps the rules");
        self.link.ring();
    }

    /// Waits for one reply.
    fn receive(&mut self) -> (u64, Reply) {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            match self.link.receive().expect("the worker keeps the rules") {
                Some(Received::Reply(task, reply)) => return (task, reply),
                Some(Received::Ready) | None => {}
                Some(Received::Note(..) | Received::Early(..)) => panic!("this worker tells nothing"),
                Some(Received::Unfit(reason)) => panic!("the worker is fit, not {reason:?}"),
                Some(Received::Keeps(place) | Received::Drops(place) | Received::Emptied(place)) => {
                    panic!("it was sent nothing at {place}")
                }
            }
            self.link.pump().expect("the worker keeps the rules");
            self.link.ring();
            std::thread::yield_now();
        }
        panic!("the worker does not answer");
    }

    fn wait_begun(&self, task: u64) {
        while self.link.running().is_none_or(|(running, _)| *running != task) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn tasks_are_answered_in_order_whatever_their_size() {
    let Some(mut worker) = Worker::start("tasks_are_answered_in_order_whatever_their_size") else { return };
    for task in 0..2_000_u64 {
        // Every hundredth is several times as long as a ring.
        let size = if task % 100 == 50 { 300_000 } else { task as usize % 50 };
        let argument: Vec<u8> = (0..size).map(|i| (i as u64 + task) as u8).collect();
        worker.send(task, REVERSE, &argument);
        let mut payload = argument;
        payload.reverse();
        assert_eq!(worker.receive(), (task, Reply { kind: REVERSE.into(), payload: payload.into() }));
    }
}

#[test]
fn many_tasks_can_be_on_the_way() {
    let Some(mut worker) = Worker::start("many_tasks_can_be_on_the_way") else { return };
    let (mut sent, mut received) = (0, 0);
    while received < 20_000 {
        while sent < 20_000 && worker.link.has_room() {
            worker.send(sent, REVERSE, &sent.to_le_bytes());
            sent += 1;
        }
        assert!(worker.link.load() <= PLACES);
        assert_eq!(worker.receive().0, received);
        received += 1;
    }
    assert_eq!(worker.link.load(), 0);
}

#[test]
fn what_was_defined_is_there_until_it_is_forgotten() {
    let Some(mut worker) = Worker::start("what_was_defined_is_there_until_it_is_forgotten") else { return };
    worker.link.define(7, b"a function".to_vec().into()).expect("the worker keeps the rules");
    worker.send(1, RECALL, &[7]);
    assert_eq!(&*worker.receive().1.payload, b"a function");
    worker.link.forget(7).expect("the worker keeps the rules");
    worker.send(2, RECALL, &[7]);
    assert_eq!(worker.receive().1.kind, 0);
}

#[test]
fn a_task_behind_a_running_one_can_be_taken_back() {
    let Some(mut worker) = Worker::start("a_task_behind_a_running_one_can_be_taken_back") else { return };
    worker.send(1, BLOCK, &[]);
    worker.wait_begun(1);
    worker.send(2, REVERSE, &[]);
    worker.send(3, REVERSE, &[0; 500_000]);
    let (running, since) = worker.link.running().expect("it runs");
    assert!(*running == 1 && since.is_some());
    assert_eq!(worker.link.try_take_back(|task| *task == 1), TakenBack::Begun);
    assert_eq!(worker.link.take_back_last(), Some(3));
    assert_eq!(worker.link.try_take_back(|task| *task == 2), TakenBack::Yes(2));
    assert_eq!(worker.link.try_take_back(|task| *task == 2), TakenBack::NotHere);
    assert_eq!(worker.link.sent().collect::<Vec<_>>(), [(&1, true)]);
}

#[test]
fn after_a_death_it_is_known_what_ran() {
    let Some(mut worker) = Worker::start("after_a_death_it_is_known_what_ran") else { return };
    worker.send(1, REVERSE, b"abc");
    worker.send(2, EXIT, &[]);
    worker.send(3, REVERSE, b"abc");
    assert_eq!(worker.process.wait().expect("it is our child").code(), Some(3));
    assert_eq!(worker.receive().0, 1, "what was answered before is there");
    assert_eq!(worker.link.receive(), Ok(None));
    assert_eq!(worker.link.sent().collect::<Vec<_>>(), [(&2, true), (&3, false)]);
}

#[test]
fn a_worker_that_is_stopped_does_what_it_was_sent() {
    let Some(mut worker) = Worker::start("a_worker_that_is_stopped_does_what_it_was_sent") else { return };
    worker.send(1, REVERSE, b"abc");
    worker.link.stop().expect("the worker keeps the rules");
    worker.link.ring();
    assert_eq!(&*worker.receive().1.payload, b"cba");
    assert!(worker.process.wait().expect("it is our child").success());
}

/// Receives until the reply to the task, or the worker's end, has come; gives the notes, each with the task that told it.
fn hear(worker: &mut Worker) -> (Vec<(u64, u64)>, Option<Reply>) {
    let (mut heard, mut has_ended) = (Vec::new(), false);
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        match worker.link.receive().expect("the worker keeps the rules") {
            Some(Received::Note(task, bytes)) => {
                let number = bytes.first_chunk().expect("a number comes first");
                heard.push((task, u64::from_le_bytes(*number)));
            }
            Some(Received::Reply(_, reply)) => return (heard, Some(reply)),
            Some(_) => {}
            None if has_ended => return (heard, None),
            None => {
                has_ended = worker.process.try_wait().expect("it is our child").is_some();
                std::thread::yield_now();
            }
        }
    }
    panic!("the worker does not come to an end");
}

#[test]
fn notes_come_in_order_and_before_the_reply_also_from_a_worker_that_is_killed() {
    let test = "notes_come_in_order_and_before_the_reply_also_from_a_worker_that_is_killed";
    let Some(mut worker) = Worker::start(test) else { return };
    for (task, is_killed) in [(1, 0), (2, 1)] {
        worker.send(task, TELL, &[30, is_killed]);
        let (heard, reply) = hear(&mut worker);
        assert_eq!(reply.is_some(), is_killed == 0);
        assert!(heard.iter().all(|(by, _)| *by == task));
        for thread in [0, 1] {
            let numbers = heard.iter().map(|(_, number)| number).filter(|number| *number >> 32 == thread);
            assert!(numbers.map(|number| number & 0xffff_ffff).eq(0..3_000), "all are there, in their order");
        }
    }
}

#[test]
fn a_reply_that_is_received_early_says_how_far_the_notes_before_it_go() {
    let test = "a_reply_that_is_received_early_says_how_far_the_notes_before_it_go";
    let Some(mut worker) = Worker::start(test) else { return };
    worker.send(1, TELL_THREE, &[]);
    let end = Instant::now() + Duration::from_secs(60);
    let before = loop {
        assert!(Instant::now() < end, "the worker does not answer");
        match worker.link.receive_replies().expect("the worker keeps the rules") {
            Some(Received::Early(task, reply, before)) => {
                assert_eq!((task, reply.kind), (1, 1));
                break before;
            }
            Some(Received::Ready) | None => std::thread::yield_now(),
            Some(other) => panic!("it is early, not {other:?}"),
        }
    };
    assert_eq!(before.task, 1);
    for number in 1_u64..=3 {
        assert!(worker.link.heard() < before.notes, "something is left");
        assert_eq!(worker.link.receive(), Ok(Some(Received::Note(1, number.to_le_bytes().into()))));
    }
    assert_eq!(worker.link.heard(), before.notes);
    assert_eq!(worker.link.receive(), Ok(None));
}

#[test]
fn an_announcement_is_heard_before_the_start() {
    let test = "an_announcement_is_heard_before_the_start";
    let Some(mut worker) = Worker::start_with(test, |link| {
        link.define(ANNOUNCEMENT, b"levels".to_vec().into()).expect("nobody has written yet");
    }) else {
        return;
    };
    worker.send(1, TELL, &[0, 0]);
    assert_eq!(worker.receive().1.kind, 1);
}
