//! Joins a connection to the Enrollment service, byte for byte, within limits.
//!
//! The limits stand here because the service sees only this splice: it can't tell one peer from another.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes moved at once. Chosen: a Register call with its TLS records fits.
const CHUNK_BYTES: usize = 8 * 1024;

/// What one splice may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpliceLimits {
    /// Bytes in each direction.
    pub(crate) bytes_max: u64,
    /// Silence of both sides.
    pub(crate) idle: Duration,
    /// Life in all.
    pub(crate) total: Duration,
}

/// How a splice ended. Each but the first is counted by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpliceEnd {
    /// Both sides are done.
    Done,
    /// The Enrollment service does not listen.
    Unavailable,
    /// A side reset the connection.
    Reset,
    /// More bytes than the limit.
    Bytes,
    /// Silent for too long.
    Idle,
    /// Lived for too long.
    Total,
}

impl SpliceEnd {
    /// Name of the metric.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unavailable => "unavailable",
            Self::Reset => "reset",
            Self::Bytes => "bytes",
            Self::Idle => "idle",
            Self::Total => "total",
        }
    }
}

/// Sends `first` and then everything that `outer` says to the socket at `path`, and everything back.
pub(crate) async fn splice(
    mut outer: TcpStream,
    first: Vec<u8>,
    path: &Path,
    limits: SpliceLimits,
) -> SpliceEnd {
    let life = async {
        let Ok(mut inner) = UnixStream::connect(path).await else {
            return SpliceEnd::Unavailable;
        };
        if inner.write_all(&first).await.is_err() {
            return SpliceEnd::Reset;
        }
        join(&mut outer, &mut inner, first.len() as u64, limits).await
    };
    timeout(limits.total, life).await.unwrap_or(SpliceEnd::Total)
}

async fn join(
    outer: &mut TcpStream,
    inner: &mut UnixStream,
    sent: u64,
    limits: SpliceLimits,
) -> SpliceEnd {
    let (from_outer, to_outer) = outer.split();
    let (from_inner, to_inner) = inner.split();
    let activity = Activity::new();
    let up = pump(from_outer, to_inner, limits.bytes_max.saturating_sub(sent), &activity);
    let down = pump(from_inner, to_outer, limits.bytes_max, &activity);
    tokio::select! {
        ended = async { tokio::try_join!(up, down) } => match ended {
            Ok(_) => SpliceEnd::Done,
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => SpliceEnd::Bytes,
            Err(_) => SpliceEnd::Reset,
        },
        () = activity.silence(limits.idle) => SpliceEnd::Idle,
    }
}

/// Moves bytes one way until the end, then passes the end on.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut budget: u64,
    activity: &Activity,
) -> io::Result<()> {
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let n = from.read(&mut chunk).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        activity.note();
        budget = budget.checked_sub(n as u64).ok_or(io::ErrorKind::QuotaExceeded)?;
        to.write_all(&chunk[..n]).await?;
    }
}

/// When bytes moved last. Shared by the two directions of one task.
struct Activity {
    origin: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { origin: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.last_ms.store(self.origin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns once nothing has moved for `idle`.
    async fn silence(&self, idle: Duration) {
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let due = self.origin + last + idle;
            if Instant::now() >= due {
                return;
            }
            sleep_until(due).await;
        }
    }
}
