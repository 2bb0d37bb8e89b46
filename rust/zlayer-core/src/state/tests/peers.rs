//! Servers that are nodes themselves.

use super::{Log, labels};
use crate::command::{Command, Outcome, Refusal};
use crate::record::{EventKind, Labels, Liveness, NodeId, Reason};

fn join(id: NodeId, name: &str, labels: Labels) -> Command {
    Command::JoinPeer { id, name: name.into(), labels }
}

#[test]
fn a_peer_is_a_node_with_a_life_of_its_own() {
    let mut log = Log::new();
    assert_eq!(log.apply(join(2, "b", Labels::new())), Outcome::Done);
    assert_eq!(log.apply(join(2, "b", Labels::new())), Outcome::Done, "again");
    log.shift(2, Liveness::Ready, Reason::SessionOpened, 7);
    assert_eq!(log.kinds(), [EventKind::Enrolled, EventKind::Joined]);
    log.apply(join(2, "c", labels(&[("zone", "x")])));
    let node = log.state.node(2).unwrap();
    assert_eq!((node.name.as_str(), node.liveness, node.epoch), ("c", Liveness::Ready, 1));
    assert_eq!(node.labels, labels(&[("zone", "x")]));
    assert!(!log.state.is_removed(3), "it may come");
    // It does not take an id from those of workers.
    log.token(1, 1);
    assert_eq!(log.enrol(1, 1), 1_000);
}

#[test]
fn one_that_was_removed_does_not_come_back() {
    let mut log = Log::new();
    log.apply(join(2, "b", Labels::new()));
    assert_eq!(log.apply(Command::RemoveNode { node_id: 2 }), Outcome::Done);
    assert!(log.state.is_removed(2));
    assert_eq!(log.refused(join(2, "b", Labels::new())), Refusal::NodeNotFound { node_id: 2 });
    for id in [0, 1_000] {
        assert!(matches!(log.refused(join(id, "b", Labels::new())), Refusal::Invalid { .. }));
    }
    assert!(matches!(log.refused(join(3, "B", Labels::new())), Refusal::Invalid { .. }));
}
