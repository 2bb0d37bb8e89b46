//! The rolling hash: of whatever serialises, with no bytes in between.
//!
//! A value is walked as serde sees it and each leaf is mixed in with a tag of its kind, so that equal values
//! hash equal on every machine, and a field that is added to a record is covered without a line here.
//! Mixing is one round of xxHash64 for each word (Yann Collet's algorithm, public description).

use std::fmt::{self, Display};

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde::{Deserialize, Serialize as SerializeDerive};

/// Multipliers of xxHash64.
const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;

/// A running 64-bit hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SerializeDerive, Deserialize)]
#[serde(transparent)]
pub(super) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(PRIME_3)
    }
}

impl Digest {
    /// Mixes a value in.
    pub(super) fn fold(&mut self, value: &(impl Serialize + ?Sized)) {
        // Only a value that can't be serialised at all gets here, and it mixes in the same everywhere.
        if value.serialize(&mut *self).is_err() {
            self.word(PRIME_2);
        }
    }

    /// The hash so far.
    pub(super) fn value(self) -> u64 {
        let mut hash = self.0;
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(PRIME_2);
        hash ^= hash >> 29;
        hash = hash.wrapping_mul(PRIME_3);
        hash ^ (hash >> 32)
    }

    fn word(&mut self, word: u64) {
        let lane = word.wrapping_mul(PRIME_2).rotate_left(31).wrapping_mul(PRIME_1);
        self.0 = (self.0 ^ lane).rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_3);
    }

    #[expect(clippy::unnecessary_wraps, reason = "the last word of a serializer's method")]
    fn tagged(&mut self, tag: u8, word: u64) -> Result<(), Unhashable> {
        self.word(u64::from(tag));
        self.word(word);
        Ok(())
    }

    fn bytes(&mut self, tag: u8, bytes: &[u8]) -> Result<(), Unhashable> {
        self.tagged(tag, bytes.len() as u64)?;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        Ok(())
    }
}

/// A value whose serialisation failed by itself. None of the records does.
#[derive(Debug)]
pub(super) struct Unhashable;

impl Display for Unhashable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value can't be serialised")
    }
}

impl std::error::Error for Unhashable {}

impl serde::ser::Error for Unhashable {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// Kinds of leaves, so that `1` and `"\u{1}"` and `Some(1)` differ.
mod tag {
    pub(super) const NONE: u8 = 1;
    pub(super) const SOME: u8 = 2;
    pub(super) const BOOL: u8 = 3;
    pub(super) const SIGNED: u8 = 4;
    pub(super) const UNSIGNED: u8 = 5;
    pub(super) const FLOAT: u8 = 6;
    pub(super) const TEXT: u8 = 7;
    pub(super) const BYTES: u8 = 8;
    pub(super) const VARIANT: u8 = 9;
    pub(super) const OPEN: u8 = 10;
    pub(super) const CLOSE: u8 = 11;
}

/// Functions that mix one leaf in.
macro_rules! leaves {
    ($($name:ident($type:ty) => $tag:ident, $word:expr;)*) => {
        $(fn $name(self, value: $type) -> Result<(), Unhashable> {
            let word: fn($type) -> u64 = $word;
            self.tagged(tag::$tag, word(value))
        })*
    };
}

impl Serializer for &mut Digest {
    type Ok = ();
    type Error = Unhashable;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    leaves! {
        serialize_bool(bool) => BOOL, u64::from;
        serialize_i8(i8) => SIGNED, |value| i64::from(value) as u64;
        serialize_i16(i16) => SIGNED, |value| i64::from(value) as u64;
        serialize_i32(i32) => SIGNED, |value| i64::from(value) as u64;
        serialize_i64(i64) => SIGNED, |value| value as u64;
        serialize_u8(u8) => UNSIGNED, u64::from;
        serialize_u16(u16) => UNSIGNED, u64::from;
        serialize_u32(u32) => UNSIGNED, u64::from;
        serialize_u64(u64) => UNSIGNED, |value| value;
        serialize_f32(f32) => FLOAT, |value| u64::from(value.to_bits());
        serialize_f64(f64) => FLOAT, f64::to_bits;
        serialize_char(char) => TEXT, |value| u64::from(u32::from(value));
    }

    fn serialize_str(self, value: &str) -> Result<(), Unhashable> {
        self.bytes(tag::TEXT, value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unhashable> {
        self.bytes(tag::BYTES, value)
    }

    fn serialize_none(self) -> Result<(), Unhashable> {
        self.tagged(tag::NONE, 0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unhashable> {
        self.tagged(tag::SOME, 0)?;
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unhashable> {
        self.tagged(tag::NONE, 1)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unhashable> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unhashable> {
        self.bytes(tag::VARIANT, variant.as_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unhashable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Unhashable> {
        self.bytes(tag::VARIANT, variant.as_bytes())?;
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Unhashable> {
        self.tagged(tag::OPEN, 0)?;
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Unhashable> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Unhashable> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, Unhashable> {
        self.bytes(tag::VARIANT, variant.as_bytes())?;
        self.serialize_seq(None)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Unhashable> {
        self.tagged(tag::OPEN, 1)?;
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Unhashable> {
        self.serialize_seq(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, Unhashable> {
        self.bytes(tag::VARIANT, variant.as_bytes())?;
        self.serialize_seq(None)
    }
}

/// Compounds: a mark, the members, a mark.
macro_rules! compounds {
    ($($trait:ident::$member:ident;)*) => {
        $(impl $trait for &mut Digest {
            type Ok = ();
            type Error = Unhashable;

            fn $member<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Unhashable> {
                self.tagged(tag::CLOSE, 0)
            }
        })*
    };
}

compounds! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

/// Compounds whose members have names.
macro_rules! named_compounds {
    ($($trait:ident;)*) => {
        $(impl $trait for &mut Digest {
            type Ok = ();
            type Error = Unhashable;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unhashable> {
                self.bytes(tag::TEXT, name.as_bytes())?;
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Unhashable> {
                self.tagged(tag::CLOSE, 0)
            }
        })*
    };
}

named_compounds! {
    SerializeStruct;
    SerializeStructVariant;
}

impl SerializeMap for &mut Digest {
    type Ok = ();
    type Error = Unhashable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unhashable> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Unhashable> {
        self.tagged(tag::CLOSE, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;
    use std::collections::BTreeMap;

    fn hash(value: &impl serde::Serialize) -> u64 {
        let mut digest = Digest::default();
        digest.fold(value);
        digest.value()
    }

    #[test]
    fn tells_neighbours_apart() {
        let hashes = [
            hash(&1_u8),
            hash(&true),
            hash(&"\u{1}"),
            hash(&Some(1_u8)),
            hash(&(1_u8, 0_u8)),
            hash(&("a", "bc")),
            hash(&("ab", "c")),
            hash(&["a", "b"]),
            hash(&[["a"], ["b"]]),
            hash(&BTreeMap::from([("a", "b")])),
            hash(&Option::<u8>::None),
            hash(&()),
        ];
        for (at, one) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(one), "value {at} collides");
        }
    }

    #[test]
    fn is_pinned() {
        // Servers of different builds compare it: a change here is a change of format.
        assert_eq!(hash(&("zlayer", 1_000_u64, Some(false))), PINNED);
    }

    const PINNED: u64 = 15_686_591_001_781_226_347;
}
