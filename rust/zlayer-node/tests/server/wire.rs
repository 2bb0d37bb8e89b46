//! HTTP/2 frame by frame, for peers that break its rules.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use rustls::{ClientConnection, StreamOwned};

use crate::cluster::Cluster;
use crate::pki::Leaf;
use crate::tls::{self, server_name};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Error codes of RFC 9113, section 7.
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error that it tells of, if it is of that kind.
    pub(crate) fn error(&self, kind: u8) -> Option<u32> {
        let at = if kind == GOAWAY { 4 } else { 0 };
        let code = self.payload.get(at..at + 4)?;
        (self.kind == kind).then(|| u32::from_be_bytes(code.try_into().unwrap()))
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is not indexed, with a new name.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&length(text.len())[..], text.as_bytes()].concat();
    [&[0], &text(name)[..], &text(value)].concat()
}

/// A length as HPACK writes it: seven bits, then seven at a time.
fn length(n: usize) -> Vec<u8> {
    if n < 127 {
        return vec![n as u8];
    }
    let (mut bytes, mut rest) = (vec![127], n - 127);
    while rest >= 128 {
        bytes.push(rest as u8 | 128);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// The headers of a call.
pub(crate) fn call(method: &str) -> Vec<u8> {
    let path = format!("/zlayer.cluster.v1.ControlPlane/{method}");
    // POST and https have numbers of their own.
    let numbered = vec![0x83, 0x87];
    let named = [
        field(":path", &path),
        field(":authority", &server_name()),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ];
    [numbered, named.concat()].concat()
}

/// A connection whose frames the test writes.
pub(crate) struct Wire(StreamOwned<ClientConnection, TcpStream>);

impl Wire {
    /// Has said the preface and its settings.
    pub(crate) fn open(cluster: &Cluster, leaf: &Leaf) -> Self {
        let mut wire = Self(tls::open(cluster, leaf));
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        wire.send(&frame(SETTINGS, 0, 0, &[])).unwrap();
        wire
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// The next frame; `None` once the server has closed.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing comes"),
            Err(_) => return None,
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that fits; the server must not close before.
    pub(crate) fn wait(&mut self, what: &str, fits: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            match self.next() {
                Some(frame) if fits(&frame) => return frame,
                Some(_) => {}
                None => panic!("{what}: the server closed"),
            }
        }
    }

    /// Every frame until the server closes.
    pub(crate) fn rest(mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Says it over and over, without listening, until the server closes; at most so many bytes.
    pub(crate) fn flood(
        &mut self,
        mut words: impl FnMut(u32) -> Vec<u8>,
        bytes_max: usize,
    ) -> bool {
        let (mut sent, mut round) = (0, 0);
        while sent < bytes_max {
            let burst: Vec<u8> = (0..64).flat_map(|n| words(round + n)).collect();
            if self.send(&burst).is_err() {
                return true;
            }
            sent += burst.len();
            round += 64;
        }
        false
    }
}
