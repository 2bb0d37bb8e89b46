//! Keys and values: revisions, conditions, limits.

use super::super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use super::Log;
use crate::command::{Command, Outcome, Refusal};
use crate::record::Value;

fn put(key: &str, value: &str, if_revision: Option<u64>) -> Command {
    Command::Put { key: key.into(), value: Value(value.into()), if_revision }
}

fn delete(key: &str, if_revision: Option<u64>) -> Command {
    Command::Delete { key: key.into(), if_revision }
}

fn written(log: &mut Log, command: Command) -> u64 {
    match log.apply(command) {
        Outcome::Written { revision } => revision,
        other => panic!("{other:?}"),
    }
}

fn mismatch(key: &str, revision: u64) -> Refusal {
    Refusal::RevisionMismatch { key: key.into(), revision }
}

#[test]
fn a_revision_is_the_entry_that_wrote_it_and_a_condition_is_one_revision() {
    let mut log = Log::new();
    let first = written(&mut log, put("a", "1", None));
    assert_eq!(first, log.index);
    assert_eq!(log.refused(put("a", "2", Some(0))), mismatch("a", first));
    let second = written(&mut log, put("a", "2", Some(first)));
    assert!(second > first);
    assert_eq!(log.refused(put("a", "3", Some(first))), mismatch("a", second));
    assert_eq!(log.refused(delete("a", Some(first))), mismatch("a", second));
    assert_eq!(log.refused(put("b", "1", Some(9))), mismatch("b", 0));
    let record = log.state.value("a").unwrap().clone();
    assert_eq!((record.revision, record.created_revision), (second, first));
    assert_eq!(record.value, Value("2".into()));
    assert_eq!(written(&mut log, delete("a", Some(second))), second);
    assert_eq!(log.state.value("a"), None);
    assert_eq!(written(&mut log, delete("a", None)), 0);
    let third = written(&mut log, put("a", "4", Some(0)));
    assert_eq!(log.state.value("a").unwrap().created_revision, third, "made anew");
}

#[test]
fn keys_are_listed_in_order_by_what_they_begin_with() {
    let mut log = Log::new();
    for key in ["b/2", "a", "b/1", "b", "c", "b/3", "b0"] {
        log.apply(put(key, key, None));
    }
    let listed = |prefix, after| -> Vec<_> {
        log.state.values(prefix, after).map(|record| record.key.as_str()).collect()
    };
    assert_eq!(listed("b/", ""), ["b/1", "b/2", "b/3"]);
    assert_eq!(listed("b/", "b/1"), ["b/2", "b/3"]);
    assert_eq!(listed("b/", "c"), Vec::<&str>::new());
    assert_eq!(listed("", ""), ["a", "b", "b/1", "b/2", "b/3", "b0", "c"]);
    assert_eq!(log.state.value_count(), 7);
}

#[test]
fn what_is_too_long_or_no_key_is_named() {
    let mut log = Log::new();
    let endless = "k".repeat(KEY_BYTES_MAX + 1);
    for key in ["", "a b", "\n", "\u{e4}", endless.as_str()] {
        let refusal = log.refused(put(key, "", None));
        assert!(matches!(refusal, Refusal::Invalid { field, .. } if field == "key"));
        assert!(matches!(log.refused(delete(key, None)), Refusal::Invalid { .. }));
    }
    written(&mut log, put(&endless[1..], &"v".repeat(VALUE_BYTES_MAX), None));
    let refusal = log.refused(put("a", &"v".repeat(VALUE_BYTES_MAX + 1), None));
    assert!(matches!(refusal, Refusal::Invalid { field, .. } if field == "value"));
}

#[test]
fn all_values_together_have_a_limit() {
    let mut log = Log::new();
    let value = "v".repeat(VALUE_BYTES_MAX - 8);
    for number in 0..1_024 {
        written(&mut log, put(&format!("{number:08}"), &value, None));
    }
    assert!(matches!(log.refused(put("one", "more", None)), Refusal::LimitReached { .. }));
    // The same size in the place of another is no more.
    written(&mut log, put("00000000", &value, None));
    written(&mut log, delete("00000000", None));
    written(&mut log, put("one", "more", None));
}

#[test]
fn bytes_cross_whole_in_both_forms() {
    let bytes = Value((0..=255).collect());
    let json = serde_json::to_string(&bytes).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), bytes);
    assert!(serde_json::from_str::<Value>("\"no base64!\"").is_err());
    let command = Command::Put { key: "k".into(), value: bytes, if_revision: Some(3) };
    let json = serde_json::to_value(&command).unwrap();
    assert_eq!(json["type"], "put");
    assert_eq!(serde_json::from_value::<Command>(json).unwrap(), command);
}
