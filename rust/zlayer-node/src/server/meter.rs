//! Bounds what one connection may make the server read: a token bucket of bytes on the socket.
//!
//! Message, stream and reset limits bound what a peer can say in HTTP/2; this bounds how much of it, also of
//! frames that have no limit of their own, such as PING and SETTINGS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zlayer_core::time::MonoMs;

use crate::clock::Clock;
use crate::limits::Bucket;

/// A stream whose reads fail once the peer has sent more than the rate and the burst allow.
#[derive(Debug)]
pub(crate) struct Metered<T> {
    inner: T,
    clock: Clock,
    bucket: Bucket,
    bytes_per_second: u32,
    burst_bytes: u32,
}

impl<T> Metered<T> {
    /// Meters `inner`; a rate of 0 sets no limit.
    pub(crate) fn new(inner: T, clock: Clock, bytes_per_second: u32, burst_bytes: u32) -> Self {
        let bucket = Bucket::full(clock.now(), burst_bytes);
        Self { inner, clock, bucket, bytes_per_second, burst_bytes }
    }

    fn spend(&mut self, bytes: usize, now: MonoMs) -> io::Result<()> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.bucket.take_many(now, bytes, self.bytes_per_second, self.burst_bytes) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, "more bytes than the limit"))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let now = self.clock.now();
        Poll::Ready(self.spend(buf.filled().len() - before, now))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
