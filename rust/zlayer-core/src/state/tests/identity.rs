//! Keys and certificates: one key, one node.

use super::{HOUR, Log, certificate, first_certificate, key_hash, redeem, redeem_with, renew};
use crate::command::{Command, Outcome, Refusal};
use crate::record::{CERTIFICATES_KEPT, Labels};
use crate::time::UnixMs;

/// Serial numbers that a node's record holds, oldest first.
fn serials(log: &Log, id: u64) -> Vec<String> {
    log.state.node(id).unwrap().certificates.iter().map(|one| one.serial.clone()).collect()
}

#[test]
fn a_key_of_another_node_is_refused() {
    let (mut log, id) = Log::with_node();
    let other = log.enrol(1, 2);
    log.token(2, 9);
    // By another token, and by renewal; also one that its node has left behind.
    assert_eq!(log.refused(redeem(2, 1)), Refusal::KeyInUse);
    assert_eq!(log.refused(renew(other, 2, 1)), Refusal::KeyInUse);
    for key in 3..10 {
        assert_eq!(log.apply(renew(id, if key == 3 { 1 } else { key - 1 }, key)), Outcome::Done);
    }
    assert_eq!(log.refused(redeem(2, 1)), Refusal::KeyInUse);
    assert_eq!(log.refused(renew(other, 2, 1)), Refusal::KeyInUse);
    assert_eq!(log.state.token(&super::jti(2)).unwrap().uses.len(), 0, "a refusal was counted");
}

#[test]
fn a_key_that_was_left_behind_is_free_when_its_certificate_ends() {
    let (mut log, id) = Log::with_node();
    for key in 2..7 {
        assert_eq!(log.apply(renew(id, key - 1, key)), Outcome::Done);
    }
    log.now = 24 * HOUR;
    log.token(2, 9);
    assert_eq!(log.enrol(2, 1), id + 1);
}

#[test]
fn keys_of_a_removed_node_are_remembered_until_they_end() {
    let (mut log, id) = Log::with_node();
    assert_eq!(log.apply(renew(id, 1, 2)), Outcome::Done);
    assert_eq!(log.apply(Command::RemoveNode { node_id: id }), Outcome::Done);
    assert!(log.state.is_removed(id));
    assert_eq!(log.state.allotted(), id..id + 1, "an id is never taken back");
    assert!(!log.state.is_removed(id + 1) && !log.state.is_removed(1));
    // Neither as a repeat, nor as a new node, nor as a renewal.
    assert_eq!(log.refused(redeem(1, 1)), Refusal::KeyInUse);
    log.now = 23 * HOUR;
    log.token(2, 9);
    assert_eq!(log.refused(redeem(2, 1)), Refusal::KeyInUse);
    assert_eq!(log.refused(redeem(2, 2)), Refusal::KeyInUse);
    assert_eq!(log.refused(renew(id, 2, 3)), Refusal::NodeNotFound { node_id: id });
    // The first key's certificate ends after a day, the second's after two.
    log.now = 24 * HOUR - 1;
    assert_eq!(log.refused(redeem(2, 1)), Refusal::KeyInUse);
    log.now = 24 * HOUR;
    log.token(3, 9);
    assert_eq!(log.enrol(3, 1), id + 1);
    assert_eq!(log.refused(redeem(3, 2)), Refusal::KeyInUse);
    log.now = 48 * HOUR;
    log.token(4, 9);
    assert_eq!(log.enrol(4, 2), id + 2, "an id came back");
}

#[test]
fn a_removed_node_stays_refused_by_its_own_token_as_long_as_that_lives() {
    let mut log = Log::new();
    log.token(1, 9);
    // A certificate shorter than the token.
    let id = match log.apply(redeem_with(1, Labels::new(), certificate(1, 1, 2_000))) {
        Outcome::Redeemed { node_id, .. } => node_id,
        other => panic!("{other:?}"),
    };
    assert_eq!(log.apply(Command::RemoveNode { node_id: id }), Outcome::Done);
    log.now = 3_000;
    // Time forgets the key; it is the token that still knows whose it was.
    log.apply(Command::HoldExpiry { due: 1, leases: 1 });
    assert_eq!(log.refused(redeem(1, 1)), Refusal::KeyInUse);
}

#[test]
fn renewal_is_idempotent_for_the_same_pair() {
    let (mut log, id) = Log::with_node();
    assert_eq!(log.apply(renew(id, 1, 2)), Outcome::Done);
    let once = log.state.node(id).unwrap().certificates.clone();
    assert_eq!(log.apply(renew(id, 1, 2)), Outcome::Done);
    assert_eq!(log.state.node(id).unwrap().certificates, once);
    // The signed one differs by its serial: the newest is the one that counts.
    let again = certificate(2, 77, 50 * HOUR);
    let command = Command::RenewCertificate {
        node_id: id,
        old_key_hash: key_hash(1),
        certificate: again.clone(),
    };
    assert_eq!(log.apply(command), Outcome::Done);
    assert_eq!(log.state.node(id).unwrap().certificates, [first_certificate(1), again]);
}

#[test]
fn renewal_needs_a_key_of_that_node() {
    let (mut log, id) = Log::with_node();
    let other = log.enrol(1, 2);
    assert_eq!(log.refused(renew(id, 2, 3)), Refusal::KeyUnknown { node_id: id });
    assert_eq!(log.refused(renew(id, 9, 3)), Refusal::KeyUnknown { node_id: id });
    assert_eq!(log.refused(renew(other, 1, 3)), Refusal::KeyUnknown { node_id: other });
    assert_eq!(log.refused(renew(5, 1, 3)), Refusal::NodeNotFound { node_id: 5 });
}

#[test]
fn the_newest_certificates_are_kept() {
    let (mut log, id) = Log::with_node();
    for key in 2..=9 {
        assert_eq!(log.apply(renew(id, key - 1, key)), Outcome::Done);
        assert!(serials(&log, id).len() <= CERTIFICATES_KEPT);
    }
    let newest: Vec<String> = (6..=9).map(|key| format!("{:x}", 1_000 + key)).collect();
    assert_eq!(serials(&log, id), newest);
    // What was dropped renews nothing any more, though the key is still the node's.
    assert_eq!(log.refused(renew(id, 5, 10)), Refusal::KeyUnknown { node_id: id });
    // The node may come back to a key of its own: the record holds it again, once.
    assert_eq!(log.apply(renew(id, 9, 5)), Outcome::Done);
    assert_eq!(serials(&log, id).last().unwrap(), &format!("{:x}", 1_005));
}

#[test]
fn a_repeat_of_redeeming_records_the_new_certificate() {
    let (mut log, id) = Log::with_node();
    let again = certificate(1, 99, 30 * HOUR);
    let answer = log.apply(redeem_with(1, Labels::new(), again.clone()));
    assert!(matches!(answer, Outcome::Redeemed { first: false, .. }));
    assert_eq!(log.state.node(id).unwrap().certificates, [again]);
}

#[test]
fn certificates_of_a_bad_shape_are_refused() {
    let (mut log, id) = Log::with_node();
    let good = certificate(2, 2, HOUR);
    let bad_keys = ["", "00", &"0".repeat(63), &"0".repeat(65), &"G".repeat(64), &"AB".repeat(32)];
    let bad_serials = ["", "g", &"0".repeat(41), "AB"];
    let keys = bad_keys
        .map(|key| crate::record::CertificateRecord { key_hash: key.to_owned(), ..good.clone() });
    let serials = bad_serials.map(|serial| crate::record::CertificateRecord {
        serial: serial.to_owned(),
        ..good.clone()
    });
    for certificate in keys.into_iter().chain(serials) {
        let old_key_hash = key_hash(1);
        let both = [
            redeem_with(1, Labels::new(), certificate.clone()),
            Command::RenewCertificate { node_id: id, old_key_hash, certificate },
        ];
        for command in both {
            let refusal = log.refused(command);
            assert!(
                matches!(&refusal, Refusal::Invalid { field, .. } if field.starts_with("certificate.")),
                "{refusal:?}"
            );
        }
    }
}

#[test]
fn a_node_begins_as_it_was_asked_for() {
    let mut log = Log::new();
    log.token(1, 9);
    let mut command = redeem(1, 1);
    if let Command::Redeem { name, profile, .. } = &mut command {
        *name = "gpu-7".into();
        profile.os = "linux".into();
        profile.memory_bytes = u64::MAX;
    }
    assert!(matches!(log.apply(command), Outcome::Redeemed { first: true, .. }));
    let node = log.state.nodes().next().unwrap();
    assert_eq!((node.name.as_str(), node.profile.os.as_str()), ("gpu-7", "linux"));
    assert_eq!((node.epoch, node.incarnation, node.ttl_ms), (0, 0, 0));
    assert_eq!((node.enrolled_ms, node.since_ms), (UnixMs(1_000), UnixMs(1_000)));
    assert_eq!(node.liveness, crate::record::Liveness::Suspect);
    assert_eq!(node.reason, crate::record::Reason::Enrolled);
    for bad in ["-x", "A", "a b", "\u{1b}"] {
        let mut command = redeem(1, 2);
        if let Command::Redeem { name, .. } = &mut command {
            bad.clone_into(name);
        }
        assert!(matches!(log.refused(command), Refusal::Invalid { field, .. } if field == "name"));
    }
    let mut command = redeem(1, 2);
    if let Command::Redeem { profile, .. } = &mut command {
        profile.arch = "x".repeat(129);
    }
    let refusal = log.refused(command);
    assert!(matches!(refusal, Refusal::Invalid { field, .. } if field == "profile.arch"));
}
