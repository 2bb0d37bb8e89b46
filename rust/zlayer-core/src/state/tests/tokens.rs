//! Tokens: counted exactly, judged by the stamp, bounding the labels.

use super::{HOUR, Log, Token, first_certificate, jti, labels, redeem, redeem_with};
use crate::command::{Command, Outcome, Refusal};
use crate::record::{EventKind, Labels};
use crate::time::UnixMs;

#[test]
fn each_key_counts_once_and_keeps_its_node() {
    let mut log = Log::new();
    log.token(1, 2);
    let first = log.enrol(1, 1);
    for _ in 0..3 {
        match log.apply(redeem(1, 1)) {
            Outcome::Redeemed { node_id, first: false, name, .. } => {
                assert_eq!((node_id, name), (first, format!("worker-{first}")));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(log.state.token(&jti(1)).unwrap().uses.len(), 1);
    let second = log.enrol(1, 2);
    assert_eq!((first, second), (1_000, 1_001));
    let used_up = Refusal::TokenUsedUp { jti: jti(1), uses_max: 2 };
    assert_eq!(log.refused(redeem(1, 3)), used_up);
    // Who is in already is still answered.
    assert!(matches!(log.apply(redeem(1, 1)), Outcome::Redeemed { first: false, .. }));
    assert_eq!(
        log.kinds(),
        [EventKind::TokenCreated, EventKind::Enrolled, EventKind::Enrolled],
        "a repeat is no event"
    );
}

#[test]
fn the_stamp_ends_a_token_for_repeats_too() {
    let mut log = Log::new();
    log.token(1, 9);
    log.enrol(1, 1);
    log.now += HOUR - 1;
    log.enrol(1, 2);
    log.now += 1;
    assert_eq!(log.refused(redeem(1, 1)), Refusal::TokenInvalid);
    assert_eq!(log.refused(redeem(1, 3)), Refusal::TokenInvalid);
    // A clock that steps back revives nothing.
    log.now = 0;
    assert_eq!(log.refused(redeem(1, 1)), Refusal::TokenInvalid);
    assert_eq!(log.refused(redeem(1, 3)), Refusal::TokenInvalid);
}

#[test]
fn a_revoked_or_unknown_token_answers_as_an_expired_one() {
    let mut log = Log::new();
    log.token(1, 9);
    log.enrol(1, 1);
    let revoke = |jti| Command::RevokeToken { jti };
    assert_eq!(log.apply(revoke(jti(1))), Outcome::Done);
    assert_eq!(log.apply(revoke(jti(1))), Outcome::Done);
    assert_eq!(log.refused(redeem(1, 1)), Refusal::TokenInvalid);
    assert_eq!(log.refused(redeem(1, 2)), Refusal::TokenInvalid);
    assert_eq!(log.refused(redeem(7, 2)), Refusal::TokenInvalid);
    assert_eq!(log.refused(revoke(jti(7))), Refusal::TokenNotFound { jti: jti(7) });
    let revoked = log.kinds().iter().filter(|kind| **kind == EventKind::TokenRevoked).count();
    assert_eq!(revoked, 1, "revoking twice is one event");
}

#[test]
fn a_token_that_nobody_should_make_is_refused() {
    let mut log = Log::new();
    let good = || Token::new(1, 1_000 + HOUR);
    let field = |log: &mut Log, token: Token| match log.refused(token.create()) {
        Refusal::Invalid { field, .. } => field,
        other => panic!("{other:?}"),
    };
    for uses_max in [0, 100_001, u32::MAX] {
        assert_eq!(field(&mut log, Token { uses_max, ..good() }), "uses_max");
    }
    for expires in [0, 1_000, 1_000 + 25 * HOUR + 1, i64::MAX as u64, u64::MAX] {
        assert_eq!(field(&mut log, Token { expires, ..good() }), "expires_ms");
    }
    assert_eq!(log.apply(good().create()), Outcome::Done);
    assert_eq!(log.refused(good().create()), Refusal::TokenExists { jti: jti(1) });
    for bad in ["", "0", &"0".repeat(33), &"A".repeat(32), &"é".repeat(16)] {
        let mut command = good().create();
        if let Command::CreateToken { jti, .. } = &mut command {
            bad.clone_into(jti);
        }
        assert!(
            matches!(log.refused(command), Refusal::Invalid { field, .. } if field == "jti"),
            "{bad:?}"
        );
    }
    for bad in ["-x", "A", "a b", "\u{1b}[31m", &"x".repeat(64)] {
        let mut command = Token::new(2, 1_000 + HOUR).create();
        if let Command::CreateToken { name, .. } = &mut command {
            bad.clone_into(name);
        }
        assert!(
            matches!(log.refused(command), Refusal::Invalid { field, .. } if field == "name"),
            "{bad:?}"
        );
    }
}

/// A log with token 1: `site` is forced, `disk` and `gpu` may be chosen.
fn with_bounds() -> Log {
    let mut log = Log::new();
    let token = Token {
        uses_max: 9,
        labels: labels(&[("site", "oslo")]),
        allowed: vec!["disk".into(), "gpu".into()],
        ..Token::new(1, 1_000 + HOUR)
    };
    assert_eq!(log.apply(token.create()), Outcome::Done);
    log
}

#[test]
fn labels_are_forced_allowed_or_refused() {
    let ok = [
        (labels(&[]), labels(&[("site", "oslo")])),
        (labels(&[("site", "oslo")]), labels(&[("site", "oslo")])),
        (labels(&[("disk", "ssd")]), labels(&[("site", "oslo"), ("disk", "ssd")])),
    ];
    for (asked, expected) in ok {
        let mut log = with_bounds();
        let answer = log.apply(redeem_with(1, asked, first_certificate(1)));
        match answer {
            Outcome::Redeemed { node_id, labels, .. } => {
                assert_eq!(labels, expected);
                assert_eq!(log.state.node(node_id).unwrap().labels, expected);
            }
            other => panic!("{other:?}"),
        }
    }
    for (key, value) in
        [("site", "rome"), ("rack", "1"), ("zlayer.io/role", "x"), ("zlayer.io/", "x")]
    {
        let mut log = with_bounds();
        match log.refused(redeem_with(1, labels(&[(key, value)]), first_certificate(1))) {
            Refusal::LabelNotPermitted { key: named, .. } => assert_eq!(named, key),
            other => panic!("{other:?}"),
        }
    }
}

/// S17 of the threat table: shapes of labels that nobody accepts.
#[test]
fn labels_of_a_bad_shape_are_refused() {
    let too_long = "x".repeat(64);
    let bad = [
        "",
        " ",
        "-a",
        "a-",
        ".a",
        "a.",
        "A",
        "a b",
        "a/b",
        "../a",
        "a\0",
        "a\n",
        "\u{1b}[31m",
        "\u{202e}a",
        "é",
        "😀",
        &too_long,
    ];
    for text in bad {
        for pair in [(text, "ssd"), ("disk", text)] {
            let mut log = with_bounds();
            let refusal = log.refused(redeem_with(1, labels(&[pair]), first_certificate(1)));
            assert!(
                matches!(&refusal, Refusal::Invalid { field, .. } if field == "labels"),
                "{pair:?}: {refusal:?}"
            );
        }
    }
    let mut log = with_bounds();
    let many: Labels = (0..10_000).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    assert!(matches!(
        log.refused(redeem_with(1, many, first_certificate(1))),
        Refusal::Invalid { field, .. } if field == "labels"
    ));
    let huge = labels(&[("disk", &"x".repeat(1 << 20))]);
    let refusal = log.refused(redeem_with(1, huge, first_certificate(1)));
    assert!(refusal.to_string().len() < 200, "the refusal repeats what was sent");
}

#[test]
fn a_token_can_neither_force_nor_allow_what_is_reserved() {
    let reserved = || Token::new(1, 1_000 + HOUR);
    let mut log = Log::new();
    let forced = Token { labels: labels(&[("zlayer.io/role", "server")]), ..reserved() };
    let allowed = Token { allowed: vec!["zlayer.io/role".into()], ..reserved() };
    for token in [forced, allowed] {
        let refusal = log.refused(token.create());
        assert!(matches!(refusal, Refusal::LabelNotPermitted { .. }), "{refusal:?}");
    }
    let shapeless = Token { allowed: vec!["a b".into()], ..reserved() };
    assert!(matches!(log.refused(shapeless.create()), Refusal::Invalid { .. }));
}

#[test]
fn a_new_token_says_when_it_was_made() {
    let mut log = Log::new();
    log.now = 77;
    log.token(1, 1);
    let token = log.state.token(&jti(1)).unwrap();
    assert_eq!((token.created_ms, token.revoked), (UnixMs(77), false));
    assert_eq!(log.state.tokens().count(), 1);
}
