//! A task that runs in a worker process.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::link::Reply;
use super::remote::{Ending, Parcel, Remote};
use crate::error::Failure;
use crate::events::Name;
use crate::future::{Cancel, Notices};
use crate::task::{CAME, Job, Options, Task, WAITING, WITHDRAWN};

/// What a task in a worker process runs, seen from the program.
pub trait SendJob: Job {
    /// Makes what is to be sent, if it was not made when the task was submitted; it may run code of a user's.
    ///
    /// # Errors
    /// What the task ends with instead.
    fn encode(&mut self) -> Result<Parcel, Self::Outcome>;

    /// What a reply means.
    fn outcome(reply: Reply) -> Self::Outcome;

    /// Whether a reply of this kind is an error.
    fn is_failure(kind: u16) -> bool;

    /// What a reply that is an error says, in a line, for those who listen to [events](crate::events).
    fn describe(reply: &Reply) -> Option<Arc<str>> {
        let _ = reply;
        None
    }
}

impl<J: SendJob> Task<J> {
    /// Puts the job back, unless the task has been cancelled meanwhile: then it holds nothing any more.
    fn arm_again(&self, job: J) {
        self.arm(job, None);
        // Looked up afterwards: whoever cancels it later finds the job there.
        if self.is_over(0) {
            drop(self.take_job());
        }
    }

    fn outcome_of(ending: Ending) -> J::Outcome {
        match ending {
            Ending::Reply(reply) => J::outcome(reply),
            Ending::Failed(failure) => failure.into(),
            Ending::Cancelled => Failure::Broken { reason: "it was cancelled".into() }.into(),
        }
    }
}

impl<J: SendJob> Remote for Task<J> {
    fn accept(&self, executor: u64, number: u64) {
        self.note_accepted(executor, number);
    }

    fn options(&self) -> Option<&Arc<Options>> {
        self.options_given()
    }

    fn encode(&self, _index: usize) -> Result<Parcel, Notices> {
        let Some(mut job) = self.take_job() else { return Ok(Parcel::default()) };
        let encoded = job.encode();
        match encoded {
            Ok(parcel) => {
                // It is asked whether to try again.
                self.arm_again(job);
                Ok(parcel)
            }
            Err(outcome) => {
                drop(job);
                Err(self.cell.finish(outcome).unwrap_or_default())
            }
        }
    }

    fn is_over(&self, _index: usize) -> bool {
        self.claim.load(Relaxed) == WITHDRAWN || self.cell.state().is_done()
    }

    fn came(&self, _index: usize) {
        self.claim.store(CAME, Relaxed);
    }

    fn waits_again(&self, _index: usize) {
        self.claim.store(WAITING, Relaxed);
    }

    fn cancel(&self, _index: usize) -> Option<Notices> {
        drop(self.take_job());
        match self.cell.cancel(true) {
            Cancel::Now(notices) => Some(notices),
            Cancel::Already | Cancel::Refused => None,
        }
    }

    fn wants_retry(&self, _index: usize, ending: &Ending) -> bool {
        let Some(mut job) = self.take_job() else { return false };
        let outcome = Self::outcome_of(ending.clone());
        let wants_more = job.wants_retry(&outcome);
        drop(outcome);
        self.arm_again(job);
        wants_more
    }

    fn end(&self, _index: usize, ending: Ending) -> Notices {
        drop(self.take_job());
        self.cell.finish(Self::outcome_of(ending)).unwrap_or_default()
    }

    fn name(&self) -> Option<Name> {
        Self::name(self)
    }

    fn describe(&self, ending: &Ending) -> Option<Arc<str>> {
        if let Ending::Reply(reply) = ending { J::describe(reply) } else { None }
    }

    fn is_failure(&self, ending: &Ending) -> bool {
        match ending {
            Ending::Reply(reply) => J::is_failure(reply.kind),
            Ending::Failed(_) | Ending::Cancelled => true,
        }
    }
}
