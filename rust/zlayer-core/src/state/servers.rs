//! Rules of servers: enrolling with a token, being noted, being removed. Whether they vote is not decided here.

use std::sync::Arc;

use super::keys::{self, Key};
use super::{Applied, State, rules};
use crate::command::{Outcome, Refusal};
use crate::record::{
    CertificateRecord, EventKind, LAST_SERVER_ID, Labels, NodeId, ServerRecord, TokenRole,
};

/// Bytes of an address. A host name, a colon and a port.
const ADDRESS_MAX: usize = 260;

/// The fields of [`crate::command::Command::RedeemServer`].
pub(super) struct Ask<'a> {
    pub(super) jti: &'a str,
    pub(super) id: NodeId,
    pub(super) name: &'a str,
    pub(super) raft_addr: &'a str,
    pub(super) api_addr: &'a str,
    pub(super) certificate: &'a CertificateRecord,
}

fn check_address(field: &str, address: &str) -> Result<(), Refusal> {
    let is_one = (1..=ADDRESS_MAX).contains(&address.len())
        && address.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one { Ok(()) } else { Err(rules::invalid(field, "host:port, printable ASCII")) }
}

fn check_id(id: NodeId) -> Result<(), Refusal> {
    if (1..=LAST_SERVER_ID).contains(&id) {
        Ok(())
    } else {
        Err(rules::invalid("id", format!("1 to {LAST_SERVER_ID}, got {id}")))
    }
}

impl State {
    /// Counts a use and records a server; or, for a key that this token admitted already, answers the same id.
    pub(super) fn redeem_server(&mut self, ask: &Ask<'_>) -> Applied {
        let token = self.open_token(ask.jti, TokenRole::Server)?;
        let (uses, uses_max) = (token.uses.len() as u64, token.uses_max);
        let known = token.uses.get(&ask.certificate.key_hash).copied();
        let key = rules::check_certificate(ask.certificate)?;
        rules::check_name(ask.name)?;
        check_address("raft_addr", ask.raft_addr)?;
        check_address("api_addr", ask.api_addr)?;
        if let Some(id) = known {
            return self.redeem_server_again(id, ask);
        }
        if uses >= u64::from(uses_max) {
            return Err(Refusal::TokenUsedUp { jti: ask.jti.to_owned(), uses_max });
        }
        if self.keys.owner(&key, self.now).is_some() {
            return Err(Refusal::KeyInUse);
        }
        let id = match ask.id {
            0 => self.servers.last_key_value().map_or(1, |(last, _)| last + 1),
            id => id,
        };
        check_id(id)?;
        if self.servers.contains_key(&id) {
            return Err(Refusal::ServerIdTaken { id });
        }
        self.check_room_for_key()?;
        if let Some(token) = self.tokens.get_mut(ask.jti) {
            Arc::make_mut(token).uses.insert(ask.certificate.key_hash.clone(), id);
        }
        Ok(self.enrol_server(id, key, ask))
    }

    fn enrol_server(&mut self, id: NodeId, key: Key, ask: &Ask<'_>) -> Outcome {
        let name = if ask.name.is_empty() { format!("server-{id}") } else { ask.name.to_owned() };
        self.keys.hold(key, id);
        self.record_server(ServerRecord {
            id,
            name: name.clone(),
            raft_addr: ask.raft_addr.to_owned(),
            api_addr: ask.api_addr.to_owned(),
            token_jti: ask.jti.to_owned(),
            certificate: Some(ask.certificate.clone()),
            enrolled_ms: self.now,
            removed: false,
        });
        self.note_about(EventKind::ServerJoined, id, &name, ask.raft_addr);
        Outcome::Redeemed { node_id: id, name, labels: Labels::new(), first: true }
    }

    /// A retry after a lost answer, perhaps from where the server is now.
    fn redeem_server_again(&mut self, id: NodeId, ask: &Ask<'_>) -> Applied {
        let Some(server) = self.servers.get(&id) else {
            return Err(Refusal::ServerNotFound { id });
        };
        if server.removed {
            return Err(Refusal::ServerRemoved { id });
        }
        let mut server = ServerRecord::clone(server);
        ask.raft_addr.clone_into(&mut server.raft_addr);
        ask.api_addr.clone_into(&mut server.api_addr);
        server.certificate = Some(ask.certificate.clone());
        let name = server.name.clone();
        self.record_server(server);
        Ok(Outcome::Redeemed { node_id: id, name, labels: Labels::new(), first: false })
    }

    pub(super) fn note_server(&mut self, id: NodeId, raft_addr: &str, api_addr: &str) -> Applied {
        check_id(id)?;
        check_address("raft_addr", raft_addr)?;
        if !api_addr.is_empty() {
            check_address("api_addr", api_addr)?;
        }
        let known = self.servers.get(&id);
        if known.is_some_and(|server| server.removed) {
            return Err(Refusal::ServerRemoved { id });
        }
        let is_new = known.is_none();
        let mut server = known.map_or_else(
            || ServerRecord {
                id,
                name: format!("server-{id}"),
                raft_addr: String::new(),
                api_addr: String::new(),
                token_jti: String::new(),
                certificate: None,
                enrolled_ms: self.now,
                removed: false,
            },
            |server| ServerRecord::clone(server),
        );
        if server.raft_addr == raft_addr && server.api_addr == api_addr {
            return Ok(Outcome::Done);
        }
        raft_addr.clone_into(&mut server.raft_addr);
        api_addr.clone_into(&mut server.api_addr);
        let name = server.name.clone();
        self.record_server(server);
        if is_new {
            self.note_about(EventKind::ServerJoined, id, &name, raft_addr);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remove_server(&mut self, id: NodeId) -> Applied {
        let Some(server) = self.servers.get(&id) else {
            return Err(Refusal::ServerNotFound { id });
        };
        if server.removed {
            return Ok(Outcome::Done);
        }
        let mut server = ServerRecord::clone(server);
        server.removed = true;
        if let Some(certificate) = server.certificate.take()
            && let Some(key) = keys::parse(&certificate.key_hash)
        {
            self.keys.release(key, id, certificate.not_after_ms);
        }
        let name = server.name.clone();
        self.record_server(server);
        self.note_about(EventKind::ServerRemoved, id, &name, "");
        Ok(Outcome::Done)
    }

    fn record_server(&mut self, server: ServerRecord) {
        self.digest.fold(&server);
        self.servers.insert(server.id, Arc::new(server));
    }

    /// A server's record, also of one that was removed.
    pub fn server(&self, id: NodeId) -> Option<&ServerRecord> {
        self.servers.get(&id).map(AsRef::as_ref)
    }

    /// The servers' records, by id, also of those that were removed.
    pub fn servers(&self) -> impl Iterator<Item = &ServerRecord> {
        self.servers.values().map(AsRef::as_ref)
    }
}
