//! The thread that makes snapshots, beside the engine.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{Builder, JoinHandle};

use tokio::sync::mpsc::UnboundedSender;

use crate::replicated::machine::{Copy, Core};

/// Runs until the core is closed. A failure leaves log and older snapshots as they are; the next try comes with the
/// next share of log.
pub(crate) fn start(
    core: Arc<Core>,
    copies: Receiver<Copy>,
    saved: UnboundedSender<()>,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name("zlayer-snapshot".into()).spawn(move || {
        while let Ok(copy) = copies.recv() {
            let index = copy.index();
            match copy.save(&core.shelf) {
                Ok(()) => {
                    tracing::info!(index, "snapshot saved");
                    // The engine may have ended meanwhile.
                    let _ = saved.send(());
                }
                Err(error) => {
                    tracing::warn!(index, %error, "the snapshot could not be saved; the log grows on");
                }
            }
            core.end_snapshot();
        }
    })
}
