//! Whether a request's mirrored headers say what its body says (2026-07-28, Streamable HTTP, "Request Metadata").
//!
//! Others on the way may decide by the headers alone: a request whose headers
//! and body disagree must not be signed.

use std::borrow::Cow;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use memchr::memmem::Finder;

use super::mirror::{self, METHOD, NAME, PROTOCOL_VERSION};
use super::params::{Catalog, Twofold};
use super::strict::{self, Members};
use super::{STATELESS_SINCE, is_stateless};

/// JSON-RPC's code for it.
pub const HEADER_MISMATCH: i32 = -32020;

/// A request of the stateless era, as far as headers mirror it.
pub struct Mirrored<'a> {
    method: Cow<'a, str>,
    version: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    /// JSON.
    arguments: Option<&'a str>,
}

/// Which header disagrees, and how: a sentence for the client.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch(pub String);

impl<'a> Mirrored<'a> {
    /// Reads a body; `None` if it is of the eras before, or nothing that headers could mirror.
    ///
    /// # Errors
    /// A key that comes twice: the headers can agree with one of the two at most.
    pub fn read(headers: &HeaderMap, body: &'a [u8]) -> Result<Option<Self>, Mismatch> {
        if !may_be_modern(headers, body) {
            return Ok(None);
        }
        let Ok(body) = std::str::from_utf8(body) else {
            return Ok(None);
        };
        let names = ["_meta", "name", "uri", "taskId", "arguments"];
        // What does not parse is the upstream's to refuse; what parses in two ways is ours.
        let Some((message, params)) = strict::with_params(body, names) else {
            return Ok(None);
        };
        let [method, _] = unless_twofold(message)?;
        let Some(method) = method.and_then(text) else {
            return Ok(None);
        };
        let [meta, name, uri, task_id, arguments] = match params {
            Some(params) => unless_twofold(params)?,
            None => [None; 5],
        };
        let [version] = match meta.and_then(|meta| Members::of(meta, [mirror::VERSION_KEY])) {
            Some(meta) => unless_twofold(meta)?,
            None => [None],
        };
        let version = version.and_then(text);
        let is_modern = is_stateless(headers)
            || version
                .as_deref()
                .is_some_and(|version| version >= STATELESS_SINCE);
        if !is_modern {
            return Ok(None);
        }
        let name = mirror::name_source(&method).and_then(|source| match source {
            "name" => name,
            "uri" => uri,
            _ => task_id,
        });
        Ok(Some(Self {
            name: name.and_then(text),
            arguments,
            version,
            method,
        }))
    }

    /// Compares every mirrored header that is there with the body.
    ///
    /// # Errors
    /// The first that says something else.
    pub fn check(&self, headers: &HeaderMap, catalog: &Catalog) -> Result<(), Mismatch> {
        if let (Some(header), Some(body)) = (only(headers, &PROTOCOL_VERSION)?, &self.version) {
            agree(&PROTOCOL_VERSION, &header, Some(body))?;
        }
        if let Some(header) = only(headers, &METHOD)? {
            agree(&METHOD, &header, Some(&self.method))?;
        }
        if let Some(header) = only(headers, &NAME)?
            && mirror::name_source(&self.method).is_some()
        {
            agree(&NAME, &decode(&NAME, &header)?, self.name.as_deref())?;
        }
        if let ("tools/call", Some(tool)) = (&*self.method, &self.name) {
            let arguments = self.arguments.unwrap_or("{}");
            for (name, body) in catalog.mirrored(tool, arguments) {
                let body = body.map_err(|Twofold(key)| {
                    Mismatch(format!("the argument {key:?} comes twice in the body"))
                })?;
                if let Some(header) = only(headers, name)? {
                    let header = decode(name, &header)?;
                    if !body
                        .as_deref()
                        .is_some_and(|body| same_number(&header, body))
                    {
                        agree(name, &header, body.as_deref())?;
                    }
                }
            }
        }
        Ok(())
    }

    pub fn lists_tools(&self) -> bool {
        self.method == "tools/list"
    }

    /// Adds the mirrored headers that are missing.
    pub fn complete(&self, headers: &mut HeaderMap, catalog: &Catalog) {
        let mut add = |name: HeaderName, value: &str| {
            headers.entry(name).or_insert_with(|| mirror::encode(value));
        };
        // These two have no encoded form: what no header can hold as it is goes without.
        let as_is = [
            (PROTOCOL_VERSION, self.version.as_deref()),
            (METHOD, Some(&*self.method)),
        ];
        for (name, value) in as_is {
            if let Some(value) = value.filter(|value| mirror::encode(value) == **value) {
                add(name, value);
            }
        }
        let Some(name) = &self.name else { return };
        add(NAME, name);
        if self.method == "tools/call" {
            for (header, value) in catalog.mirrored(name, self.arguments.unwrap_or("{}")) {
                if let Ok(Some(value)) = value {
                    add(header.clone(), &value);
                }
            }
        }
    }
}

/// Made once: a search is prepared in more time than it takes.
static VERSION: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(mirror::VERSION_KEY));

/// Most requests of the eras before are told by a look, and not parsed again.
fn may_be_modern(headers: &HeaderMap, body: &[u8]) -> bool {
    is_stateless(headers)
        || headers.contains_key(METHOD)
        || headers.contains_key(NAME)
        || VERSION.find(body).is_some()
}

fn text(json: &str) -> Option<Cow<'_, str>> {
    strict::text(json).ok()
}

fn unless_twofold<const N: usize>(members: Members<'_, N>) -> Result<[Option<&str>; N], Mismatch> {
    members.certain().map_err(|why| {
        Mismatch(format!(
            "two parsers could read the body differently: {why}"
        ))
    })
}

/// A header's value, if it is there.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, Mismatch> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Mismatch(format!("the header {name} comes more than once")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(Cow::Borrowed(text.trim_matches([' ', '\t'])))),
        Err(_) => Err(Mismatch(format!("the header {name} is not ASCII"))),
    }
}

fn agree(name: &HeaderName, header: &str, body: Option<&str>) -> Result<(), Mismatch> {
    match body {
        Some(body) if body == header => Ok(()),
        Some(_) => Err(Mismatch(format!(
            "the header {name} says something else than the body"
        ))),
        None => Err(Mismatch(format!(
            "the header {name} says something that the body does not"
        ))),
    }
}

fn decode<'a>(name: &HeaderName, value: &'a str) -> Result<Cow<'a, str>, Mismatch> {
    let Some(encoded) = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    else {
        return Ok(Cow::Borrowed(value));
    };
    STANDARD
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Cow::Owned)
        .ok_or_else(|| Mismatch(format!("the header {name} is no valid Base64 of UTF-8")))
}

/// `42` and `42.0` are one number, in a plain decimal notation.
fn same_number(one: &str, other: &str) -> bool {
    let whole = |text: &str| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        (is_plain && fraction.bytes().all(|byte| byte == b'0')).then(|| whole.to_owned())
    };
    matches!((whole(one), whole(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"écho","arguments":{"n":42,"s":"x"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        catalog.learn(
            r#"{"result":{"tools":[{"name":"écho","inputSchema":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"},"m":{"type":"string","x-mcp-header":"M"}}}}]}}"#.as_bytes(),
        );
        catalog
    }

    fn check(pairs: &[(&'static str, &'static str)], body: &str) -> Result<(), Mismatch> {
        let headers = headers(pairs);
        match Mirrored::read(&headers, body.as_bytes())? {
            Some(mirrored) => mirrored.check(&headers, &catalog()),
            None => Ok(()),
        }
    }

    #[test]
    fn headers_that_agree_or_are_missing_pass() {
        for pairs in [
            &[][..],
            &[
                ("mcp-protocol-version", "2026-07-28"),
                ("mcp-method", "tools/call"),
                ("mcp-name", "=?base64?w6ljaG8=?="),
            ],
            &[("mcp-param-n", "42")],
            &[("mcp-param-n", "42.0")],
            &[("mcp-param-other", "7")],
        ] {
            assert_eq!(check(pairs, CALL), Ok(()), "{pairs:?}");
        }
    }

    #[test]
    fn each_header_that_disagrees_is_named() {
        for (name, value) in [
            ("mcp-protocol-version", "2027-01-01"),
            ("mcp-method", "tools/list"),
            ("mcp-method", "TOOLS/CALL"),
            ("mcp-name", "echo"),
            ("mcp-name", "=?base64?!?="),
            ("mcp-name", ""),
            ("mcp-param-n", "43"),
            ("mcp-param-n", "4.2e1"),
            ("mcp-param-m", "absent from the body"),
        ] {
            let Mismatch(said) = check(&[(name, value)], CALL).unwrap_err();
            assert!(said.contains(name), "{said}");
        }
        assert!(
            check(
                &[("mcp-method", "tools/call"), ("mcp-method", "tools/call")],
                CALL
            )
            .is_err()
        );
    }

    #[test]
    fn the_eras_before_have_no_such_headers() {
        let body = r#"{"id":1,"method":"tools/call","params":{"name":"a"}}"#;
        assert_eq!(check(&[("mcp-method", "ping")], body), Ok(()));
        assert!(
            check(
                &[
                    ("mcp-method", "ping"),
                    ("mcp-protocol-version", "2026-07-28")
                ],
                body
            )
            .is_err()
        );
    }

    #[test]
    fn what_the_body_says_twice_agrees_with_nothing() {
        let twice = CALL.replace(r#""name":"écho""#, r#""name":"écho","name":"other""#);
        assert!(check(&[("mcp-protocol-version", "2026-07-28")], &twice).is_err());
        assert_eq!(
            check(&[("mcp-protocol-version", "2026-07-28")], "{nonsense"),
            Ok(())
        );
    }

    #[test]
    fn what_another_parser_would_read_differently_agrees_with_nothing() {
        for (one, twofold) in [
            (r#""method":"#, r#""Method":"tools/list","method":"#),
            (r#""params":"#, r#""paramſ":{},"params":"#),
            (r#""name":"#, r#""NAME":"other","name":"#),
            (r#""name":"#, r#""taskid":"other","name":"#),
            (r#""n":42"#, r#""n":42,"n":43"#),
            (r#""n":42"#, r#""n":42,"\u006e":43"#),
        ] {
            let body = CALL.replacen(one, twofold, 1);
            let headers = [("mcp-method", "tools/call"), ("mcp-param-n", "42")];
            assert!(check(&headers, &body).is_err(), "{body}");
        }
        // Arguments that are not mirrored are the tool's own business, and so is their case.
        for own in [r#""n":42,"x":1,"x":2"#, r#""n":42,"N":43"#] {
            let body = CALL.replace(r#""n":42"#, own);
            assert_eq!(check(&[("mcp-param-n", "42")], &body), Ok(()), "{body}");
        }
    }

    #[test]
    fn a_method_that_no_header_can_hold_is_not_mirrored() {
        let body = CALL.replace("tools/call", "tools\\u007fcall");
        let mut headers = headers(&[("mcp-protocol-version", "2026-07-28")]);
        let mirrored = Mirrored::read(&headers, body.as_bytes()).unwrap().unwrap();
        mirrored.complete(&mut headers, &catalog());
        assert_eq!(headers.get("mcp-method"), None);
    }

    #[test]
    fn missing_headers_are_filled_in_and_present_ones_stay() {
        let mut headers = headers(&[("mcp-name", "mine")]);
        let mirrored = Mirrored::read(&headers, CALL.as_bytes()).unwrap().unwrap();
        mirrored.complete(&mut headers, &catalog());
        let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(value("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(value("mcp-method"), Some("tools/call"));
        assert_eq!(value("mcp-name"), Some("mine"));
        assert_eq!(value("mcp-param-n"), Some("42"));
        assert_eq!(value("mcp-param-m"), None);
    }
}
