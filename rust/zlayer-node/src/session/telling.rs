//! A TLS socket that keeps why it failed.
//!
//! The layers above turn an I/O error into "broken pipe" or drop it, and it is the operator's only clue. With TLS 1.3
//! there is one more twist: a client is done before the server has looked at its certificate. A server that refuses
//! it sends an alert and closes, the client's next write fails, and the reason is still waiting to be read.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::failure::describe;
use super::inherited::Listed;

/// Why a socket failed: the first error counts, an end without an error is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reason(Arc<Mutex<Option<String>>>);

impl Reason {
    /// The reason, if there is one.
    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, error: &io::Error) {
        let mut reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reason.get_or_insert_with(|| match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => "the server closed the connection".into(),
            _ => describe(error),
        });
    }
}

/// Keeps the reason of the first failure.
pub(crate) struct Telling<S> {
    /// Dropped before the socket is.
    _listed: Listed,
    socket: S,
    reason: Reason,
    /// A write has failed with this, and what the server had to say is not read to its end.
    failed: Option<io::Error>,
}

impl<S: AsyncRead + Unpin> Telling<S> {
    pub(crate) fn new(socket: S, listed: Listed, reason: Reason) -> Self {
        Self { _listed: listed, socket, reason, failed: None }
    }

    fn tell<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.reason.note(error);
        }
        polled
    }

    /// Holds a failed write back until what the server said before is read. A socket that can't be written to has
    /// been reset or has timed out, so its end is there to be read, if not in this very moment.
    fn tell_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failed.is_none() {
            match write(Pin::new(&mut self.socket), cx) {
                Poll::Ready(Err(error)) => self.failed = Some(error),
                other => return other,
            }
        }
        let mut scratch = [0_u8; 256];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf)) {
                // Data before the reason does not matter any more.
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) => break,
                Err(error) => {
                    self.reason.note(&error);
                    break;
                }
            }
        }
        let error = self.failed.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
        self.tell(Poll::Ready(Err(error)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Telling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.tell(polled)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Telling<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tell_write(cx, |socket, cx| socket.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tell_write(cx, |socket, cx| socket.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tell_write(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket whose writes fail, with something left to read.
    struct Broken(Vec<io::Result<Vec<u8>>>);

    impl AsyncRead for Broken {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop() {
                None => Poll::Pending,
                Some(next) => Poll::Ready(next.map(|data| buf.put_slice(&data))),
            }
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The reason after a failed write with this waiting to be read, the last first; `None` while it waits.
    fn told(waiting: Vec<io::Result<Vec<u8>>>) -> Option<String> {
        let reason = Reason::default();
        // No descriptor, so nothing is listed.
        let listed = Listed::new(-1);
        let mut socket = Telling::new(Broken(waiting), listed, reason.clone());
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        match Pin::new(&mut socket).poll_write(cx, b"x") {
            Poll::Ready(Err(error)) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
            Poll::Ready(Ok(_)) => panic!("a broken pipe was written to"),
            Poll::Pending => assert_eq!(reason.get(), None),
        }
        reason.get()
    }

    #[test]
    fn what_waits_to_be_read_goes_before_the_broken_pipe() {
        let alert = || Err(io::Error::new(io::ErrorKind::InvalidData, "the alert"));
        assert_eq!(told(vec![alert()]).as_deref(), Some("the alert"));
        assert_eq!(told(vec![alert(), Ok(vec![1, 2])]).as_deref(), Some("the alert"));
        let closed = Some("the server closed the connection");
        assert_eq!(told(vec![Ok(Vec::new())]).as_deref(), closed);
        assert_eq!(told(vec![Err(io::ErrorKind::ConnectionReset.into())]).as_deref(), closed);
        assert_eq!(told(vec![]), None, "nothing has arrived yet");
    }

    #[test]
    fn the_first_failure_counts() {
        let reason = Reason::default();
        assert_eq!(reason.get(), None);
        reason.note(&io::Error::other("first"));
        reason.note(&io::Error::other("second"));
        assert_eq!(reason.get().as_deref(), Some("first"));
    }
}
