//! What a name, a label, a hash may look like. Everything that people or workers wrote passes here.

use crate::command::Refusal;
use crate::record::{CertificateRecord, Labels, Profile};

use super::keys;

/// Labels of one node, and keys that a token may allow. Chosen.
pub const LABELS_MAX: usize = 32;

/// Most uses of one token. Derived: as many as there may be nodes.
pub const USES_MAX_LIMIT: u32 = super::NODES_MAX as u32;

/// Bytes of one text of a profile. Chosen.
pub const PROFILE_TEXT_MAX: usize = 128;

/// Bytes of a name, a label's key or its value. Kubernetes' and DNS' limit for a label.
const WORD_MAX: usize = 63;

/// Hex digits of a serial number: 20 octets, by RFC 5280 section 4.1.2.2.
const SERIAL_DIGITS_MAX: usize = 40;

/// Bytes of a refused key that are said back.
const ECHO_MAX: usize = 64;

/// Prefix of the labels that only zlayer itself sets.
const RESERVED_PREFIX: &str = "zlayer.io/";

const WORD_RULE: &str =
    "1 to 63 of a-z, 0-9, '-', '_', '.', with a letter or digit at both ends and no '..'";

pub(super) fn invalid(field: impl Into<String>, why: impl Into<String>) -> Refusal {
    Refusal::Invalid { field: field.into(), why: why.into() }
}

/// Cuts a text to at most `max` bytes, between characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let inner = |byte: &u8| edge(byte) || matches!(byte, b'-' | b'_' | b'.');
    bytes.len() <= WORD_MAX
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(inner)
        && !text.contains("..")
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A name for people. Empty is allowed.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || is_word(name) { Ok(()) } else { Err(invalid("name", WORD_RULE)) }
}

pub(super) fn check_jti(jti: &str) -> Result<(), Refusal> {
    if jti.len() == 32 && is_hex(jti) {
        Ok(())
    } else {
        Err(invalid("jti", "32 lower-case hex digits"))
    }
}

/// Checks a certificate's fields and gives its key.
pub(super) fn check_certificate(certificate: &CertificateRecord) -> Result<keys::Key, Refusal> {
    let serial = &certificate.serial;
    if serial.is_empty() || serial.len() > SERIAL_DIGITS_MAX || !is_hex(serial) {
        return Err(invalid("certificate.serial", "1 to 40 lower-case hex digits"));
    }
    keys::parse(&certificate.key_hash)
        .ok_or_else(|| invalid("certificate.key_hash", "64 lower-case hex digits"))
}

pub(super) fn check_profile(profile: &Profile) -> Result<(), Refusal> {
    let texts = [
        ("profile.os", &profile.os),
        ("profile.arch", &profile.arch),
        ("profile.version", &profile.version),
    ];
    for (field, text) in texts {
        if text.len() > PROFILE_TEXT_MAX || text.chars().any(char::is_control) {
            return Err(invalid(
                field,
                format!("at most {PROFILE_TEXT_MAX} bytes, no control characters"),
            ));
        }
    }
    Ok(())
}

fn not_permitted(key: &str, why: &str) -> Refusal {
    Refusal::LabelNotPermitted { key: cut(key, ECHO_MAX).to_owned(), why: why.to_owned() }
}

/// Checks one label's key.
fn check_label_key(key: &str) -> Result<(), Refusal> {
    if key.starts_with(RESERVED_PREFIX) {
        return Err(not_permitted(key, "the prefix zlayer.io/ is reserved"));
    }
    if is_word(key) { Ok(()) } else { Err(invalid("labels", format!("a key is {WORD_RULE}"))) }
}

/// Checks the shape of labels: how many, keys, values.
pub(super) fn check_labels(labels: &Labels) -> Result<(), Refusal> {
    check_count("labels", labels.len())?;
    for (key, value) in labels {
        check_label_key(key)?;
        if !is_word(value) {
            return Err(invalid("labels", format!("the value of {key} is {WORD_RULE}")));
        }
    }
    Ok(())
}

/// Checks the keys that a token allows.
pub(super) fn check_allowed(keys: &[String]) -> Result<(), Refusal> {
    check_count("labels_allowed", keys.len())?;
    keys.iter().try_for_each(|key| check_label_key(key))
}

fn check_count(field: &str, count: usize) -> Result<(), Refusal> {
    if count <= LABELS_MAX {
        Ok(())
    } else {
        Err(invalid(field, format!("at most {LABELS_MAX}, got {count}")))
    }
}

/// The labels of a node: the token's, forced, and those of the asked ones that the token allows.
pub(super) fn admit_labels(
    forced: &Labels,
    allowed: &[String],
    asked: &Labels,
) -> Result<Labels, Refusal> {
    check_labels(asked)?;
    let mut labels = forced.clone();
    for (key, value) in asked {
        match forced.get(key) {
            Some(same) if same == value => {}
            Some(_) => return Err(not_permitted(key, "the token sets another value")),
            None if allowed.contains(key) => {
                labels.insert(key.clone(), value.clone());
            }
            None => return Err(not_permitted(key, "the token does not allow this key")),
        }
    }
    check_count("labels", labels.len())?;
    Ok(labels)
}
