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

use super::scan::{self, Scanner};

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
        let Some(params) = params.filter(|params| params.starts_with('{')) else {
            return Ok(message);
        };
        let Params([name, uri, reference]) = object(params)?;
        message.name = name.map(text).transpose()?;
        message.uri = uri.map(text).transpose()?;
        if let Some(reference) = reference.filter(|reference| reference.starts_with('{')) {
            let Target([name, uri]) = object(reference)?;
            message.reference = Some(Reference {
                name: name.map(text).transpose()?,
                uri: uri.map(text).transpose()?,
            });
        }
        Ok(message)
    }
}

fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Unclear> {
    serde_json::from_str(json)
        .map_err(|error| Unclear(format!("its params are not unambiguous: {error}")))
}

/// The text that `json`, one value, stands for.
///
/// # Errors
/// It is no string.
pub(super) fn text(json: &str) -> Result<Cow<'_, str>, Unclear> {
    let plain = scan::Text::of(json).filter(|text| !text.has_escapes);
    if let Some(plain) = plain {
        return Ok(Cow::Borrowed(plain.inside));
    }
    serde_json::from_str(json)
        .map(|Text(text)| text)
        .map_err(|_| Unclear("a method, name or uri in it is no string".to_owned()))
}

/// `None` if it stands for no text: half a surrogate pair.
#[cold]
fn decoded(inside: &str) -> Option<Cow<'_, str>> {
    text(&format!("\"{inside}\""))
        .ok()
        .map(|text| Cow::Owned(text.into_owned()))
}

/// The members of an object that matter, in the order they are asked for, each as it stands.
pub struct Members<'a, const N: usize> {
    names: [&'static str; N],
    found: [Option<&'a str>; N],
    twofold: Option<String>,
    /// A key stands for no text.
    is_garbled: bool,
}

impl<'a, const N: usize> Members<'a, N> {
    /// `None` for what is no object.
    pub fn of(json: &'a str, names: [&'static str; N]) -> Option<Self> {
        let mut scanner = Scanner::new(json);
        let (members, _) = Self::scanned(&mut scanner, names)?;
        scanner.end()?;
        members.unless_garbled()
    }

    /// The members, and the object as it stands.
    #[inline(always)]
    fn scanned(scanner: &mut Scanner<'a>, names: [&'static str; N]) -> Option<(Self, &'a str)> {
        let mut members = Self::new(names);
        let object = scanner.object(|key, scanner| {
            let value = scanner.value()?;
            members.take_scanned(key, value);
            Some(())
        })?;
        Some((members, object))
    }

    fn new(names: [&'static str; N]) -> Self {
        Self {
            names,
            found: [None; N],
            twofold: None,
            is_garbled: false,
        }
    }

    #[inline(always)]
    fn take_scanned(&mut self, key: scan::Text<'a>, value: &'a str) {
        if !key.has_escapes {
            return self.take(key.inside, value);
        }
        match decoded(key.inside) {
            Some(key) => self.take(&key, value),
            None => self.is_garbled = true,
        }
    }

    fn take(&mut self, key: &str, value: &'a str) {
        let exactly = self.names.iter().position(|known| *known == key);
        match exactly.or_else(|| self.alike(key)) {
            Some(index) if exactly.is_none() => self.could_be(key, self.names[index]),
            Some(index) if self.found[index].replace(value).is_some() => self.comes_twice(key),
            _ => {}
        }
    }

    #[cold]
    fn could_be(&mut self, key: &str, known: &str) {
        self.twofold = Some(format!("the key {key:?} could be read as {known:?}"));
    }

    #[cold]
    fn comes_twice(&mut self, key: &str) {
        self.twofold = Some(format!("the key {key:?} comes twice"));
    }

    fn alike(&self, key: &str) -> Option<usize> {
        let mut names = self.names.iter();
        match key.is_ascii() {
            true => names.position(|known| known.eq_ignore_ascii_case(key)),
            false => names.position(|known| fold(known).eq(fold(key))),
        }
    }

    fn unless_garbled(self) -> Option<Self> {
        (!self.is_garbled).then_some(self)
    }

    /// # Errors
    /// Why two parsers could find different ones: a sentence.
    pub fn certain(self) -> Result<[Option<&'a str>; N], String> {
        self.twofold.map_or(Ok(self.found), Err)
    }
}

/// The `method` and the `params` of a message, and the members of its parameters in the same go.
///
/// `None` for what is no object, be it the message or its parameters.
pub fn with_params<'a, const N: usize>(
    json: &'a str,
    names: [&'static str; N],
) -> Option<(Members<'a, 2>, Option<Members<'a, N>>)> {
    let mut scanner = Scanner::new(json);
    let mut message = Members::new(["method", "params"]);
    let mut params = None;
    scanner.object(|key, scanner| {
        let value = if key.inside == "params" && scanner.peek()? == b'{' {
            let (members, value) = Members::scanned(scanner, names)?;
            params = members.unless_garbled();
            value
        } else {
            scanner.value()?
        };
        message.take_scanned(key, value);
        Some(())
    })?;
    scanner.end()?;
    // A key may be written in other ways.
    let params = params.or_else(|| Members::of(message.found[1]?, names));
    Some((message.unless_garbled()?, params))
}

/// The same, by serde: it can say where a body is wrong.
struct MemberVisitor<const N: usize>([&'static str; N]);

impl<'de, const N: usize> Visitor<'de> for MemberVisitor<N> {
    type Value = Members<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::new(self.0);
        while let Some(Text(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            members.take(&key, value.get());
        }
        Ok(members)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Keys as a parser compares them that does not care for case: Go's, for one, which
/// also takes a long s for an s and a Kelvin sign for a k.
fn fold(key: &str) -> impl Iterator<Item = char> {
    key.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c == 'ſ' { 's' } else { c })
}

macro_rules! members {
    ($name:ident, $count:literal, $($key:literal),+) => {
        struct $name<'a>([Option<&'a str>; $count]);

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
