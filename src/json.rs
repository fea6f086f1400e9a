//! JSON objects that are objects: what serde derives for a struct also takes an array of the
//! members' values in their order, which no other reader of the same message would understand.
//! And what strings may hold without an escape.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A `T` that is written as an object. One that has a member of `T` twice is none.
#[derive(Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData))
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// Reads an object.
///
/// # Errors
/// It is none, or no `T`.
pub fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json).map(|Object(object)| object)
}

/// Reads one object, or each of an array of them: a message or a batch.
///
/// # Errors
/// It is neither, or one of them is no `T`.
pub fn objects<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<Vec<T>> {
    if json.trim_ascii_start().first() != Some(&b'[') {
        return object(json).map(|one| vec![one]);
    }
    let batch: Vec<Object<T>> = serde_json::from_slice(json)?;
    Ok(batch.into_iter().map(|Object(object)| object).collect())
}

/// Whether a text is the same between the quotes of a JSON string.
pub fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some(last) = bytes.last_chunk() else {
        return !bytes.iter().any(is_special);
    };
    // The last eight overlap those before them.
    let mut words = bytes.chunks_exact(8).filter_map(<[u8]>::first_chunk);
    first_special(*last) == 8 && words.all(|word| first_special(*word) == 8)
}

/// Where the next quote, backslash or control character is from `at` on, or the end: what a JSON
/// string cannot hold as it is.
#[inline(always)]
pub fn special(bytes: &[u8], at: usize) -> usize {
    // Most strings are short.
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(word) if first_special(*word) < 8 => at + first_special(*word),
        Some(_) => special_from(bytes, at + 8),
        None => special_from(bytes, at),
    }
}

#[inline(never)]
fn special_from(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let found = first_special(*word);
        at += found;
        if found < 8 {
            return at;
        }
    }
    while bytes.get(at).is_some_and(|byte| !is_special(byte)) {
        at += 1;
    }
    at
}

fn is_special(byte: &u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\')
}

/// Where the first quote, backslash or control character is.
///
/// Each of them makes the highest bit of its byte, by a borrow that reaches only the bytes behind
/// it (Mycroft's test for a zero in a word).
#[inline(always)]
fn first_special(word: [u8; 8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let word = u64::from_le_bytes(word);
    let is_control = word.wrapping_sub(ONES * 0x20);
    let is_quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let is_backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    // None of them has that bit itself.
    let found = (is_control | is_quote | is_backslash) & !word & (ONES << 7);
    found.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Call<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        method: Cow<'a, str>,
        params: Option<Object<Params>>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Params {
        name: String,
    }

    #[test]
    fn an_object_is_read_with_what_is_borrowed_and_nested_in_it() {
        let text = br#"{"params":{"name":"a","x":[1]},"y":{},"id":1.50,"method":"m"}"#;
        let call: Call<'_> = object(text).unwrap();
        assert_eq!(call.id.unwrap().get(), "1.50");
        assert!(matches!(call.method, Cow::Borrowed("m")));
        assert_eq!(call.params.unwrap().0.name, "a");
        let batch: Vec<Call<'_>> = objects(br#" [{"method":"a"},{"method":"b"}]"#).unwrap();
        assert_eq!(batch[1].method, "b");
    }

    #[test]
    fn a_text_is_plain_if_it_needs_no_escape_wherever_it_stands() {
        for length in 0..20 {
            let text = "a\u{7f}é".chars().cycle().take(length).collect::<String>();
            assert!(is_plain(&text), "{text:?}");
            for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
                for special in ['"', '\\', '\n', '\0', '\u{1f}'] {
                    let mut text = text.clone();
                    text.insert(at, special);
                    assert!(!is_plain(&text), "{text:?}");
                    assert_eq!(super::special(text.as_bytes(), 0), at);
                }
            }
        }
    }

    #[test]
    fn an_array_is_no_object_and_a_member_does_not_come_twice() {
        // What is guarded against.
        assert!(serde_json::from_str::<Params>(r#"["a"]"#).is_ok());
        for text in [
            r#"[1,"m",null]"#,
            r#"[[1,"m",null]]"#,
            r#"{"method":"m","params":["a"]}"#,
            r#"{"method":"m","method":"m"}"#,
            r#"{"method":"m","m\u0065thod":"n"}"#,
            r#"{"method":"m"} {}"#,
            "7",
            "",
        ] {
            assert!(objects::<Call<'_>>(text.as_bytes()).is_err(), "{text}");
            assert!(object::<Call<'_>>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
