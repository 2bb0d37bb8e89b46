//! A node has one session that counts: the one that was opened last, and no older one opens while it stands. Only that
//! one renews the lease.

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct OneSession {
    nodes: Accounts<Session>,
}

#[derive(Default)]
struct Session {
    number: u64,
    open: bool,
}

impl Invariant for OneSession {
    fn name(&self) -> &'static str {
        "one_session"
    }

    fn note(&mut self, _: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Booted => self.nodes.each().for_each(|(_, at)| *at = Session::default()),
            Fact::Closed { node, session } => {
                let at = self.nodes.of(node);
                at.open &= at.number != session;
            }
            Fact::Opened { node, session, .. } => {
                let at = self.nodes.of(node);
                if session < at.number && at.open {
                    let what = format!("session {session} opens, and {} is newer", at.number);
                    return broken(node, what);
                }
                *at = Session { number: session, open: true };
            }
            Fact::Beat { node, session, .. } => {
                let at = self.nodes.of(node);
                if session != at.number || !at.open {
                    let what = format!("session {session} renews the lease of {}", at.number);
                    return broken(node, what);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
