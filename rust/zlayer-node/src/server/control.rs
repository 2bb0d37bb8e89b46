//! The control thread: accepts, runs the ticker, and takes the server down in order.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use tokio::time::{Instant, sleep};

use super::serve::serve;
use super::service::control_plane;
use super::shards::Shards;
use super::shared::Shared;
use super::ticker::Ticker;
use crate::accept::Listener;
use crate::peers::PeerNet;
use crate::refusal::Refusal;

/// Time for the last statuses to reach the workers. Chosen: what a connection takes to end, and then some.
const FAREWELL: Duration = Duration::from_millis(500);

/// Time between two looks at how many are still there.
const FAREWELL_STEP: Duration = Duration::from_millis(10);

/// What the thread owns.
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ticker: Ticker,
    pub(crate) shards: Shards,
    pub(crate) listener: TcpListener,
    /// The other servers, where there are any.
    pub(crate) net: Option<Arc<PeerNet>>,
}

impl Control {
    /// Runs until the server stops, then ends everything: the port, the proposals, the sessions, the log.
    pub(crate) fn run(self, runtime: &Runtime) {
        let Self { shared, ticker, shards, listener, net } = self;
        runtime.block_on(async {
            let mut ticker = tokio::spawn(ticker.run());
            let accepting = accept(&shared, &shards, listener);
            tokio::select! {
                Err(error) = accepting => shared.fail(format!("the worker port: {error}")),
                died = &mut ticker => note_death(&shared, died),
                () = shared.stopping.cancelled() => {}
            }
            shared.stopping.cancel();
            if !ticker.is_finished() {
                note_death(&shared, ticker.await);
            }
            // Nobody proposes any more, so that no worker is recorded as lost because its server went.
            shared.registry.end_all(Refusal::Stopping);
            let until = Instant::now() + FAREWELL;
            while shared.connections.used() > 0 && Instant::now() < until {
                sleep(FAREWELL_STEP).await;
            }
        });
        drop(shards);
        shared.log.shutdown();
        if let Some(net) = net {
            net.close();
        }
        shared.wake.wake();
    }
}

/// A ticker that ends before the server does has panicked: an engine in that state decides nothing any more.
fn note_death(shared: &Shared, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        shared.fail(format!("the liveness engine: {error}"));
    }
}

/// Accepts for ever. An error is only one of making the listener.
async fn accept(shared: &Arc<Shared>, shards: &Shards, listener: TcpListener) -> io::Result<()> {
    let service = control_plane(shared);
    let mut listener = Listener::new(listener)?;
    loop {
        let (socket, address) = listener.accept().await;
        shared.metrics.accepted.add(1);
        match shared.handshakes.admit(address.ip()) {
            Some(permit) => {
                shards.spawn(serve(Arc::clone(shared), service.clone(), socket, address, permit));
            }
            None => shared.metrics.refused_connections.add("handshakes"),
        }
    }
}
