//! Names to addresses, by the system's own resolver.
//!
//! Invariant: a name is looked up once at a time, however many requests wait for it, so that one slow name can hold one
//! thread of the few that there are, and no more.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::Shared;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// How long an answer is kept. The system's resolver does not tell the record's own time: a guess that saves the
/// lookups of a batch and follows a change soon.
const KEPT: Duration = Duration::from_secs(10);

type Addresses = Result<Arc<[SocketAddr]>, LookupFailed>;
type Answer = Pin<Box<dyn Future<Output = Addresses> + Send>>;

/// Why a name has no address, in the system's words.
#[derive(Clone, Debug)]
pub(crate) struct LookupFailed {
    pub(crate) text: Arc<str>,
}

impl std::fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for LookupFailed {}

/// The resolver of one client.
#[derive(Clone, Default)]
pub(crate) struct Resolver {
    known: Arc<Mutex<HashMap<Box<str>, Entry>>>,
}

struct Entry {
    asked: Instant,
    answer: Shared<Answer>,
}

impl Resolver {
    fn answer(&self, name: &str) -> Shared<Answer> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, entry| entry.is_of_use());
        if let Some(entry) = known.get(name) {
            return entry.answer.clone();
        }
        let answer = look_up(name.to_owned()).shared();
        known.insert(name.into(), Entry { asked: Instant::now(), answer: answer.clone() });
        answer
    }
}

impl Entry {
    /// A failed lookup is not kept, and one that is under way is joined for as long as it takes.
    fn is_of_use(&self) -> bool {
        match self.answer.peek() {
            None => true,
            Some(answer) => answer.is_ok() && self.asked.elapsed() < KEPT,
        }
    }
}

/// Asks the system on one of the runtime's threads for blocking calls.
fn look_up(name: String) -> Answer {
    let failed = |text: String| LookupFailed { text: text.into() };
    if let Some(reserved) = reserved(&name) {
        return Box::pin(std::future::ready(reserved.map_err(failed)));
    }
    Box::pin(async move {
        let looked = tokio::task::spawn_blocking(move || (name.as_str(), 0).to_socket_addrs()).await;
        match looked {
            Ok(Ok(found)) => Ok(found.collect()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("the lookup was ended".into())),
        }
    })
}

/// Names that no server is asked for (RFC 6761): those under `localhost` are this machine, those under `invalid` nothing.
fn reserved(name: &str) -> Option<Result<Arc<[SocketAddr]>, String>> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name.ends_with(".localhost") {
        let both = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        return Some(Ok(both.into_iter().map(|address| SocketAddr::new(address, 0)).collect()));
    }
    let is_nothing = name == "invalid" || name.ends_with(".invalid");
    is_nothing.then(|| Err("names under 'invalid' are reserved for those that do not exist".into()))
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = LookupFailed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, LookupFailed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupFailed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let answer = self.answer(name.as_str());
        Box::pin(async move { answer.await.map(|found| Vec::from(&*found).into_iter()) })
    }
}
