//! Packets: how long they take, and when they do not arrive.

use super::{Down, Happening, Up, Wire, World};
use crate::Ms;
use crate::fact::{Blow, Fact};
use crate::worker::Ending;

/// One way through the network, at most. Two of them and a timer's error stay below what pacing calls on time.
const LATENCY_MS: (Ms, Ms) = (1, 8);
/// A late packet's delay. Chosen: retransmissions over a bad line; below the grace.
const LATE_MS: (Ms, Ms) = (100, 8_000);
/// When a kernel gives a connection up that does not answer: `TCP_USER_TIMEOUT` and keepalive (`zlayer-node`, accept).
const GIVE_UP_MS: (Ms, Ms) = (12_000, 15_000);
/// A cut that is shorter is bridged by retransmission.
pub(super) const BRIDGED_MS: Ms = 12_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl World {
    /// Sends towards the server.
    pub(super) fn send_up(&mut self, wire: Wire, up: Up) {
        match self.arrival(wire, Direction::Up) {
            Some(at) => self.agenda.push(at, Happening::AtServer { wire, up }),
            None => self.let_die(wire),
        }
    }

    /// Sends towards the worker.
    pub(super) fn send_down(&mut self, wire: Wire, down: Down) {
        match self.arrival(wire, Direction::Down) {
            Some(at) => self.agenda.push(at, Happening::AtWorker { wire, down }),
            None => self.let_die(wire),
        }
    }

    /// When what is sent now arrives; `None`: it never does, and nothing after it.
    fn arrival(&mut self, wire: Wire, direction: Direction) -> Option<Ms> {
        let now = self.now;
        let (lost, late) = match (self.calm, &self.plan) {
            (true, _) => (0, 0),
            (false, plan) => (plan.lost_ppm, plan.late_ppm),
        };
        let dice = &mut self.dice.network;
        let (is_lost, is_late) = (dice.per_million(lost), dice.per_million(late));
        let mut at = now + dice.between(LATENCY_MS.0, LATENCY_MS.1);
        if is_late {
            at += dice.skewed(LATE_MS.0, LATE_MS.1);
        }
        let cut_until = self.host(wire.worker).cut_until.max(self.server.suspended_until);
        if cut_until > now {
            // Sent again and again, further and further apart.
            at = at.max(cut_until) + self.dice.network.below(cut_until - now);
        }
        let line = self.line(wire)?;
        let way = match direction {
            Direction::Up => &mut line.up,
            Direction::Down => &mut line.down,
        };
        if way.dead {
            return None;
        }
        // A kernel gives up what is not acknowledged for so long.
        way.dead = is_lost || at > now + BRIDGED_MS;
        at = at.max(way.free_at);
        way.free_at = at;
        let dead = way.dead;
        if is_lost || is_late {
            let node = self.host(wire.worker).node;
            self.tell(Fact::Struck { node, blow: Blow::Light });
        }
        (!dead).then_some(at)
    }

    /// Nothing passes on this connection any more: in a while both kernels notice.
    pub(super) fn let_die(&mut self, wire: Wire) {
        let Some(line) = self.line(wire) else { return };
        if std::mem::replace(&mut line.dying, true) {
            return;
        }
        let (here, there) = (self.give_up_ms(), self.give_up_ms());
        self.agenda.push(self.now + here, Happening::GivenUp { wire });
        let down = Down::End(Ending::Lost);
        self.agenda.push(self.now + there, Happening::AtWorker { wire, down });
    }

    fn give_up_ms(&mut self) -> Ms {
        self.dice.network.between(GIVE_UP_MS.0, GIVE_UP_MS.1)
    }

    /// Nothing passes on any connection of this host, as when its network is cut or it is gone.
    pub(super) fn let_all_die(&mut self, worker: u32) {
        let links: Vec<_> = self.host(worker).lines.iter().map(|line| line.link).collect();
        for link in links {
            let wire = Wire { worker, link };
            if let Some(line) = self.line(wire) {
                (line.up.dead, line.down.dead) = (true, true);
            }
            self.let_die(wire);
        }
    }

    /// Both ends are told that the connection is reset.
    pub(super) fn reset(&mut self, wire: Wire) {
        let node = self.host(wire.worker).node;
        self.tell(Fact::Struck { node, blow: Blow::Light });
        let (there, here) = (self.latency_ms(), self.latency_ms());
        self.agenda.push(self.now + there, Happening::GivenUp { wire });
        let down = Down::End(Ending::Lost);
        self.agenda.push(self.now + here, Happening::AtWorker { wire, down });
        if let Some(line) = self.line(wire) {
            (line.up.dead, line.down.dead, line.dying) = (true, true, true);
        }
    }

    pub(super) fn latency_ms(&mut self) -> Ms {
        self.dice.network.between(LATENCY_MS.0, LATENCY_MS.1)
    }
}
