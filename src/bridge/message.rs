//! What the bridge reads in a JSON-RPC message: who waits, for what, and in which era. The bytes stay as they are.

mod ends;

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{self, Object};
use crate::mcp::mirror;

pub use ends::{END, id_of};

/// A message's id as it stands in the text: `0`, `"0"` and `9223372036854775808` are three ids.
pub type Id = Box<str>;

/// A message from the client.
#[derive(Debug)]
pub struct Message {
    pub bytes: Bytes,
    pub kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Request(Request),
    Notification {
        method: Box<str>,
        /// The request that a `notifications/cancelled` names.
        cancels: Option<Id>,
    },
    /// An answer to a request of the server's.
    Response,
    /// The requests in a batch, with their methods (up to 2025-03-26).
    Batch(Vec<(Id, Box<str>)>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub id: Id,
    pub method: Box<str>,
    /// The revision named in `_meta`: since 2026-07-28 each request says it. `None` up to 2025-11-25.
    pub version: Option<Box<str>>,
    /// What `Mcp-Name` mirrors.
    pub name: Option<Box<str>>,
}

/// Why a line cannot be relayed; the JSON-RPC code and a sentence.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable(pub i32, pub &'static str);

const NOT_JSON: Unreadable = Unreadable(-32700, "the line is no JSON");
const NO_MESSAGE: Unreadable = Unreadable(-32600, "the line is no JSON-RPC message");

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Params<'a> {
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, rename = "taskId")]
    task_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestId")]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<String>,
}

impl Message {
    /// # Errors
    /// When the line is no JSON-RPC message that a server could answer.
    pub fn parse(bytes: Bytes) -> Result<Self, Unreadable> {
        let kind = if bytes.first() == Some(&b'[') {
            parse_batch(&bytes)?
        } else {
            parse_one(&bytes)?
        };
        Ok(Self { bytes, kind })
    }

    /// The arguments of a `tools/call`, as JSON.
    pub fn arguments(&self) -> Option<&str> {
        let envelope: Envelope<'_> = json::object(&self.bytes).ok()?;
        params(envelope.params).arguments.map(RawValue::get)
    }

    /// The resource that the message is about.
    pub fn uri(&self) -> Option<Box<str>> {
        let envelope: Envelope<'_> = json::object(&self.bytes).ok()?;
        let uri: String = serde_json::from_str(params(envelope.params).uri?.get()).ok()?;
        Some(uri.into())
    }

    /// The client's own `_meta`, to ask something else in its name.
    pub fn meta(&self) -> Option<&str> {
        let envelope: Envelope<'_> = json::object(&self.bytes).ok()?;
        params(envelope.params).meta.map(RawValue::get)
    }
}

impl Kind {
    /// The request that opens a session, which there is up to 2025-11-25.
    pub fn is_initialize(&self) -> bool {
        matches!(self, Self::Request(request) if &*request.method == "initialize" && request.version.is_none())
    }

    pub fn is_initialized(&self) -> bool {
        matches!(self, Self::Notification { method, .. } if &**method == "notifications/initialized")
    }
}

fn parse_one(bytes: &[u8]) -> Result<Kind, Unreadable> {
    let envelope: Envelope<'_> = json::object(bytes).map_err(|error| {
        if error.is_data() {
            NO_MESSAGE
        } else {
            NOT_JSON
        }
    })?;
    let Some(method) = &envelope.method else {
        let is_response = envelope.result.is_some() || envelope.error.is_some();
        return if is_response {
            Ok(Kind::Response)
        } else {
            Err(NO_MESSAGE)
        };
    };
    let params = params(envelope.params);
    let method: Box<str> = method.as_ref().into();
    match envelope.id {
        Some(id) => Ok(Kind::Request(Request {
            id: answerable(id)?,
            version: version(params.meta),
            name: name(&method, &params),
            method,
        })),
        None => Ok(Kind::Notification {
            cancels: (&*method == "notifications/cancelled")
                .then_some(params.request_id)
                .flatten()
                .map(|id| id.get().into()),
            method,
        }),
    }
}

fn parse_batch(bytes: &[u8]) -> Result<Kind, Unreadable> {
    let list: Vec<Envelope<'_>> = json::objects(bytes).map_err(|error| {
        if error.is_data() {
            NO_MESSAGE
        } else {
            NOT_JSON
        }
    })?;
    if list.is_empty() {
        return Err(NO_MESSAGE);
    }
    let requests = list.iter().filter_map(|envelope| {
        let method = envelope.method.as_deref()?;
        Some(answerable(envelope.id?).map(|id| (id, method.into())))
    });
    Ok(Kind::Batch(requests.collect::<Result<_, _>>()?))
}

/// MCP knows string and number ids; nothing else could be matched by the client.
fn answerable(id: &RawValue) -> Result<Id, Unreadable> {
    match id.get().as_bytes().first() {
        Some(b'"' | b'-' | b'0'..=b'9') => Ok(id.get().into()),
        _ => Err(Unreadable(
            -32600,
            "the request's id is neither a string nor a number",
        )),
    }
}

/// Parameters of an unexpected shape are the server's to refuse.
fn params(raw: Option<&RawValue>) -> Params<'_> {
    raw.and_then(|raw| json::object(raw.get().as_bytes()).ok())
        .unwrap_or_default()
}

fn version(meta: Option<&RawValue>) -> Option<Box<str>> {
    let meta: Meta = json::object(meta?.get().as_bytes()).ok()?;
    meta.version.map(Into::into)
}

fn name(method: &str, params: &Params<'_>) -> Option<Box<str>> {
    let source = match mirror::name_source(method)? {
        "name" => params.name,
        "uri" => params.uri,
        _ => params.task_id,
    };
    let name: String = serde_json::from_str(source?.get()).ok()?;
    Some(name.into())
}

/// What the upstream sent: what of it answers a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// An answer, and the id it names, if any.
    Response(Option<&'a str>),
    /// A request or a notification.
    Other,
    Batch(Vec<&'a str>),
}

/// `None` for what is no JSON-RPC, which must not reach the client.
pub fn read(bytes: &[u8]) -> Option<Incoming<'_>> {
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let list: Vec<&RawValue> = serde_json::from_slice(bytes).ok()?;
        let list: Vec<_> = list.into_iter().map(RawValue::get).collect();
        let all_read = list
            .iter()
            .all(|one| !one.starts_with('[') && read(one.as_bytes()).is_some());
        return (all_read && !list.is_empty()).then_some(Incoming::Batch(list));
    }
    let envelope: Envelope<'_> = json::object(bytes).ok()?;
    if envelope.method.is_some() {
        return Some(Incoming::Other);
    }
    let is_response = envelope.result.is_some() || envelope.error.is_some();
    is_response.then_some(Incoming::Response(envelope.id.map(RawValue::get)))
}

/// The JSON-RPC code and message of an error answer.
pub fn error_of(bytes: &[u8]) -> Option<(i64, String)> {
    #[derive(Deserialize)]
    struct Answer {
        error: Object<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        code: i64,
        #[serde(default)]
        message: String,
    }
    let Answer {
        error: Object(error),
    } = json::object(bytes).ok()?;
    Some((error.code, error.message))
}

/// The same answer under another id: servers that read ids as floating-point numbers or not at all give them back changed.
pub fn with_id(bytes: &[u8], id: &str) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let named = json::object::<Named<'_>>(bytes).ok();
    let (before, after) = match named {
        Some(Named { id }) => {
            let start = id.get().as_ptr() as usize - bytes.as_ptr() as usize;
            (bytes[..start].to_vec(), &bytes[start + id.get().len()..])
        }
        None => {
            let open = bytes.iter().position(|&byte| byte == b'{')?;
            let mut before = bytes[..=open].to_vec();
            before.extend_from_slice(br#""id":"#);
            return Some(
                [&before, id.as_bytes(), b",", &bytes[open + 1..]]
                    .concat()
                    .into(),
            );
        }
    };
    Some([&before, id.as_bytes(), after].concat().into())
}

/// Whether two ids are one to a server that reads numbers as JavaScript does, or escapes strings otherwise.
pub fn is_same_id(one: &str, other: &str) -> bool {
    let text = |id: &str| serde_json::from_str::<String>(id).ok();
    let number = |id: &str| id.parse::<f64>().ok();
    match (text(one), text(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => number(one).is_some() && number(one) == number(other),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
