//! The listening socket: accepts, survives a shortage of descriptors, and sets every accepted socket up.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::task::{Context, Waker};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::error::NodeError;

/// Connections that the kernel holds before they are accepted. Chosen: a fleet that reconnects at once.
const BACKLOG: i32 = 4096;

/// Pause after the system ran out of descriptors or memory. Chosen: long enough for some to be closed.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// The listening socket.
pub(crate) struct Listener {
    socket: tokio::net::TcpListener,
    /// Given up for a moment when descriptors run out, so that a waiting peer is closed instead of hanging.
    reserve: Option<File>,
}

/// Binds the worker port.
///
/// # Errors
/// [`NodeError::Option`] for an address that can't be resolved, [`NodeError::Io`] when it can't be bound.
pub(crate) fn bind(listen: &str) -> Result<TcpListener, NodeError> {
    let address = listen
        .to_socket_addrs()
        .map_err(|error| NodeError::option("listen", format!("{listen}: {error}")))?
        .next()
        .ok_or_else(|| NodeError::option("listen", format!("{listen}: no address")))?;
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|error| NodeError::io(format!("listen on {listen}"), error))
}

impl Listener {
    /// Registers a bound socket with the current runtime.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn new(socket: TcpListener) -> io::Result<Self> {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        Ok(Self { socket, reserve: reserve() })
    }

    /// The next connection. Pauses while the system is short of descriptors or memory; never ends.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            // Taken off this runtime again: the socket will be served on another thread.
            let accepted = match self.socket.accept().await {
                Ok((stream, address)) => stream.into_std().map(|stream| (stream, address)),
                Err(error) => Err(error),
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) if is_shortage(&error) => {
                    tracing::warn!(%error, "accept pauses");
                    self.shed();
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                }
                // The peer went away between its SYN and now.
                Err(error) => tracing::debug!(%error, "accept"),
            }
        }
    }

    /// Closes one waiting connection with the reserve descriptor's help.
    fn shed(&mut self) {
        if self.reserve.take().is_some() {
            let cx = &mut Context::from_waker(Waker::noop());
            drop(self.socket.poll_accept(cx));
        }
        self.reserve = reserve();
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)
    )
}

/// Makes an accepted socket non-blocking, quick, and aware of a dead peer within about `user_timeout`.
///
/// Keepalive probes start after two thirds of it and repeat each sixth, so a host that vanishes while nothing is
/// in flight is noticed by the first probe after `user_timeout`, and one that vanishes with unacknowledged data
/// by `user_timeout` itself.
///
/// # Errors
/// What the operating system says.
pub(crate) fn set_up(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let seconds = |d: Duration| Duration::from_secs(d.as_secs().max(1));
    let keepalive = TcpKeepalive::new()
        .with_time(seconds(user_timeout * 2 / 3))
        .with_interval(seconds(user_timeout / 6))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(user_timeout))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;

    #[test]
    fn a_dead_host_is_noticed_within_15_s() {
        let listener = bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let user_timeout =
            Duration::from_millis(crate::ServerLimits::default().tcp_user_timeout_ms);
        set_up(&stream, user_timeout).unwrap();
        let socket = SockRef::from(&stream);
        let probe_from = socket.tcp_keepalive_time().unwrap();
        let probe_each = socket.tcp_keepalive_interval().unwrap();
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(user_timeout));
        // The kernel looks at the user timeout whenever a probe is due.
        let mut noticed = probe_from + probe_each;
        while noticed < user_timeout {
            noticed += probe_each;
        }
        assert!(noticed + probe_each <= Duration::from_secs(15), "{noticed:?} + {probe_each:?}");
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
    }

    #[test]
    fn a_shortage_is_told_from_a_lost_peer() {
        assert!(is_shortage(&io::Error::from_raw_os_error(24)), "EMFILE");
        assert!(!is_shortage(&io::Error::from_raw_os_error(103)), "ECONNABORTED");
    }
}
