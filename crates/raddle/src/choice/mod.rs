//! Threads, processes, or a plain loop: the choice of a map, made from measurements while it runs.
//!
//! [`Costs`] are what an item was seen to take, [`Machine`] what the machine asks for a worker and a task; [`Outlook::plan`]
//! says from both what a way would take. A [`Controller`] gathers the measurements, asks the model, and changes its mind
//! when the work changes. Nothing here runs, starts or measures anything: whoever maps does, and tells.
//!
//! Invariant: a way that has been forbidden is never chosen again.

mod advice;
mod controller;
mod model;
mod recent;
#[cfg(not(loom))]
mod watch;

pub use advice::{duration_text, sentence, worthwhile};
pub use controller::{Controller, Decision, Move, Observation};
pub use model::{Costs, Machine, Outlook, Plan, Way};
#[cfg(not(loom))]
pub use watch::{Calls, Stuck, Watch, Watched};
