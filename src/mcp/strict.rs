//! JSON-RPC read so that nobody could read it otherwise.
//!
//! A rule on what may be called is worth what the upstream's parser agrees to.
//! Some take the first of two equal keys and some the last, some ignore case,
//! some guess encodings: a body on which two parsers could differ is refused.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a message asks for, as far as rules care.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// `None` for responses.
    pub method: Option<Cow<'a, str>>,
    /// `params.name`.
    pub name: Option<Cow<'a, str>>,
    /// `params.uri`.
    pub uri: Option<Cow<'a, str>>,
    /// `params.ref` of a completion: what would be completed.
    pub reference: Option<Reference<'a>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reference<'a> {
    pub name: Option<Cow<'a, str>>,
    pub uri: Option<Cow<'a, str>>,
}

/// Why a body cannot be judged, for the client.
#[derive(Debug, PartialEq, Eq)]
pub struct Unclear(pub String);

/// Every message in a body: one, or those of a batch.
///
/// # Errors
/// [`Unclear`] for whatever is no JSON-RPC, or could be read in more than one way.
pub fn read(body: &[u8]) -> Result<Vec<Message<'_>>, Unclear> {
    let text = std::str::from_utf8(body).map_err(|_| Unclear("it is not UTF-8".to_owned()))?;
    let is_batch = text.trim_start().starts_with('[');
    let wires: Vec<Wire<'_>> = if is_batch {
        serde_json::from_str(text)
    } else {
        serde_json::from_str(text).map(|wire| vec![wire])
    }
    .map_err(|error| Unclear(format!("it is no unambiguous JSON-RPC: {error}")))?;
    wires.into_iter().map(Message::of).collect()
}

impl<'a> Message<'a> {
    fn of(wire: Wire<'a>) -> Result<Self, Unclear> {
        let [method, params] = wire.0;
        let mut message = Message {
            method: method.map(text).transpose()?,
            ..Message::default()
        };
        let Some(params) = params.filter(|params| params.get().starts_with('{')) else {
            return Ok(message);
        };
        let Params([name, uri, reference]) = object(params)?;
        message.name = name.map(text).transpose()?;
        message.uri = uri.map(text).transpose()?;
        if let Some(reference) = reference.filter(|reference| reference.get().starts_with('{')) {
            let Target([name, uri]) = object(reference)?;
            message.reference = Some(Reference {
                name: name.map(text).transpose()?,
                uri: uri.map(text).transpose()?,
            });
        }
        Ok(message)
    }
}

fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Unclear> {
    serde_json::from_str(raw.get())
        .map_err(|error| Unclear(format!("its params are not unambiguous: {error}")))
}

/// # Errors
/// It is no string.
pub(super) fn text(raw: &RawValue) -> Result<Cow<'_, str>, Unclear> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(raw.get())
        .map(|Text(text)| text)
        .map_err(|_| Unclear("a method, name or uri in it is no string".to_owned()))
}

/// The members of an object that matter, in the order they are asked for.
pub struct Members<'a, const N: usize> {
    found: [Option<&'a RawValue>; N],
    twofold: Option<String>,
}

impl<'a, const N: usize> Members<'a, N> {
    /// # Errors
    /// It is no object.
    pub fn of(json: &'a str, names: [&'static str; N]) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let members = deserializer.deserialize_map(MemberVisitor(names))?;
        deserializer.end().map(|()| members)
    }

    /// # Errors
    /// Why two parsers could find different ones: a sentence.
    pub fn certain(self) -> Result<[Option<&'a RawValue>; N], String> {
        self.twofold.map_or(Ok(self.found), Err)
    }
}

struct MemberVisitor<const N: usize>([&'static str; N]);

impl<'de, const N: usize> Visitor<'de> for MemberVisitor<N> {
    type Value = Members<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        let mut twofold = None;
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            let mut known = self.0.iter();
            let Some(index) = known.position(|known| is_alike(known, &key.0)) else {
                continue;
            };
            if self.0[index] != key.0 {
                let (key, known) = (&key.0, self.0[index]);
                twofold = Some(format!("the key {key:?} could be read as {known:?}"));
            } else if found[index].replace(value).is_some() {
                twofold = Some(format!("the key {:?} comes twice", key.0));
            }
        }
        Ok(Members { found, twofold })
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

fn is_alike(known: &str, key: &str) -> bool {
    match key.is_ascii() {
        true => known.eq_ignore_ascii_case(key),
        false => fold(known).eq(fold(key)),
    }
}

/// Keys as a parser compares them that does not care for case: Go's, for one, which
/// also takes a long s for an s and a Kelvin sign for a k.
fn fold(key: &str) -> impl Iterator<Item = char> {
    key.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c == 'ſ' { 's' } else { c })
}

macro_rules! members {
    ($name:ident, $count:literal, $($key:literal),+) => {
        struct $name<'a>([Option<&'a RawValue>; $count]);

        impl<'de> Deserialize<'de> for $name<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let visitor = MemberVisitor([$($key),+]);
                let members = deserializer.deserialize_map(visitor)?;
                members.certain().map(Self).map_err(D::Error::custom)
            }
        }
    };
}

members!(Wire, 2, "method", "params");
members!(Params, 3, "name", "uri", "ref");
members!(Target, 2, "name", "uri");

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> Message<'_> {
        read(body.as_bytes()).unwrap().pop().unwrap()
    }

    #[test]
    fn what_is_asked_for_is_found_wherever_it_stands() {
        let message = one(
            r#"{"params":{"arguments":{"name":"no"},"name":"\u0065cho"},"id":1,"m\u0065thod":"tools/call"}"#,
        );
        assert_eq!(message.method.as_deref(), Some("tools/call"));
        assert_eq!(message.name.as_deref(), Some("echo"));
        let message = one(
            r#"{"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}"#,
        );
        assert_eq!(message.reference.unwrap().name.as_deref(), Some("p"));
    }

    #[test]
    fn each_message_of_a_batch_is_read() {
        let messages = read(br#" [{"method":"a"},{"id":1,"result":{}}]"#).unwrap();
        assert_eq!(messages[0].method.as_deref(), Some("a"));
        assert_eq!(messages[1], Message::default());
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_unclear() {
        for body in [
            r#"{"method":"ping","method":"tools/call"}"#,
            r#"{"method":"ping","Method":"tools/call"}"#,
            r#"{"method":"ping","m\u0065thod":"tools/call"}"#,
            r#"{"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","NAME":"b"}}"#,
            r#"{"method":"tools/call","params":{"name":"a"},"paramſ":{"name":"b"}}"#,
            r#"{"method":"tools/call","params":{"name":["a"]}}"#,
            r#"{"method":7}"#,
            r#"{"method":"ping"} {"method":"tools/call"}"#,
            r#"{"method":"ping"}x"#,
            r#"{"method":"ping",}"#,
            r#"{/**/"method":"ping"}"#,
            r#"{"method":"\ud800"}"#,
            "\u{feff}{\"method\":\"ping\"}",
            "'ping'",
            "",
            "7",
            "[7]",
            "[[{\"method\":\"ping\"}]]",
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        assert!(read(b"{\"method\":\"p\xff\"}").is_err());
        let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(read(&utf16).is_err());
    }
}
