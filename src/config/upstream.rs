//! `[upstream.NAME]`.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue};

use super::cache::decode_cache;
use super::decode::{Field, Section};
use super::limits::decode_concurrency;
use super::retry::{decode_breaker, decode_retry};
use super::secret::decode_secret;
use super::suggest::nearest;
use super::target::{self, Kind};
use super::tls::decode_tls;
use super::{
    Breaker, Cache, ClockSource, HttpVersion, Retry, SessionHeader, SessionRecovery, SseFallback,
    Target, Upstream, Upstream401,
};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(15 * 60);

/// Headers that are the connection's, the body's or the signature's own: a fixed value
/// would break every request.
const RESERVED_HEADERS: [&str; 17] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "mcp-session-id",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key-id",
    "x-request-id",
    "x-signature",
    "x-timestamp",
];

const IN_CLEAR: &str = "signatures cross the network in clear, and whoever sees one can use it \
                        for 300 s; use https";

/// An upstream's name is part of log lines, metric labels and `/readyz`.
pub fn check_name(field: &Field<'_>) {
    let name = field.key();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        field.key_problem(format!(
            "{name:?} is no name; use up to 64 letters, digits, \"-\", \"_\" and \".\""
        ));
    }
}

/// `credentials` are the names that `[credential.NAME]` tables define, in order.
pub fn decode_upstream(field: &Field<'_>, credentials: &[&str]) -> Option<Upstream> {
    check_name(field);
    let mut s = field.section()?;
    let target = decode_target(&mut s);
    let credential = decode_credential_name(&mut s, credentials);
    let session = s.field("session").and_then(|field| decode_session(&field));
    let request_timeout = s.field("request_timeout").and_then(|f| f.duration());
    let connect_timeout = s.field("connect_timeout").and_then(|f| f.duration());
    let response_idle_timeout = s.field("response_idle_timeout").and_then(|f| f.duration());
    let max_connection_age = s.field("max_connection_age").and_then(|f| f.duration());
    let clock = s.field("clock").and_then(|f| {
        f.choice(&[
            ("local", ClockSource::Local),
            ("upstream", ClockSource::Upstream),
        ])
    });
    let tls = decode_tls(&mut s);
    let http_version = s.field("http_version").and_then(|f| {
        f.choice(&[
            ("auto", HttpVersion::Auto),
            ("1.1", HttpVersion::Http1),
            ("2", HttpVersion::Http2),
        ])
    });
    let allow_encoded_slash = s.field("allow_encoded_slash").and_then(|f| f.boolean());
    let upstream_401 = s.field("upstream_401").and_then(|f| {
        f.choice(&[
            ("translate", Upstream401::Translate),
            ("pass", Upstream401::Pass),
        ])
    });
    let sse_fallback = s.field("sse_fallback").and_then(|f| {
        let (auto, always, never) = (SseFallback::Auto, SseFallback::Always, SseFallback::Never);
        f.choice(&[("auto", auto), ("always", always), ("never", never)])
    });
    let session_recovery = s.field("session_recovery").and_then(|f| {
        f.choice(&[
            ("off", SessionRecovery::Off),
            ("replay", SessionRecovery::Replay),
        ])
    });
    let stream_recovery = s.field("stream_recovery").and_then(|f| f.boolean());
    let forward_authorization = s.field("forward_authorization").and_then(|f| f.boolean());
    let mirror_headers = s.field("mirror_headers").and_then(|f| f.boolean());
    let (retry, breaker) = (decode_retry(&mut s), decode_breaker(&mut s));
    let concurrency = s.field("concurrency").and_then(|f| decode_concurrency(&f));
    let cache = decode_cache(&mut s);
    s.finish();
    let (target, place) = target?;
    if target.scheme == Scheme::HTTP && !target.is_local() && credential.is_some() {
        place.warn(IN_CLEAR);
    }
    Some(Upstream {
        name: field.key().to_owned(),
        target,
        credential,
        session,
        request_timeout: request_timeout.unwrap_or(REQUEST_TIMEOUT),
        connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        response_idle_timeout: response_idle_timeout.unwrap_or(RESPONSE_IDLE_TIMEOUT),
        max_connection_age: max_connection_age.unwrap_or(MAX_CONNECTION_AGE),
        clock: clock.unwrap_or_default(),
        tls: Arc::new(tls),
        http_version: http_version.unwrap_or_default(),
        allow_encoded_slash: allow_encoded_slash.unwrap_or_default(),
        upstream_401: upstream_401.unwrap_or_default(),
        sse_fallback: sse_fallback.unwrap_or_default(),
        session_recovery: session_recovery.unwrap_or_default(),
        stream_recovery: stream_recovery.unwrap_or_default(),
        forward_authorization: forward_authorization.unwrap_or_default(),
        mirror_headers: mirror_headers.unwrap_or_default(),
        retry,
        breaker,
        concurrency,
        cache,
    })
}

/// The target, and the field that names it.
fn decode_target<'a>(s: &mut Section<'a>) -> Option<(Target, Field<'a>)> {
    let advice = "write url = \"https://…/\" (or endpoint = \"https://…/mcp\")";
    let field = s.exactly_one(&["url", "endpoint"], advice)?;
    let kind = if field.key() == "url" {
        Kind::Url
    } else {
        Kind::Endpoint
    };
    let target = field.parse(|text| target::parse(text, kind))?;
    Some((target, field))
}

/// The credential's index. An upstream without one is legal: some want no signature.
fn decode_credential_name(s: &mut Section<'_>, credentials: &[&str]) -> Option<usize> {
    let Some(field) = s.field("credential") else {
        s.warn("requests go out unsigned; add credential = \"NAME\" if the upstream wants one");
        return None;
    };
    find_credential(&field, credentials)
}

/// The index of the credential that `field` names.
pub fn find_credential(field: &Field<'_>, credentials: &[&str]) -> Option<usize> {
    let name = field.text()?;
    let index = credentials.iter().position(|known| *known == name);
    if index.is_none() {
        let advice = match nearest(name, credentials.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("define it as [credential.{name}.auth-gateway]"),
        };
        field.problem(format!("there is no credential {name:?}; {advice}"));
    }
    index
}

fn decode_session(field: &Field<'_>) -> Option<SessionHeader> {
    let mut s = field.section()?;
    let name = match s.field("header") {
        Some(header) => header.parse(header_name),
        None => Some(HeaderName::from_static("x-session-id")),
    };
    let advice = "write value = { file = \"/path/to/it\" }, or set MCP_SESSION_VALUE";
    let value = s.required("value", advice).and_then(|value| {
        let secret = decode_secret(&value)?;
        if HeaderValue::from_bytes(secret.expose()).is_err() {
            value.problem("the value has characters that no HTTP header may hold; correct it");
        }
        Some(secret)
    });
    s.finish();
    Some(SessionHeader {
        name: name?,
        value: value?,
    })
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{text:?} is no header name; write one such as \"x-session-id\""))?;
    if RESERVED_HEADERS.contains(&name.as_str()) {
        return Err(format!(
            "{name} has a meaning of its own; choose another header"
        ));
    }
    Ok(name)
}

impl Upstream {
    /// A place to reach without a credential, all else as it is by default.
    pub fn unsigned(name: &str, target: Target) -> Self {
        Self {
            name: name.to_owned(),
            target,
            credential: None,
            session: None,
            request_timeout: REQUEST_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            response_idle_timeout: RESPONSE_IDLE_TIMEOUT,
            max_connection_age: MAX_CONNECTION_AGE,
            clock: ClockSource::default(),
            tls: Arc::default(),
            http_version: HttpVersion::default(),
            allow_encoded_slash: false,
            upstream_401: Upstream401::default(),
            sse_fallback: SseFallback::default(),
            session_recovery: SessionRecovery::default(),
            stream_recovery: false,
            forward_authorization: false,
            mirror_headers: false,
            retry: Some(Retry::default()),
            breaker: Some(Breaker::default()),
            concurrency: None,
            cache: Cache::default(),
        }
    }
}
