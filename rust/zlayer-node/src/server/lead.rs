//! Beginning and ending a time in office: what the ticker does when the control log says who leads.

use std::pin::Pin;

use zlayer_core::liveness::Event;
use zlayer_raft::{LeaderId, ProposeError};

use super::seats::Sitting;
use super::shared::{Opening, Shared};
use super::ticker::Ticker;

/// The question whether this server still leads, and has applied all that was acknowledged.
type Confirming = Pin<Box<dyn Future<Output = Result<(), ProposeError>> + Send>>;

/// Whether this server decides.
pub(super) enum Office {
    /// Another one does, or none.
    Follows,
    /// It was elected; what was acknowledged before is being applied.
    Takes(LeaderId, Confirming),
    /// It does.
    Leads(LeaderId),
}

impl Office {
    /// The time in office that decisions are made and proposed in.
    pub(super) fn id(&self) -> Option<LeaderId> {
        match self {
            Self::Leads(id) => Some(*id),
            Self::Follows | Self::Takes(..) => None,
        }
    }

    /// Resolves when the question is answered; never where there is none.
    pub(super) async fn confirmed(&mut self) -> Result<(), ProposeError> {
        match self {
            Self::Takes(_, confirming) => confirming.await,
            Self::Follows | Self::Leads(_) => std::future::pending().await,
        }
    }
}

/// All nodes, as an engine that begins has to know them.
pub(super) fn records(shared: &Shared) -> Vec<Event> {
    shared.state.with_state(|state| {
        state
            .nodes()
            .map(|record| Event::Loaded {
                node: record.id,
                liveness: record.liveness,
                epoch: record.epoch,
                incarnation: record.incarnation,
                ttl_ms: record.ttl_ms,
            })
            .collect()
    })
}

impl Ticker {
    /// Acts on who leads now.
    pub(super) fn look_who_leads(&mut self) {
        let own = self.leadership.borrow_and_update().own;
        let id = match &self.office {
            Office::Takes(id, _) | Office::Leads(id) => Some(*id),
            Office::Follows => None,
        };
        if own == id {
            return;
        }
        if id.is_some() {
            self.step_down();
        }
        if let Some(own) = own {
            self.office = Office::Takes(own, self.shared.log.confirm_leader());
        }
    }

    /// Decides nothing any more, and forgets what was not yet proposed.
    fn step_down(&mut self) {
        if matches!(self.office, Office::Leads(_)) {
            tracing::info!("this server leads no more");
        }
        self.shared.engine.freeze();
        self.shared.lock_leases.end();
        self.waiting.clear();
        self.in_flight = None;
        self.office = Office::Follows;
    }

    /// The question whether it leads was answered.
    pub(super) fn note_confirmed(&mut self, confirmed: Result<(), ProposeError>) {
        let Office::Takes(id, _) = self.office else { return };
        self.office = Office::Follows;
        match confirmed {
            Ok(()) if self.leadership.borrow().own == Some(id) => self.begin(id),
            Ok(()) => {}
            // Asked again at the next tick, if it is still said to lead.
            Err(error) => tracing::debug!(%error, "not leading yet"),
        }
    }

    fn begin(&mut self, id: LeaderId) {
        self.shared.engine.lead(records(&self.shared));
        self.shared.lock_leases.begin(self.shared.clock.now());
        self.office = Office::Leads(id);
        let sittings = self.shared.seats.all();
        tracing::info!(term = id.term, sessions = sittings.len(), "this server leads");
        for sitting in sittings {
            self.take_over(sitting);
        }
    }

    /// A session on this server's own connections, which another server answered until now.
    fn take_over(&self, sitting: Sitting) {
        let Sitting { session, node, incarnation, standing } = sitting;
        let taken = if standing.greeted && !standing.waits {
            self.shared.announce_session(node, session, incarnation)
        } else {
            // The lease is the stream's; it gets one of its own with the next report.
            self.shared.open_session(node, session, incarnation).map(|(_, ack)| {
                self.shared.seats.acked(session, ack);
            })
        };
        match taken {
            Ok(()) if standing.leaving => self.shared.engine.tell(Event::Leaving { node, session }),
            Ok(()) | Err(Opening::NotLeading) => {}
            Err(Opening::Refused(why)) => self.shared.registry.end_session(node, session, why),
        }
    }
}
