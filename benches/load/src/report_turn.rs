//! Our report stream as a connection that beats in turn.

use std::future::poll_fn;
use std::time::Duration;

use zlayer_node::session::{Identity, Link, LinkEvent, Trust};
use zlayer_wire::v1::{Hello, StatusReport};

use crate::turn::Turn;

/// As a worker's session has it by default.
const USER_TIMEOUT: Duration = Duration::from_secs(12);

/// Where to, and as whom.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) trust: Trust,
    pub(crate) identity: Identity,
    pub(crate) incarnation: u64,
    /// Opens the watch as well, as a worker does.
    pub(crate) watch: bool,
}

/// An open session without pacing.
pub(crate) struct ReportTurn {
    link: Link,
    seq: u64,
}

impl ReportTurn {
    /// Dials and says hello.
    pub(crate) async fn open(target: Target) -> Result<Self, String> {
        let link = Link::open(&target.address, &target.trust, &target.identity, USER_TIMEOUT)
            .await
            .map_err(|failure| failure.to_string())?;
        let mut turn = Self { link, seq: 0 };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let incarnation = target.incarnation;
        let hello = Hello { incarnation, version, required_features: Vec::new() };
        turn.ask(StatusReport { hello: Some(hello), ..StatusReport::default() }).await?;
        if target.watch {
            turn.link.watch(0);
        }
        Ok(turn)
    }

    /// Says goodbye.
    pub(crate) async fn leave(mut self) -> Result<(), String> {
        self.ask(StatusReport { leaving: true, ..StatusReport::default() }).await?;
        self.link.close().await;
        Ok(())
    }

    async fn ask(&mut self, report: StatusReport) -> Result<(), String> {
        self.seq += 1;
        self.link.send(StatusReport { seq: self.seq, ..report });
        loop {
            match poll_fn(|cx| self.link.poll_event(cx)).await {
                LinkEvent::Ack(ack) if ack.seq == self.seq => return Ok(()),
                LinkEvent::Ended(failure) => return Err(failure.to_string()),
                LinkEvent::Ack(_) | LinkEvent::Assignments(_) | LinkEvent::WatchEnded(_) => {}
            }
        }
    }
}

impl Turn for ReportTurn {
    async fn beat(&mut self) -> Result<(), String> {
        self.ask(StatusReport::default()).await
    }
}
