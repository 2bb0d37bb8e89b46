//! What holds between any two calls.

use super::Liveness;
use super::member::{Flight, Held, Presence};

impl Liveness {
    /// Panics if anything in the engine disagrees. O(nodes): for tests and simulations.
    pub fn check_invariants(&self) {
        self.live.check_invariants();
        self.lost.check_invariants();
        let (mut live, mut lost, mut connected, mut awaited, mut in_flight) = (0, 0, 0, 0, 0);
        for (&node, member) in &self.members {
            connected += u64::from(member.is_connected());
            awaited += u64::from(member.is_awaited());
            in_flight += u64::from(member.flight != Flight::Idle);
            match member.held {
                Held::Nothing => {}
                Held::Live(handle) => {
                    live += 1;
                    assert_eq!(self.live.owner(handle), Some(node), "lease of node {node}");
                }
                Held::Lost(handle) => {
                    lost += 1;
                    assert_eq!(self.lost.owner(handle), Some(node), "lease of node {node}");
                }
            }
            let holds_lease = member.held != Held::Nothing;
            let expects_lease = match member.presence {
                Presence::Unseen | Presence::Expired | Presence::Left => false,
                Presence::Awaited | Presence::Connected | Presence::Lost | Presence::Missed => true,
            };
            assert_eq!(holds_lease, expects_lease, "node {node} is {:?}", member.presence);
            let session_open = !member.session_ended;
            assert!(session_open || !member.is_connected(), "node {node} has a session");
        }
        assert_eq!(live, self.live.len(), "every live lease has its node");
        assert_eq!(lost, self.lost.len(), "every lost lease has its node");
        assert_eq!(connected, self.connected, "connected nodes");
        assert_eq!(awaited, self.awaited_leases, "awaited nodes");
        assert_eq!(in_flight, self.in_flight, "transitions in flight");
        let ttl_ms = self.config.ttl_ms(self.leases());
        assert_eq!(ttl_ms, self.beats.ttl_ms(), "the TTL follows the leases");
    }
}
