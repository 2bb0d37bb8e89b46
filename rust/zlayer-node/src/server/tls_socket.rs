//! TLS on a worker's socket, without a buffer of its own while nothing is half done.
//!
//! A connected worker is silent nearly all of its life. rustls' buffered connection keeps 4 KiB for it to read
//! into; here a thread's connections share one scratch, and only what is half of a record, not asked for yet, or
//! not taken by the kernel yet is kept with the connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Plaintext of one record.
const FRAGMENT_BYTES: usize = 16 * 1024;
/// A record with its header, at most (RFC 8446, section 5.2).
const RECORD_BYTES: usize = 5 + FRAGMENT_BYTES + 256;
/// Bytes of an unfinished handshake message, records and all: a client's certificate has less than 2 KiB.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Read at once during the handshake.
const CHUNK_BYTES: usize = 4 * 1024;

thread_local! {
    /// Room for one unfinished record and as much again, shared by the connections of a thread.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 2 * RECORD_BYTES].into());
}

/// A socket after its handshake.
pub(crate) struct TlsSocket<S> {
    tcp: S,
    tls: UnbufferedServerConnection,
    /// Part of a record.
    incoming: Vec<u8>,
    /// Decrypted, from `read` on not asked for yet.
    plaintext: Vec<u8>,
    read: usize,
    /// Encrypted, from `sent` on not taken by the kernel yet.
    outgoing: Vec<u8>,
    sent: usize,
    /// The peer has said that it sends no more.
    is_ended: bool,
    has_said_goodbye: bool,
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Gives the memory back as well.
fn clear(buffer: &mut Vec<u8>, position: &mut usize) {
    *buffer = Vec::new();
    *position = 0;
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsSocket<S> {
    /// Shakes hands.
    ///
    /// # Errors
    /// What the socket or TLS says; the peer was told where TLS has an alert for it.
    pub(crate) async fn accept(
        tcp: S,
        config: Arc<ServerConfig>,
        first: Vec<u8>,
    ) -> io::Result<Self> {
        let mut socket = Self {
            tcp,
            tls: UnbufferedServerConnection::new(config).map_err(invalid)?,
            incoming: Vec::new(),
            plaintext: Vec::new(),
            read: 0,
            outgoing: Vec::new(),
            sent: 0,
            is_ended: false,
            has_said_goodbye: false,
        };
        let mut incoming = first;
        loop {
            let result = socket.process(&mut incoming);
            socket.tcp.write_all(&socket.outgoing).await?;
            clear(&mut socket.outgoing, &mut socket.sent);
            incoming.drain(..result?);
            if !socket.tls.is_handshaking() {
                break;
            }
            if incoming.len() >= HANDSHAKE_BYTES_MAX {
                return Err(invalid("a handshake without an end"));
            }
            let mut chunk = [0; CHUNK_BYTES];
            match socket.tcp.read(&mut chunk).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => incoming.extend_from_slice(&chunk[..bytes]),
            }
        }
        incoming.shrink_to_fit();
        socket.incoming = incoming;
        Ok(socket)
    }

    /// The protocol that was agreed on.
    pub(crate) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// The peer's chain, leaf first.
    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.peer_certificates()
    }

    /// Takes in what the peer sent. Gives how many bytes were used; the rest is part of something, and has to be
    /// there again in front of what comes next.
    fn process(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut used = 0;
        let mut failed = None;
        loop {
            let status = self.tls.process_tls_records(&mut bytes[used..]);
            let mut discard = status.discard;
            match (status.state, failed.take()) {
                // If there is an alert for it, that is what the next round gives; there must be no round after.
                (Err(error), None) => failed = Some(error),
                (Ok(ConnectionState::EncodeTlsData(mut data)), before) => {
                    encode(&mut data, &mut self.outgoing)?;
                    if let Some(error) = before {
                        return Err(invalid(error));
                    }
                }
                (_, Some(error)) => return Err(invalid(error)),
                (Ok(ConnectionState::ReadTraffic(mut traffic)), None) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        self.plaintext.extend_from_slice(record.payload);
                    }
                }
                // It is in `outgoing`, and that is sent before anything else.
                (Ok(ConnectionState::TransmitTlsData(data)), None) => data.done(),
                (Ok(ConnectionState::PeerClosed), None) => self.is_ended = true,
                (Ok(ConnectionState::Closed), None) => {
                    self.is_ended = true;
                    return Ok(used + discard);
                }
                (
                    Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)),
                    None,
                ) => return Ok(used + discard),
                (Ok(_), None) => return Err(invalid("TLS data before the handshake's end")),
            }
            used += discard;
        }
    }

    /// Lets the kernel take what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            match ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.outgoing[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.sent += bytes,
            }
        }
        if self.sent > 0 {
            clear(&mut self.outgoing, &mut self.sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once from the socket and takes it in.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let kept = self.incoming.len();
            scratch[..kept].copy_from_slice(&self.incoming);
            let mut room = ReadBuf::new(&mut scratch[kept..]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut room))?;
            let bytes = room.filled().len();
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let received = &mut scratch[..kept + bytes];
            let result = self.process(received);
            if result.is_err() || !self.outgoing.is_empty() {
                // Alerts and answers to key updates. What the kernel does not take now goes with the next write.
                if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                    return Poll::Ready(Err(error));
                }
            }
            let rest = &received[result?..];
            if rest.len() > RECORD_BYTES {
                return Poll::Ready(Err(invalid("half a message that is longer than a record")));
            }
            self.incoming = rest.to_vec();
            Poll::Ready(Ok(()))
        })
    }

    /// Encrypts with `seal` and lets the kernel take what it takes. Everything before must have been sent.
    fn seal(
        &mut self,
        cx: &mut Context<'_>,
        seal: impl FnOnce(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        // What TLS wants to say by itself, such as new keys, goes first.
        let mut incoming = std::mem::take(&mut self.incoming);
        let used = self.process(&mut incoming)?;
        incoming.drain(..used);
        let state = self.tls.process_tls_records(&mut incoming).state;
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        SCRATCH.with_borrow_mut(|scratch| {
            let bytes = seal(&mut traffic, scratch).map_err(invalid)?;
            let sealed = &scratch[..bytes];
            let mut sent = 0;
            if self.outgoing.is_empty()
                && let Poll::Ready(taken) = Pin::new(&mut self.tcp).poll_write(cx, sealed)
            {
                sent = taken?;
            }
            self.outgoing.extend_from_slice(&sealed[sent..]);
            io::Result::Ok(())
        })?;
        self.incoming = incoming;
        Ok(())
    }
}

type WriteTraffic<'c> = rustls::unbuffered::WriteTraffic<'c, rustls::server::ServerConnectionData>;

fn encode(
    data: &mut EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    outgoing: &mut Vec<u8>,
) -> io::Result<()> {
    let start = outgoing.len();
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(error @ EncodeError::AlreadyEncoded) => return Err(invalid(error)),
    };
    outgoing.resize(start + needed, 0);
    data.encode(&mut outgoing[start..]).map_err(invalid)?;
    Ok(())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read == self.plaintext.len() {
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(cx))?;
        }
        let waiting = &self.plaintext[self.read..];
        let bytes = waiting.len().min(buf.remaining());
        buf.put_slice(&waiting[..bytes]);
        self.read += bytes;
        if self.read == self.plaintext.len() {
            let this = &mut *self;
            clear(&mut this.plaintext, &mut this.read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let fragment = &bytes[..bytes.len().min(FRAGMENT_BYTES)];
        self.seal(cx, |traffic, room| traffic.encrypt(fragment, room))?;
        Poll::Ready(Ok(fragment.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if !self.has_said_goodbye {
            self.has_said_goodbye = true;
            #[expect(
                clippy::redundant_closure_for_method_calls,
                reason = "the method itself is of one lifetime only"
            )]
            self.seal(cx, |traffic, room| traffic.queue_close_notify(room))?;
            ready!(self.poll_send(cx))?;
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
