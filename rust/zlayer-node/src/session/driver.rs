//! Carries out what the protocol decides: dials, sends, sets the timer.

use std::future::{pending, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;
use zlayer_core::time::MonoMs;

use super::control::{Asked, Control};
use super::event::{SessionEvent, Status};
use super::failure::Failure;
use super::identity::{Identity, Trust, check_worker};
use super::link::{Link, LinkEvent};
use super::options::SessionOptions;
use super::protocol::{Effect, Input, LinkId, Protocol, Terms};
use crate::clock::Clock;
use crate::error::NodeError;

/// Is told what a session does, on the session's own task: it must be quick and must not block.
pub trait Observer: Send {
    /// Something happened.
    fn event(&mut self, event: SessionEvent);
    /// The status may have changed.
    fn status(&mut self, status: &Status) {
        let _ = status;
    }
    /// A report was sent.
    fn sent(&mut self, hello: bool) {
        let _ = hello;
    }
    /// A report was answered.
    fn acked(&mut self, round_trip: Duration) {
        let _ = round_trip;
    }
}

/// A session that is ready to run: its options are checked and its certificates read.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) terms: Terms,
    pub(crate) trust: Trust,
    pub(crate) identity: Identity,
    /// Decides the waits.
    pub seed: u64,
}

impl Prepared {
    /// Checks the options and reads the certificates.
    ///
    /// # Errors
    /// [`NodeError::Option`] or [`NodeError::Identity`].
    pub fn new(options: &SessionOptions) -> Result<Self, NodeError> {
        let trust = Trust::of_servers(&options.cluster_id, &options.ca_pem)?;
        let servers = options.check()?;
        check_worker(&options.cluster_id, options.node_id, &options.certificate_pem)?;
        let identity = trust.client(&options.certificate_pem, &options.key_pem)?;
        let terms = Terms {
            servers,
            incarnation: options.incarnation,
            version: options.version.clone(),
            timing: options.timing,
        };
        Ok(Self::from_parts(trust, identity, terms))
    }

    /// As [`Self::new`], from parts that many sessions may share. Nothing checks that the identity is a worker's.
    pub fn from_parts(trust: Trust, identity: Identity, terms: Terms) -> Self {
        let seed = RandomState::new().hash_one(terms.incarnation);
        Self { terms, trust, identity, seed }
    }
}

/// Runs a session until it has left or is stopped; true if the goodbye was answered. Needs a tokio runtime with
/// network and time; any number of sessions can share one.
pub async fn run(
    session: Prepared,
    clock: Clock,
    control: Control,
    observer: impl Observer,
) -> bool {
    let protocol = Protocol::new(clock.now(), session.terms.clone(), session.seed);
    let mut driver = Driver {
        protocol,
        session,
        clock,
        observer,
        links: Vec::new(),
        effects: Vec::new(),
        last_sent: None,
    };
    driver.input(Input::Tick).await;
    while !driver.protocol.is_over() {
        let wakeup = driver.protocol.next_wakeup();
        tokio::select! {
            biased;
            asked = control.asked() => driver.asked(asked).await,
            (link, news) = poll_fn(|cx| driver.poll_links(cx)) => driver.news(link, news).await,
            () = sleep_to(clock, wakeup) => driver.input(Input::Tick).await,
        }
    }
    driver.protocol.status().left
}

async fn sleep_to(clock: Clock, at: Option<MonoMs>) {
    match at {
        Some(at) => sleep_until(clock.instant(at).into()).await,
        None => pending().await,
    }
}

type Dial = Pin<Box<dyn Future<Output = Result<Link, Failure>> + Send>>;

/// A dial or what came out of it.
enum Stage {
    Dialling(Dial),
    Open(Box<Link>),
}

/// What a link has to say.
enum News {
    Opened(Box<Link>),
    Event(LinkEvent),
}

struct Driver<O> {
    protocol: Protocol,
    session: Prepared,
    clock: Clock,
    observer: O,
    /// At most two.
    links: Vec<(LinkId, Stage)>,
    effects: Vec<Effect>,
    /// The newest report without an answer.
    last_sent: Option<(LinkId, u64, Instant)>,
}

impl<O: Observer> Driver<O> {
    fn poll_links(&mut self, cx: &mut Context<'_>) -> Poll<(LinkId, News)> {
        for (id, stage) in &mut self.links {
            let news = match stage {
                Stage::Dialling(dial) => dial.as_mut().poll(cx).map(|dialled| match dialled {
                    Ok(link) => News::Opened(Box::new(link)),
                    Err(failure) => News::Event(LinkEvent::Ended(failure)),
                }),
                Stage::Open(link) => link.poll_event(cx).map(News::Event),
            };
            if let Poll::Ready(news) = news {
                return Poll::Ready((*id, news));
            }
        }
        Poll::Pending
    }

    async fn news(&mut self, id: LinkId, news: News) {
        let input = match news {
            News::Opened(link) => {
                if let Some((_, stage)) = self.links.iter_mut().find(|(other, _)| *other == id) {
                    *stage = Stage::Open(link);
                }
                Input::Opened(id)
            }
            News::Event(LinkEvent::Ack(ack)) => {
                if let Some((.., at)) =
                    self.last_sent.take_if(|(link, seq, _)| *link == id && *seq == ack.seq)
                {
                    self.observer.acked(at.elapsed());
                }
                Input::Acked(id, ack)
            }
            News::Event(LinkEvent::Assignments(event)) => Input::Assigned(id, event.revision),
            News::Event(LinkEvent::WatchEnded(failure)) => Input::WatchEnded(id, failure),
            News::Event(LinkEvent::Ended(failure)) => {
                self.links.retain(|(other, _)| *other != id);
                Input::Ended(id, failure)
            }
        };
        self.input(input).await;
    }

    async fn asked(&mut self, asked: Asked) {
        if asked.stop {
            return self.input(Input::Stop).await;
        }
        if let Some(resources) = asked.resources {
            self.input(Input::Resources(resources)).await;
        }
        if let Some((trust, identity)) = asked.identity {
            self.session.trust = trust;
            self.session.identity = identity;
            self.input(Input::NewIdentity).await;
        }
        if asked.leave {
            self.input(Input::Leave).await;
        }
    }

    async fn input(&mut self, input: Input) {
        let mut effects = std::mem::take(&mut self.effects);
        self.protocol.handle(self.clock.now(), input, &mut effects);
        // Before the events that come with it: whoever hears of an event may look at the status.
        self.observer.status(&self.protocol.status());
        for effect in effects.drain(..) {
            self.carry_out(effect).await;
        }
        self.effects = effects;
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Dial(id, server) => self.dial(id, server),
            Effect::Send(id, report) => {
                self.last_sent = Some((id, report.seq, Instant::now()));
                let hello = report.hello.is_some();
                if let Some(link) = self.link(id) {
                    link.send(report);
                }
                self.observer.sent(hello);
            }
            Effect::Watch(id, last_revision) => {
                if let Some(link) = self.link(id) {
                    link.watch(last_revision);
                }
            }
            Effect::Close(id) => self.close(id).await,
            Effect::Tell(event) => self.observer.event(event),
        }
    }

    fn dial(&mut self, id: LinkId, server: usize) {
        let Prepared { terms, trust, identity, .. } = &self.session;
        let address = terms.servers[server].clone();
        let (trust, identity) = (trust.clone(), identity.clone());
        let user_timeout = Duration::from_millis(terms.timing.tcp_user_timeout_ms);
        let dial = async move { Link::open(&address, &trust, &identity, user_timeout).await };
        self.links.push((id, Stage::Dialling(Box::pin(dial))));
    }

    fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.iter_mut().find_map(|(other, stage)| match stage {
            Stage::Open(link) if *other == id => Some(link.as_mut()),
            _ => None,
        })
    }

    /// Cuts a dial; closes a link with a goodbye, beside the session unless it is the last thing to do.
    async fn close(&mut self, id: LinkId) {
        let Some(at) = self.links.iter().position(|(other, _)| *other == id) else { return };
        if let (_, Stage::Open(link)) = self.links.swap_remove(at) {
            if self.protocol.is_over() {
                link.close().await;
            } else {
                tokio::spawn(link.close());
            }
        }
    }
}
