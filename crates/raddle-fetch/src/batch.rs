//! Many requests on the calling thread: items in, outcomes out, in between the event loop.
//!
//! The way of an item: [`Batch::push`] -> schedule -> exchange -> redirect, retry or outcome. Invariant: each item that was
//! pushed comes out of [`Batch::take`] exactly once, unless the batch is dropped.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use cookie_store::{CookieStore, RawCookie};
use futures_util::stream::{FuturesUnordered, Stream};
use http::header::{COOKIE, HeaderValue, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, Method};
use raddle::events::{Fetch, emit_fetch};
use tokio::sync::Notify;
use url::Position;

use crate::client::{Client, origin};
use crate::error::{Error, ErrorKind};
use crate::exchange::{Again, Answer, Beginning, Course, Failed, InMemory, Receiver, exchange};
use crate::job::{self, Job, Purpose};
use crate::options::Options;
use crate::request::Request;
use crate::response::Response;
use crate::retry;
use crate::robots::{self, Rules};
use crate::schedule::{HostId, Schedule};
use crate::session::Session;

/// The longest of all waits before another attempt: a year.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Redirects that a robots.txt is followed over, whatever the call says (RFC 9309).
const ROBOTS_REDIRECTS: usize = 5;
/// Sites whose robots.txt is remembered.
const SITES: usize = 4096;

/// What became of one item.
pub type Outcome = Result<Response, Error>;

/// Why [`Batch::step`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Outcomes are there: see [`Batch::take`].
    Finished,
    /// There are free places, and nothing to do with them: see [`Batch::push`].
    Hungry,
    /// Every item that was pushed has its outcome, and no more will come.
    Done,
    /// The deadline has passed, or the bell was rung.
    Paused,
}

/// For what [`Batch::step`] returns, beside the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eagerness {
    /// For each outcome, and for places that are free.
    EachOutcome,
    /// For places that are free; outcomes may pile up.
    Hungry,
    /// For each outcome; whoever adds items rings the bell.
    OutcomeOnly,
}

struct Done {
    job: Box<Job>,
    host: HostId,
    elapsed: Duration,
    result: Result<Answer, Failed>,
}

#[expect(clippy::vec_box, reason = "a job stays in its box from the first queue to its outcome")]
enum Robots {
    Asked(Vec<Box<Job>>),
    Known(Rules),
}

struct Call {
    options: Options,
    defaults: HeaderMap,
    agent: String,
    jar: Option<Mutex<CookieStore>>,
}

/// Requests under way, driven by whoever calls [`Batch::step`].
///
/// ```no_run
/// use raddle_fetch::{Batch, Eagerness, Options, Request, Step};
///
/// let mut batch = Batch::new(Options::default())?;
/// batch.push(0, Request::new("http://127.0.0.1:8000/"));
/// batch.close();
/// while batch.step(None, Eagerness::EachOutcome, None) != Step::Done {
///     for (index, outcome) in batch.take() {
///         println!("{index}: {outcome:?}");
///     }
/// }
/// # Ok::<(), raddle_fetch::Error>(())
/// ```
pub struct Batch {
    session: Option<Session>,
    call: Arc<Call>,
    schedule: Schedule<Box<Job>>,
    running: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    finished: VecDeque<(u64, Outcome)>,
    robots: HashMap<Box<str>, Robots>,
    /// Outcomes that were taken and not read, if they are to take the places of requests.
    unread: Option<usize>,
    /// Jobs that wait for a robots.txt.
    asking: usize,
    is_closed: bool,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("running", &self.running.len())
            .field("waiting", &self.schedule.waiting())
            .field("finished", &self.finished.len())
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// A batch without items.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for options that cannot be met; [`ErrorKind::System`] where an event loop cannot be had.
    pub fn new(options: Options) -> Result<Self, Error> {
        let invalid = |detail: String| Error::new(ErrorKind::InvalidRequest, "", detail);
        // What a server asks for is added to the clock, which ends somewhere.
        let options = Options { longest_wait: options.longest_wait.min(LONGEST_WAIT), ..options };
        let defaults = job::defaults(&options).map_err(invalid)?;
        let gap = match options.rate {
            None => Duration::ZERO,
            Some(rate) if rate > 0.0 => Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX),
            Some(rate) => return Err(invalid(format!("rate= is requests a second: more than 0, not {rate}"))),
        };
        let session = Session::take(&options.client)?;
        session.client().pool.expect(options.concurrency);
        let agent = defaults.get(USER_AGENT).and_then(|value| value.to_str().ok()).map(robots::product);
        Ok(Self {
            session: Some(session),
            schedule: Schedule::new(
                options.concurrency.max(1),
                options.per_host,
                gap.min(Duration::from_secs(1 << 32)),
            ),
            running: FuturesUnordered::new(),
            finished: VecDeque::new(),
            robots: HashMap::new(),
            unread: None,
            asking: 0,
            is_closed: false,
            call: Arc::new(Call {
                jar: options.cookies.then(|| Mutex::new(CookieStore::default())),
                agent: agent.filter(|agent| !agent.is_empty()).unwrap_or_else(|| robots::AGENT.into()),
                defaults,
                options,
            }),
        })
    }

    /// Adds an item whose body goes elsewhere.
    pub(crate) fn push_to(&mut self, index: u64, item: Result<Request, Error>, receiver: Box<dyn Receiver>) {
        match item {
            Ok(request) => {
                let mut job = Box::new(Job::new(index, request, &self.call.options));
                job.receiver = receiver;
                self.submit(job);
            }
            Err(error) => self.finished.push_back((index, Err(error))),
        }
    }

    /// Adds an item. Its outcome comes with the same index; lower ones go first.
    pub fn push(&mut self, index: u64, item: Result<Request, Error>) {
        let receiver = InMemory(self.call.options.max_bytes);
        self.push_to(index, item, Box::new(receiver));
    }

    /// Says that no more items will come.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Requests that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.schedule.waiting() + self.asking
    }

    /// Says how many outcomes that were taken nobody has read: they take the places of requests, so that nothing is fetched
    /// far ahead of its reader.
    pub fn hold(&mut self, unread: usize) {
        self.unread = Some(unread);
    }

    /// Requests that are under way.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Places that are free while nothing waits that could have them.
    pub fn vacancies(&self) -> usize {
        if self.schedule.has_ready() { 0 } else { self.schedule.free_slots() }
    }

    /// The outcomes since the last time, in the order in which they came.
    pub fn take(&mut self) -> impl Iterator<Item = (u64, Outcome)> + '_ {
        self.finished.drain(..)
    }

    /// Works until there is something to tell, until `until`, or until `bell` is rung.
    pub fn step(&mut self, until: Option<Instant>, eagerness: Eagerness, bell: Option<&Notify>) -> Step {
        let Some(session) = self.session.take() else { return Step::Done };
        let step = session.drive(self.work(session.client(), until, eagerness, bell));
        self.session = Some(session);
        step
    }

    async fn work(
        &mut self,
        client: &Arc<Client>,
        until: Option<Instant>,
        eagerness: Eagerness,
        bell: Option<&Notify>,
    ) -> Step {
        loop {
            if let Some(unread) = self.unread {
                self.schedule.hold(unread + self.finished.len());
            }
            self.start(client);
            if let Some(step) = self.news(eagerness) {
                return step;
            }
            let wake = self.schedule.next_event().filter(|_| self.schedule.free_slots() > 0);
            let limit = until.into_iter().chain(wake).min();
            match self.wait(limit, bell).await {
                Woken::Done(done) => self.conclude(done),
                Woken::Bell => return Step::Paused,
                Woken::Time if until.is_some_and(|at| at <= Instant::now()) => return Step::Paused,
                Woken::Time => {}
            }
        }
    }

    fn start(&mut self, client: &Arc<Client>) {
        if self.schedule.free_slots() == 0 || self.schedule.waiting() == 0 {
            return;
        }
        let now = Instant::now();
        while let Some((host, job)) = self.schedule.start(now) {
            self.running.push(Box::pin(run(Arc::clone(client), Arc::clone(&self.call), host, job)));
        }
    }

    fn news(&self, eagerness: Eagerness) -> Option<Step> {
        if eagerness != Eagerness::Hungry && !self.finished.is_empty() {
            return Some(Step::Finished);
        }
        if !self.is_closed {
            let tells = eagerness != Eagerness::OutcomeOnly && self.vacancies() > 0;
            return tells.then_some(Step::Hungry);
        }
        let is_over = self.schedule.is_empty() && self.asking == 0;
        is_over.then_some(if self.finished.is_empty() { Step::Done } else { Step::Finished })
    }

    /// Waits for an exchange to end, a moment to come or the bell, whichever is first.
    async fn wait(&mut self, limit: Option<Instant>, bell: Option<&Notify>) -> Woken {
        let mut sleep = std::pin::pin!(limit.map(|at| tokio::time::sleep_until(at.into())));
        let mut rung = std::pin::pin!(bell.map(Notify::notified));
        std::future::poll_fn(|context| {
            if let Poll::Ready(Some(done)) = Pin::new(&mut self.running).poll_next(context) {
                return Poll::Ready(Woken::Done(done));
            }
            if let Some(rung) = rung.as_mut().as_pin_mut()
                && rung.poll(context).is_ready()
            {
                return Poll::Ready(Woken::Bell);
            }
            if let Some(sleep) = sleep.as_mut().as_pin_mut()
                && sleep.poll(context).is_ready()
            {
                return Poll::Ready(Woken::Time);
            }
            Poll::Pending
        })
        .await
    }

    /// Lets a job into the schedule, once its site's robots.txt is known if that is to be obeyed.
    fn submit(&mut self, job: Box<Job>) {
        if !self.call.options.robots || matches!(job.purpose, Purpose::Robots(_)) {
            return self.schedule.push(&host(&job), job.index, job);
        }
        let site: Box<str> = origin(&job.outgoing.url).into();
        match self.robots.get_mut(&site) {
            Some(Robots::Known(rules)) => {
                let path = &job.outgoing.url[Position::BeforePath..Position::AfterQuery];
                match rules.allow(job.agent().as_deref().unwrap_or(&self.call.agent), path) {
                    Ok(()) => self.schedule.push(&host(&job), job.index, job),
                    Err(why) => self.fail(&job, Failed::lasting(ErrorKind::Robots, why), Duration::ZERO),
                }
            }
            Some(Robots::Asked(waiting)) => {
                waiting.push(job);
                self.asking += 1;
            }
            None => {
                if self.robots.len() >= SITES {
                    // Those that are asked for again are asked again.
                    self.robots.retain(|_, robots| matches!(robots, Robots::Asked(_)));
                }
                let question = self.robots_job(&job, &site);
                self.robots.insert(site, Robots::Asked(vec![job]));
                self.asking += 1;
                self.schedule.push(&host(&question), question.index, question);
            }
        }
    }

    fn robots_job(&self, job: &Job, site: &str) -> Box<Job> {
        let mut url = job.outgoing.url.clone();
        url.set_path("/robots.txt");
        url.set_query(None);
        let request =
            Request { method: Method::GET, url, headers: HeaderMap::new(), body: bytes::Bytes::new(), timeout: None };
        let options = Options { params: Vec::new(), ..self.call.options.clone() };
        let mut question = Box::new(Job::new(job.index, request, &options));
        question.purpose = Purpose::Robots(site.into());
        question.receiver = Box::new(Beginning(robots::LARGEST));
        question
    }

    fn learn_robots(&mut self, site: &str, rules: Rules) {
        if let Some(Robots::Asked(waiting)) = self.robots.insert(site.into(), Robots::Known(rules)) {
            self.asking -= waiting.len();
            for job in waiting {
                self.submit(job);
            }
        }
    }

    /// Decides what follows from an exchange.
    fn conclude(&mut self, done: Done) {
        let Done { job, host, elapsed, result } = done;
        match result {
            Ok(answer) => self.conclude_answer(job, host, answer, elapsed),
            Err(failed) => {
                self.schedule.relax(host);
                let wait = retry::after_failure(&self.call.options, job.attempts, &job.outgoing.method, &failed);
                match wait {
                    Some(_) if failed.again == Again::Now => self.submit(job),
                    Some(wait) => self.retry(job, wait, failed.kind == ErrorKind::Connection),
                    None => self.fail(&job, failed, elapsed),
                }
            }
        }
        self.schedule.finish(host);
    }

    fn conclude_answer(&mut self, mut job: Box<Job>, host: HostId, answer: Answer, elapsed: Duration) {
        let options = &self.call.options;
        let redirects = redirects_of(&job, options);
        if redirects > 0 {
            match job.follow(&answer.head, redirects) {
                Some(Ok(())) => {
                    self.schedule.relax(host);
                    job.spent += elapsed;
                    return self.submit(job);
                }
                Some(Err(failed)) => return self.fail(&job, failed, elapsed),
                None => {}
            }
        }
        let (status, headers) = (answer.head.status.as_u16(), &answer.head.headers);
        if let Some(wait) = retry::after_status(options, job.attempts, &job.outgoing.method, status, headers) {
            if wait.is_for_the_host {
                self.schedule.pause(host, Instant::now() + wait.time);
            }
            return self.retry(job, wait.time, false);
        }
        self.schedule.relax(host);
        if let Purpose::Robots(site) = &job.purpose {
            let rules = Rules::of(Some((status, &answer.body)));
            return self.learn_robots(&site.clone(), rules);
        }
        let index = job.index;
        self.finished.push_back((index, Ok(job.response(answer, elapsed))));
    }

    fn retry(&mut self, mut job: Box<Job>, wait: Duration, is_wary: bool) {
        job.attempts += 1;
        job.outgoing.is_wary = is_wary;
        job.spent = Duration::ZERO;
        self.schedule.push_later(&host(&job), job.index, job, Instant::now() + wait);
    }

    fn fail(&mut self, job: &Job, failed: Failed, elapsed: Duration) {
        match &job.purpose {
            Purpose::Item => self.finished.push_back((job.index, Err(job.error(failed, elapsed)))),
            Purpose::Robots(site) => self.learn_robots(&site.clone(), Rules::of(None)),
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let is_cut_short = !self.running.is_empty();
        self.running.clear();
        match self.session.take() {
            // Connections in the middle of an answer are closed now, not when the session is driven again.
            Some(session) if is_cut_short => drop(session),
            Some(session) => session.put_back(),
            None => {}
        }
    }
}

enum Woken {
    Done(Done),
    Bell,
    Time,
}

/// How many redirects a job may go along.
fn redirects_of(job: &Job, options: &Options) -> usize {
    match job.purpose {
        Purpose::Item => options.redirects,
        Purpose::Robots(_) => options.redirects.max(ROBOTS_REDIRECTS),
    }
}

fn host(job: &Job) -> String {
    job.host().to_owned()
}

/// One exchange of a job, with the cookies of the call.
async fn run(client: Arc<Client>, call: Arc<Call>, host: HostId, mut job: Box<Job>) -> Done {
    job.complete(&call.defaults);
    let mut course = Course::new();
    if let Some(jar) = &call.jar {
        put_cookies(jar, &mut job);
    }
    let follows = redirects_of(&job, &call.options) > 0;
    let result = match job.receiver.prepare(&mut job.outgoing.headers) {
        Ok(()) => {
            let (timeout, spent) = (job.timeout, job.spent);
            exchange(&client, &job.outgoing, timeout, spent, follows, &mut *job.receiver, &mut course).await
        }
        Err(failed) => Err(failed),
    };
    if let (Some(jar), Ok(answer)) = (&call.jar, &result) {
        let texts = answer.head.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookies = texts.filter_map(|text| RawCookie::parse(text.to_owned()).ok());
        lock(jar).store_response_cookies(cookies, &job.outgoing.url);
    }
    job.resent += course.resent;
    emit_fetch(|| told(&job, &mut course, &result));
    Done { job, host, elapsed: course.started.elapsed(), result }
}

/// What those who listen to events are told of an exchange.
fn told(job: &Job, course: &mut Course, result: &Result<Answer, Failed>) -> Fetch {
    let url = &job.outgoing.url;
    Fetch {
        // Without a name and a password.
        url: format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterQuery]),
        host: url[Position::BeforeHost..Position::AfterPort].into(),
        phases: std::mem::take(&mut course.phases),
        status: result.as_ref().ok().map(|answer| answer.head.status.as_u16()),
        bytes: result.as_ref().map_or(0, |answer| answer.body.len() as u64),
        error: result.as_ref().err().map(|failed| failed.detail.clone()),
    }
}

fn put_cookies(jar: &Mutex<CookieStore>, job: &mut Job) {
    let jar = lock(jar);
    let is_secure = job.outgoing.url.scheme() == "https";
    let fitting =
        jar.matches(&job.outgoing.url).into_iter().filter(|cookie| is_secure || cookie.secure() != Some(true));
    let kept = fitting.map(|cookie| format!("{}={}", cookie.name(), cookie.value()));
    let own = job.own_cookies.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned);
    let text = own.into_iter().chain(kept).collect::<Vec<_>>().join("; ");
    match HeaderValue::from_str(&text) {
        Ok(value) if !text.is_empty() => job.outgoing.headers.insert(COOKIE, value),
        _ => job.outgoing.headers.remove(COOKIE),
    };
}

fn lock(jar: &Mutex<CookieStore>) -> std::sync::MutexGuard<'_, CookieStore> {
    jar.lock().unwrap_or_else(PoisonError::into_inner)
}
