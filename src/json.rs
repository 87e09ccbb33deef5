//! Writes JSON, and reads an object field by field, so that an error can name the field.
//!
//! Clients' frames and the arguments of Claude's tool calls are read with it. Strings without escapes are borrowed,
//! unknown fields are skipped, the last of two equal fields counts (as in JavaScript), and `null` counts as left out,
//! because programs that fill in every field send it.
//!
//! What programs in other languages take for JSON is read, too, on a second try, so that all else costs nothing more: a
//! byte order mark before it, half of a character (`"\ud83d"`), which becomes U+FFFD, and a number out of range.

use std::borrow::Cow;
use std::fmt;
use std::io;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, de};
use serde_json::value::RawValue;

pub use claude_socket_client::protocol::check_name;
use claude_socket_client::protocol::{FieldError, FieldErrorKind, replace_lone_surrogates};

/// Some programs put it before a text, to say that it is UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Appends a value as JSON. It cannot fail: the types written here have string keys only, and writing to memory cannot
/// fail.
pub fn write(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("these types are always JSON");
}

/// Returns the length of a value as JSON, in bytes: what [`write()`] appends.
pub fn len(value: &(impl Serialize + ?Sized)) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).expect("these types are always JSON");
    counter.0
}

/// Counts what is written to it.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the length of a text inside a JSON string, in bytes, without the quotes. No client can have written it
/// shorter: only what must be escaped is (RFC 8259, section 7), as briefly as possible.
pub fn text_len(text: &str) -> usize {
    text.bytes().map(byte_len).sum()
}

/// Returns `true` if a text has at most `max` bytes inside a JSON string. That is known at a glance of most texts.
pub fn fits(text: &str, max: usize) -> bool {
    const LONGEST_ESCAPE: usize = r"\u0001".len();
    text.len() <= max / LONGEST_ESCAPE || text_len(text) <= max
}

/// Returns the longest start of a text that has at most `max` bytes inside a JSON string.
pub fn start(text: &str, max: usize) -> &str {
    let mut length = 0;
    let end = text.bytes().position(|byte| {
        length += byte_len(byte);
        length > max
    });
    end.map_or(text, |end| &text[..text.floor_char_boundary(end)])
}

/// The length of a text's byte inside a JSON string.
fn byte_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// Why a text has no fields to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectError {
    /// It is not JSON.
    Syntax,
    /// It is JSON, but not an object.
    OtherKind,
}

/// Reads the fields of these names, and returns them in this order.
pub fn object<'a, const N: usize>(
    text: &'a str,
    names: [&'static str; N],
) -> Result<[Field<'a>; N], ObjectError> {
    let mut fields = names.map(Field::named);
    read_into(text, &mut fields)?;
    Ok(fields)
}

/// A set of fields that are read in place.
pub trait Fields<'a> {
    /// Returns the field of this name.
    fn find(&mut self, name: &str) -> Option<&mut Field<'a>>;
}

impl<'a, const N: usize> Fields<'a> for [Field<'a>; N] {
    fn find(&mut self, name: &str) -> Option<&mut Field<'a>> {
        self.iter_mut().find(|field| field.name == name)
    }
}

/// Makes a struct of fields from one list of their names: the struct, `new`, and how a field is found. A JSON name that
/// is no Rust identifier follows a `=`.
macro_rules! fields {
    ($(#[$attribute:meta])* struct $struct:ident { $($field:ident $(= $name:literal)?),* $(,)? }) => {
        $(#[$attribute])*
        struct $struct<'a> {
            $($field: $crate::json::Field<'a>,)*
        }

        impl $struct<'_> {
            fn new() -> Self {
                Self {
                    $($field: $crate::json::Field::named($crate::json::fields!(@ $field $($name)?)),)*
                }
            }
        }

        impl<'a> $crate::json::Fields<'a> for $struct<'a> {
            fn find(&mut self, name: &str) -> Option<&mut $crate::json::Field<'a>> {
                $(if name == $crate::json::fields!(@ $field $($name)?) {
                    return Some(&mut self.$field);
                })*
                None
            }
        }
    };
    (@ $field:ident) => { stringify!($field) };
    (@ $field:ident $name:literal) => { $name };
}
pub(crate) use fields;

/// Reads an object into these fields, and skips all others. If it fails, the fields before the error are there.
pub fn read_into<'a>(text: &'a str, fields: &mut dyn Fields<'a>) -> Result<(), ObjectError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(Object(fields));
    match read.and_then(|()| json.end()) {
        Ok(()) => Ok(()),
        Err(_) => read_again(text, fields),
    }
}

/// Reads an object that could not be read as it is.
#[cold]
fn read_again<'a>(text: &str, fields: &mut dyn Fields<'a>) -> Result<(), ObjectError> {
    lenient(text, |text| {
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_map(RawObject(fields));
        read.and_then(|()| json.end()).map_err(|error| {
            // What follows a value of another kind has not been read yet.
            let is_json = error.is_data() && serde_json::from_str::<IgnoredAny>(text).is_ok();
            if is_json {
                ObjectError::OtherKind
            } else {
                ObjectError::Syntax
            }
        })
    })
}

/// Reads a JSON text with a function, and if that fails once more without what only Rust takes for an error: a byte
/// order mark before it (RFC 8259, section 8.1), and halves of characters.
pub fn lenient<T, E>(text: &str, mut read: impl FnMut(&str) -> Result<T, E>) -> Result<T, E> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    read(text).or_else(|error| match replace_lone_surrogates(text) {
        Some(repaired) => read(&repaired),
        None => Err(error),
    })
}

/// Reads a JSON text of any kind.
pub fn value(text: &str) -> serde_json::Result<serde_json::Value> {
    lenient(text, |text| serde_json::from_str(text))
}

/// A field of an object, with a value of any kind.
#[derive(Debug)]
pub struct Field<'a> {
    name: &'static str,
    value: Value<'a>,
}

/// The value of a field. Of arrays and objects only the kind is kept, because no caller reads their contents.
#[derive(Debug)]
pub enum Value<'a> {
    /// Left out, or `null`.
    Absent,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    Array,
    Object,
}

impl Field<'_> {
    /// Returns a field that has not been read yet.
    pub fn named(name: &'static str) -> Self {
        let value = Value::Absent;
        Self { name, value }
    }

    /// Returns `true` if the value is this text.
    pub fn is(&self, text: &str) -> bool {
        matches!(&self.value, Value::Text(value) if value == text)
    }

    /// Returns the value, if there is one.
    ///
    /// # Errors
    /// Fails if the value is of another kind.
    pub fn optional<'f, T: FromField<'f>>(&'f self) -> Result<Option<T>, FieldError> {
        match (&self.value, T::read(&self.value)) {
            (Value::Absent, _) => Ok(None),
            (_, Some(value)) => Ok(Some(value)),
            (other, None) => {
                let (expected, found) = (T::NAME, other.kind());
                Err(FieldErrorKind::WrongKind { expected, found }.of(self.name))
            }
        }
    }

    /// Returns the value.
    ///
    /// # Errors
    /// Fails if the field is missing, or its value of another kind.
    pub fn required<'f, T: FromField<'f>>(&'f self) -> Result<T, FieldError> {
        self.optional()?
            .ok_or_else(|| FieldErrorKind::Missing { expected: T::NAME }.of(self.name))
    }

    /// Returns the text.
    ///
    /// # Errors
    /// Fails if the field is missing, empty or of another kind.
    pub fn required_text(&self) -> Result<&str, FieldError> {
        let text: &str = self.required()?;
        if text.is_empty() {
            return Err(FieldErrorKind::Empty.of(self.name));
        }
        Ok(text)
    }

    /// Returns a name that fits into a line.
    ///
    /// # Errors
    /// Fails if the name is missing, empty or of another kind, has more than `max` characters, or holds control characters.
    pub fn required_name(&self, max: usize) -> Result<&str, FieldError> {
        let name = self.required_text()?;
        check_name(self.name, name, max)?;
        Ok(name)
    }

    /// Returns a name that fits into a line. An empty one counts as left out.
    ///
    /// # Errors
    /// Fails if the name has more than `max` characters, or holds control characters.
    pub fn optional_name(&self, max: usize) -> Result<Option<&str>, FieldError> {
        let name = self.optional::<&str>()?.filter(|name| !name.is_empty());
        if let Some(name) = name {
            check_name(self.name, name, max)?;
        }
        Ok(name)
    }
}

/// A type that a field can be read as.
pub trait FromField<'f>: Sized {
    /// Names the kind of value in an error message.
    const NAME: &'static str;
    /// Returns the value, if it is of this kind.
    fn read(value: &'f Value<'_>) -> Option<Self>;
}

impl<'f> FromField<'f> for &'f str {
    const NAME: &'static str = "a string";
    fn read(value: &'f Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl FromField<'_> for bool {
    const NAME: &'static str = "true or false";
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }
}

impl FromField<'_> for f64 {
    const NAME: &'static str = "a number";
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Number(number) if number.is_finite() => Some(*number),
            _ => None,
        }
    }
}

impl Value<'static> {
    /// Reads a value. A number out of range is infinite.
    fn of(json: &RawValue) -> serde_json::Result<Self> {
        let json = json.get();
        Ok(match json.as_bytes().first() {
            Some(b'"') => Self::Text(serde_json::from_str::<String>(json)?.into()),
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            Some(b't' | b'f') => Self::Bool(serde_json::from_str(json)?),
            Some(b'n') => Self::Absent,
            _ => Self::Number(json.parse().map_err(de::Error::custom)?),
        })
    }
}

impl Value<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Bool(_) => bool::NAME,
            Self::Number(number) if number.is_infinite() => "a number out of range",
            Self::Number(_) => f64::NAME,
            Self::Text(_) => <&str>::NAME,
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// Reads an object into these fields.
struct Object<'f, 'a>(&'f mut dyn Fields<'a>);

impl<'de> Visitor<'de> for Object<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        while let Some(field) = map.next_key_seed(FieldSeed(self.0))? {
            match field {
                Some(field) => field.value = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads an object into these fields, each value by itself: a number may be out of range.
struct RawObject<'f, 'a>(&'f mut dyn Fields<'a>);

impl<'de> Visitor<'de> for RawObject<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        while let Some(field) = map.next_key_seed(FieldSeed(self.0))? {
            match field {
                Some(field) => {
                    field.value = Value::of(map.next_value()?).map_err(de::Error::custom)?
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads a key, and finds its field.
struct FieldSeed<'f, 'a>(&'f mut dyn Fields<'a>);

impl<'de, 'f, 'a> DeserializeSeed<'de> for FieldSeed<'f, 'a> {
    type Value = Option<&'f mut Field<'a>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'f, 'a> Visitor<'_> for FieldSeed<'f, 'a> {
    type Value = Option<&'f mut Field<'a>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.find(key))
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Value::Absent)
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Value::Bool(flag))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Value::Number(number as f64))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Value::Number(number as f64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Value::Number(number))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Value::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Value::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Array)
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Object)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lengths_are_those_of_what_is_written(text in any::<String>(), controls in "[\\x00-\\x7f\u{80}\u{2028}🤖]{0,40}", max in 0_usize..80) {
            for text in [text, controls] {
                let mut written = Vec::new();
                write(&mut written, &text);
                prop_assert_eq!(len(&text), written.len());
                prop_assert_eq!(text_len(&text), written.len() - 2);
                prop_assert_eq!(fits(&text, max), text_len(&text) <= max);
                let cut = start(&text, max);
                prop_assert!(text_len(cut) <= max);
                let next = text[cut.len()..].chars().next();
                prop_assert!(next.is_none_or(|next| text_len(cut) + text_len(&next.to_string()) > max));
            }
        }
    }
}
