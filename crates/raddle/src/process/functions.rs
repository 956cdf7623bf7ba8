//! Functions that a Rust program's worker processes run: what is sent of a call, and what comes back.
//!
//! A call is the name of its function, with its length before it, and the arguments in postcard's form.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bytes::Bytes;
use super::link::Reply;
use crate::error::TaskError;
use crate::executor::run_caught;

const RETURNED: u16 = 0;
const PANICKED: u16 = 1;
/// The call could not be read, or the result not be written.
const UNREADABLE: u16 = 2;

/// A function that worker processes can run: a name, and what it does.
///
/// Program and workers are one executable, so both know it by its name. It is a plain function or a closure that captures
/// nothing; several arguments are a tuple.
///
/// ```
/// use raddle::process::Function;
///
/// static POWER: Function<(u64, u32), u64> = Function::new("power", |(base, exponent)| base.pow(exponent));
/// assert_eq!(POWER.name(), "power");
/// ```
#[derive(Debug)]
pub struct Function<A, R> {
    name: &'static str,
    call: fn(A) -> R,
}

impl<A, R> Function<A, R> {
    /// A function of this name, which no other of the program has.
    pub const fn new(name: &'static str, call: fn(A) -> R) -> Self {
        Self { name, call }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// A [`Function`] of any arguments and result.
pub trait Registered: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Runs it in a worker, and appends the result to `reply`. Gives the kind of the reply.
    fn run(&self, arguments: &[u8], reply: &mut Vec<u8>) -> u16;
}

impl<A: DeserializeOwned, R: Serialize> Registered for Function<A, R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, arguments: &[u8], reply: &mut Vec<u8>) -> u16 {
        let arguments: A = match postcard::from_bytes(arguments) {
            Ok(arguments) => arguments,
            Err(error) => return refuse(reply, format!("the arguments of {}: {error}", self.name)),
        };
        match run_caught(|| (self.call)(arguments)) {
            Ok(result) => match postcard::to_extend(&result, std::mem::take(reply)) {
                Ok(written) => {
                    *reply = written;
                    RETURNED
                }
                Err(error) => refuse(reply, format!("the result of {}: {error}", self.name)),
            },
            Err(TaskError::Panicked(message)) => {
                reply.extend(message.into_bytes());
                PANICKED
            }
            Err(other) => refuse(reply, other.to_string()),
        }
    }
}

fn refuse(reply: &mut Vec<u8>, why: String) -> u16 {
    *reply = why.into_bytes();
    UNREADABLE
}

/// The program's functions, by their names.
static FUNCTIONS: OnceLock<HashMap<&'static str, &'static dyn Registered>> = OnceLock::new();

/// Keeps the functions of the program.
///
/// # Panics
/// Two of them have one name, or there are some already.
pub(super) fn register(functions: &[&'static dyn Registered]) {
    let by_name: HashMap<_, _> = functions.iter().map(|function| (function.name(), *function)).collect();
    assert_eq!(by_name.len(), functions.len(), "each registered function has a name of its own");
    assert!(FUNCTIONS.set(by_name).is_ok(), "functions are registered once, at the start of main");
}

pub(super) fn are_registered() -> bool {
    FUNCTIONS.get().is_some()
}

pub(super) fn is_registered(name: &str) -> bool {
    FUNCTIONS.get().is_some_and(|functions| functions.contains_key(name))
}

/// What is sent for a call.
pub(super) fn encode<A: Serialize>(name: &'static str, arguments: &A) -> Result<Bytes, String> {
    let length = u32::try_from(name.len()).map_err(|_| "its name is too long".to_owned())?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    postcard::to_extend(arguments, bytes).map(Bytes::from).map_err(|error| error.to_string())
}

/// Runs a call in a worker.
pub(super) fn run(call: &[u8], reply: &mut Vec<u8>) -> u16 {
    let parts = call.split_first_chunk::<4>().and_then(|(length, rest)| {
        let (name, arguments) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some((std::str::from_utf8(name).ok()?, arguments))
    });
    let Some((name, arguments)) = parts else { return refuse(reply, "the call is damaged".into()) };
    match FUNCTIONS.get().and_then(|functions| functions.get(name)) {
        Some(function) => function.run(arguments, reply),
        None => refuse(reply, format!("this program has no function {name:?}")),
    }
}

/// What a reply means.
pub(super) fn outcome<R: DeserializeOwned>(reply: &Reply) -> Result<R, TaskError> {
    match reply.kind {
        RETURNED => postcard::from_bytes(&reply.payload)
            .map_err(|error| TaskError::Unreadable(format!("the result of the task: {error}"))),
        PANICKED => Err(TaskError::Panicked(String::from_utf8_lossy(&reply.payload).into_owned())),
        _ => Err(TaskError::Unreadable(String::from_utf8_lossy(&reply.payload).into_owned())),
    }
}

pub(super) fn is_failure(kind: u16) -> bool {
    kind != RETURNED
}

#[cfg(test)]
mod tests {
    use super::*;

    static HALF: Function<u32, u32> = Function::new("half", |number| {
        assert!(number % 2 == 0, "{number} is odd");
        number / 2
    });

    fn call(arguments: &[u8]) -> Result<u32, TaskError> {
        let mut payload = Vec::new();
        let kind = HALF.run(arguments, &mut payload);
        outcome(&Reply { kind, payload: payload.into() })
    }

    #[test]
    fn a_call_gives_its_result_or_says_what_is_wrong() {
        assert_eq!(call(&[12]), Ok(6));
        assert_eq!(call(&[7]), Err(TaskError::Panicked("7 is odd".into())));
        assert!(matches!(call(&[0xff]), Err(TaskError::Unreadable(why)) if why.contains("arguments of half")));
    }

    #[test]
    fn damaged_calls_are_refused() {
        for bytes in [&b""[..], b"\x01\0\0", b"\xff\xff\xff\xff", b"\x01\0\0\0\xff", b"\x04\0\0\0nope"] {
            let mut reply = Vec::new();
            assert_eq!(run(bytes, &mut reply), UNREADABLE);
        }
    }
}
