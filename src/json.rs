//! JSON objects that are objects: what serde derives for a struct also takes an array of the
//! members' values in their order, which no other reader of the same message would understand.

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
