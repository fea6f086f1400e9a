//! An upstream's response on its way to the client: whole, byte for byte, with few and stated exceptions.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};
use http_body_util::BodyExt;

use super::error::{Code, Error};
use super::lens::Lens;
use super::location::through_proxy;
use super::source::Source;
use super::{Call, Proxy, answer, cache, exchange, stream, whole};
use crate::auth::{self, Added};
use crate::client;
use crate::config::{Route, Upstream401};
use crate::message;
use crate::snapshot::Upstream;

/// How much of a refusal's text is quoted, in bytes.
const MAX_QUOTE: usize = 512;
/// How long we wait for it.
const QUOTE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

pub async fn incoming(
    proxy: &Proxy,
    call: &Call<'_>,
    route: usize,
    upstream: &Arc<Upstream>,
    response: Response<client::Body>,
    sent: &Added,
    lens: Option<Box<Lens>>,
) -> Result<Response<Source>, Error> {
    if response.status().is_informational() {
        return Err(Error::not_asked_for(upstream, response.status()));
    }
    // Of HTTP/1, none comes that has one.
    if response.version() == Version::HTTP_2
        && let Some(fault) = message::framing_fault(response.headers())
    {
        return Err(Error::of_framing(upstream, fault));
    }
    if response.status() == StatusCode::UNAUTHORIZED && is_about_us(upstream) {
        return Err(rejected_credential(upstream, response.into_body(), sent).await);
    }
    if upstream.auth.is_some() && response.status().is_success() {
        upstream.health.credential_accepted();
    }
    let (mut head, body) = response.into_parts();
    message::remove_hop_by_hop(&mut head.headers);
    remove_forbidden(&mut head.headers);
    remove_echoes(&mut head.headers, sent);
    rewrite_location(
        &mut head.headers,
        &call.snapshot.config.routes[route],
        upstream,
    );
    head.version = Version::HTTP_11;
    // A stream of events may be silent for as long as there are none.
    let is_event_stream = stream::is_event_stream(&head.headers);
    let body = if is_event_stream {
        body
    } else {
        body.within(upstream.config.response_idle_timeout)
    };
    let body = if is_event_stream && stream::can_be_kept_alive(&head.headers) {
        let endpoint =
            stream::Endpoint::new(Arc::clone(call.snapshot), route, Arc::clone(upstream));
        Source::events(stream::passing(
            body,
            &call.head.method,
            endpoint,
            lens,
            &proxy.draining,
        ))
    } else {
        match lens {
            Some(lens) if lens.wants_whole() && whole::is_json(&head.headers) => {
                lens.whole(upstream, &mut head.headers, body).await?
            }
            Some(lens) if lens.must_see_all() && is_event_stream => {
                let why = "is an event stream that is compressed, or of a fixed length";
                return Err(Error::unfiltered(upstream, why));
            }
            Some(mut lens) => {
                lens.sees_nothing();
                Source::Upstream(body)
            }
            None => Source::Upstream(body),
        }
    };
    Ok(Response::from_parts(head, body))
}

/// A 401 says something about our credential, unless the client brought its own.
fn is_about_us(upstream: &Upstream) -> bool {
    upstream.auth.is_some()
        && upstream.config.upstream_401 == Upstream401::Translate
        && !upstream.config.forward_authorization
}

/// The 401 as a 503: MCP clients answer a 401 with OAuth discovery and then give the server up for dead.
async fn rejected_credential(upstream: &Upstream, body: client::Body, sent: &Added) -> Error {
    let words = auth::redact(sent, &quote(body).await);
    let name = &upstream.config.name;
    upstream
        .health
        .credential_refused(words.clone(), Instant::now());
    // What a credential that is no longer good once got is nobody's any more.
    upstream.cache.private.void_all();
    let said = if words.is_empty() {
        "without a word".to_owned()
    } else {
        format!("saying: {words}")
    };
    Error::new(
        Code::UpstreamRejectedCredential,
        format!(
            "upstream {name} refused the proxy's credential, {said}; check key, secret and clock, then reload the proxy"
        ),
    )
}

/// The beginning of a short text, in one line.
async fn quote(mut body: client::Body) -> String {
    let mut bytes = BytesMut::new();
    let reading = async {
        while bytes.len() < MAX_QUOTE
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        }
    };
    let _ = tokio::time::timeout(QUOTE_PATIENCE, reading).await;
    bytes.truncate(MAX_QUOTE);
    let text = String::from_utf8_lossy(&bytes);
    text.split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// No page may be told that it can read us, no client that another server stands for us, and
/// nothing of ours may be claimed by the upstream.
fn remove_forbidden(headers: &mut HeaderMap) {
    let ours = [
        header::ALT_SVC,
        answer::ERROR_HEADER,
        exchange::ATTEMPTS_HEADER,
        cache::HEADER,
    ];
    let is_dropped =
        |name: &&HeaderName| name.as_str().starts_with("access-control-") || ours.contains(name);
    let dropped: Vec<_> = headers.keys().filter(is_dropped).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// An upstream that answers with what it was asked would hand our credential to the client.
fn remove_echoes(headers: &mut HeaderMap, sent: &Added) {
    let secrets: Vec<_> = sent.secrets().flat_map(auth::pieces).collect();
    let shows = |value: &[u8], secret: &[u8]| {
        let mut windows = value.windows(secret.len());
        windows.any(|window| window.eq_ignore_ascii_case(secret))
    };
    let dropped: Vec<_> = headers
        .iter()
        .filter(|(_, value)| secrets.iter().any(|secret| shows(value.as_bytes(), secret)))
        .map(|(name, _)| name.clone())
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// A `Location` at the upstream's own origin leads around the proxy: it is made to lead through it.
fn rewrite_location(headers: &mut HeaderMap, route: &Route, upstream: &Upstream) {
    let rewritten = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|location| through_proxy(location, route, upstream))
        .and_then(|location| HeaderValue::try_from(location).ok());
    if let Some(location) = rewritten {
        headers.insert(header::LOCATION, location);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_shows_any_part_of_a_credential_is_dropped() {
        let mut secret =
            HeaderValue::from_static("AWS4 Id=us/aws4, Signature=0123456789abcdef, v=1");
        secret.set_sensitive(true);
        let sent = Added::from([(header::AUTHORIZATION, secret)]);
        let mut headers = HeaderMap::new();
        headers.insert("x-part", HeaderValue::from_static("0123456789ABCDEF"));
        headers.insert("x-other", HeaderValue::from_static("v=1 aws4"));
        remove_echoes(&mut headers, &sent);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-other"]);
    }
}
