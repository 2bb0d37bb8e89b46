//! A node has one session that counts, its newest: no older one opens, and none renews the lease.

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct OneSession {
    newest: Accounts<u64>,
}

impl Invariant for OneSession {
    fn name(&self) -> &'static str {
        "one_session"
    }

    fn note(&mut self, _: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Booted => self.newest.each().for_each(|(_, newest)| *newest = 0),
            Fact::Opened { node, session, .. } => {
                let newest = self.newest.of(node);
                if session < *newest {
                    let what = format!("session {session} opens, {newest} was opened before");
                    return broken(node, what);
                }
                *newest = session;
            }
            Fact::Beat { node, session, .. } => {
                let newest = *self.newest.of(node);
                if session != newest {
                    let what = format!("session {session} renews the lease of session {newest}");
                    return broken(node, what);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
