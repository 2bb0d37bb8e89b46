//! The task of one worker connection: HTTP/2 and every stream on it, polled together.
//!
//! hyper would spawn a task for each stream. Polled here instead, a stream costs one boxed future, and a beat is
//! one visit to one task.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::Connection;
use super::meter::Metered;
use super::nudge::Nudge;
use super::service::ConnectionService;
use super::shared::Shared;
use super::tls_socket::TlsSocket;
use crate::clock::Clock;
use crate::limits::Permit;
use crate::refusal::Refusal;

/// Time to flush the last statuses of a connection that ends, before it is cut. Chosen: well below the second in
/// which a removed node's connection has to be closed.
const LINGER: Duration = Duration::from_millis(250);

/// Rounds in one visit before the task lets others run. Chosen: a beat takes two.
const ROUNDS_MAX: usize = 16;

/// A worker's socket after its handshake.
pub(crate) type WorkerSocket = TlsSocket<Metered<TcpStream>>;
type Http = http2::Connection<TokioIo<WorkerSocket>, ConnectionService, Streams>;
type StreamFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// hyper's executor: keeps the stream's future for the connection's own task.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<Vec<StreamFuture>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

impl Streams {
    fn take_new(&self, into: &mut Vec<StreamFuture>) {
        let mut new = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !new.is_empty() {
            into.reserve_exact(new.len());
            into.append(&mut new);
        }
    }
}

/// What the timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No stream keeps the connection open: it must not stay so.
    Idle,
    /// In use, up to its age or the end of its certificate.
    InUse,
    /// Ends; cut when the timer fires.
    Ending,
}

/// Drives one connection until it ends. Dropping it closes the socket and ends its session.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    http: Http,
    new_streams: Streams,
    streams: Vec<StreamFuture>,
    nudge: Arc<Nudge>,
    /// Made from `nudge`; what everything inside is polled with.
    waker: Waker,
    timer: Pin<Box<Sleep>>,
    phase: Phase,
    ends_at: Instant,
    ends_why: Refusal,
    _permit: Permit,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: Arc<Connection>,
        socket: WorkerSocket,
        service: ConnectionService,
        permit: Permit,
    ) -> Self {
        let new_streams = Streams::default();
        let http =
            builder(&shared, new_streams.clone()).serve_connection(TokioIo::new(socket), service);
        let nudge = Arc::new(Nudge::default());
        let waker = Waker::from(Arc::clone(&nudge));
        let (ends_at, ends_why) = end_of_life(&shared, &connection);
        let timer = Box::pin(sleep_until(Instant::now() + shared.limits.first_request_timeout()));
        Self {
            shared,
            connection,
            http,
            new_streams,
            streams: Vec::new(),
            nudge,
            waker,
            timer,
            phase: Phase::Idle,
            ends_at,
            ends_why,
            _permit: permit,
        }
    }

    /// One visit to everything inside; ready when the connection has ended.
    fn round(&mut self) -> Poll<()> {
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        if let Poll::Ready(ended) = Pin::new(&mut self.http).poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(node_id = self.connection.node_id, %error, "connection");
            }
            return Poll::Ready(());
        }
        self.new_streams.take_new(&mut self.streams);
        self.streams.retain_mut(|stream| stream.as_mut().poll(cx).is_pending());
        self.watch_the_time(cx)
    }

    fn watch_the_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let in_use = self.connection.is_held_open();
        if self.phase != Phase::Ending && self.connection.ending().is_some() {
            // The streams have seen it in this round, or will in the next one, before anything is cut.
            self.set_timer(Phase::Ending, Instant::now() + LINGER);
            Pin::new(&mut self.http).graceful_shutdown();
        } else if self.phase == Phase::Idle && in_use {
            self.set_timer(Phase::InUse, self.ends_at);
        } else if self.phase == Phase::InUse && !in_use {
            let idle_max = self.shared.limits.first_request_timeout();
            self.set_timer(Phase::Idle, Instant::now() + idle_max);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.phase == Phase::InUse {
            self.connection.end(self.ends_why);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn set_timer(&mut self, phase: Phase, at: Instant) {
        self.phase = phase;
        self.timer.as_mut().reset(at);
        // The new time is registered by polling it; make sure that this happens.
        self.waker.wake_by_ref();
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.nudge.begin(cx.waker());
        this.connection.register(&this.waker);
        for _ in 0..ROUNDS_MAX {
            if this.round().is_ready() {
                return Poll::Ready(());
            }
            if this.nudge.rest() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.registry.remove(&self.connection);
        self.shared.metrics.connections_closed.add(1);
    }
}

/// Which end comes first: the connection's age, or its certificate's validity.
fn end_of_life(shared: &Shared, connection: &Connection) -> (Instant, Refusal) {
    // ± 10 %, spread by the connection's number: neighbours get times far apart.
    let age_ms = shared.limits.connection_age_ms;
    let spread = connection.id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let age_ms = age_ms - age_ms / 10 + (((age_ms / 5) * spread) >> 32);
    let valid_ms = connection.not_after.0.saturating_sub(Clock::unix().0);
    let after = |ms| Instant::now() + Duration::from_millis(ms);
    if valid_ms < age_ms {
        (after(valid_ms), Refusal::CertificateExpired)
    } else {
        (after(age_ms), Refusal::Aged)
    }
}

/// HTTP/2 with every limit set, and with buffers for peers that say little.
fn builder(shared: &Shared, streams: Streams) -> http2::Builder<Streams> {
    // The smallest window that HTTP/2 starts with: a heartbeat has some 50 bytes.
    const WINDOW_BYTES: u32 = 65_535;
    // The smallest that HTTP/2 allows.
    const FRAME_BYTES: u32 = 16_384;
    // Acks that wait because the worker does not read.
    const SEND_BUFFER_BYTES: usize = 16_384;
    // No dynamic table: the two requests of a connection are not worth one.
    const HEADER_TABLE_BYTES: u32 = 0;
    // h2's defaults, written down so that they can't grow unnoticed.
    const PENDING_RESETS_MAX: usize = 20;
    const ERROR_RESETS_MAX: usize = 256;
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(shared.limits.streams_max)
        .max_header_list_size(shared.limits.header_list_bytes_max)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .header_table_size(HEADER_TABLE_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .auto_date_header(false);
    builder
}
