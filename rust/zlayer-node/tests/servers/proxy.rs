//! A way to a server that can be cut: nothing passes then, and nobody is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// Between two looks at whether the way is mended.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_cut: AtomicBool,
    is_over: AtomicBool,
}

impl Proxy {
    /// In front of an address.
    pub(crate) fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        spawn(move || {
            for from in listener.incoming() {
                if shared.is_over.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(from), state) = (from, Arc::clone(&shared)) else { return };
                spawn(move || {
                    state.wait();
                    let Ok(to) = TcpStream::connect(to) else { return };
                    let (from_too, to_too) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let other = Arc::clone(&state);
                    spawn(move || other.pass(from_too, to_too));
                    state.pass(to, from);
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn cut(&self, is_cut: bool) {
        self.state.is_cut.store(is_cut, Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        self.cut(false);
        // Wakes the listener up; it may be gone.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn wait(&self) {
        while self.is_cut.load(Ordering::Acquire) {
            sleep(LOOK);
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.wait();
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // Either may be closed already.
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
