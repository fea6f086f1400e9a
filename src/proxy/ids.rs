//! Request ids and trace context: kept if sane, made otherwise.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::hex;
use crate::mcp;

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Longest request id taken over from a client, in characters.
const MAX_ID: usize = 128;

/// The client's id if it is one that logs, headers and shells take unquoted; a new one otherwise.
pub fn request_id(sent: Option<&HeaderValue>) -> HeaderValue {
    match sent {
        Some(id) if is_sane(id.as_bytes()) => id.clone(),
        _ => {
            let mut text = [0; 32];
            hex::write(&fastrand::u128(..).to_be_bytes(), &mut text);
            header(&text)
        }
    }
}

fn is_sane(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    (1..=MAX_ID).contains(&id.len()) && id.iter().all(plain)
}

/// Leaves the client's `traceparent` if it is well-formed, and what stands beside it. Otherwise takes
/// that of the message, if it names one, or begins a new, unsampled trace.
///
/// W3C Trace Context, section 3.2; MCP 2026-07-28, `_meta`.
pub fn continue_trace(headers: &mut HeaderMap, message: Option<&[u8]>) {
    let sent = headers.get(TRACEPARENT);
    if let Some(value) = sent.filter(|value| is_traceparent(value.as_bytes())) {
        let value = value.clone();
        headers.insert(TRACEPARENT, value);
        return;
    }
    // It belongs to a parent that is not known.
    headers.remove(TRACESTATE);
    if let Some(keys) = message.and_then(mcp::trace_keys)
        && is_traceparent(keys.traceparent.as_bytes())
    {
        headers.insert(TRACEPARENT, header(keys.traceparent.as_bytes()));
        let value = |text: Option<String>| text.and_then(|text| HeaderValue::try_from(text).ok());
        if let Some(state) = value(keys.tracestate) {
            headers.insert(TRACESTATE, state);
        }
        if let Some(baggage) = value(keys.baggage) {
            headers.entry(BAGGAGE).or_insert(baggage);
        }
        return;
    }
    headers.insert(TRACEPARENT, begun());
}

/// The parent of a trace of our own, which nobody asked to have sampled.
fn begun() -> HeaderValue {
    let mut text = *b"00-________________________________-________________-00";
    // Neither may be all zeros.
    let [a, b, span] = [(); 3].map(|()| fastrand::u64(..) | 1);
    hex::write(&a.to_be_bytes(), &mut text[3..19]);
    hex::write(&b.to_be_bytes(), &mut text[19..35]);
    hex::write(&span.to_be_bytes(), &mut text[36..52]);
    header(&text)
}

fn is_traceparent(value: &[u8]) -> bool {
    let lower_hex = |part: &[u8]| {
        part.iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let zero = |part: &[u8]| part.iter().all(|&b| b == b'0');
    let parts: Vec<_> = value.split(|&byte| byte == b'-').collect();
    match parts[..] {
        [version, trace, span, flags, ..] => {
            [version, trace, span, flags].into_iter().all(lower_hex)
                && (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2)
                && version != b"ff"
                && (version != b"00" || parts.len() == 4)
                && !zero(trace)
                && !zero(span)
        }
        _ => false,
    }
}

fn header(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).expect("hex digits and dashes are legal in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_anything_else_replaced() {
        let kept = HeaderValue::from_static("req-1:abc/DEF=");
        assert_eq!(request_id(Some(&kept)), kept);
        for odd in ["", "a b", "a\"b", "{x}", &"a".repeat(129)] {
            let odd = HeaderValue::from_str(odd).unwrap();
            let made = request_id(Some(&odd));
            assert_eq!(made.len(), 32);
        }
        assert_ne!(request_id(None), request_id(None));
    }

    #[test]
    fn a_trace_is_continued_if_well_formed_and_begun_otherwise() {
        let continued = |sent: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(sent));
            headers.insert(TRACESTATE, HeaderValue::from_static("acme=1"));
            continue_trace(&mut headers, None);
            headers
        };
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = continued(good);
        assert_eq!(
            (&headers[TRACEPARENT], &headers[TRACESTATE]),
            (&good.parse().unwrap(), &"acme=1".parse().unwrap())
        );
        for bad in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "nonsense",
        ] {
            let headers = continued(bad);
            let made = &headers[TRACEPARENT];
            assert!(is_traceparent(made.as_bytes()) && made != bad, "{bad}");
            assert!(!headers.contains_key(TRACESTATE), "{bad}");
        }
    }

    #[test]
    fn a_message_names_the_trace_where_the_head_does_not() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let message = format!(
            r#"{{"params":{{"_meta":{{"traceparent":"{trace}","tracestate":"acme=1","baggage":"from=message"}}}}}}"#
        );
        let mut headers = HeaderMap::new();
        headers.insert(BAGGAGE, HeaderValue::from_static("from=head"));
        continue_trace(&mut headers, Some(message.as_bytes()));
        assert_eq!(headers[TRACEPARENT], trace);
        assert_eq!(
            (&headers[TRACESTATE], &headers[BAGGAGE]),
            (&"acme=1".parse().unwrap(), &"from=head".parse().unwrap())
        );
        let mut headers = HeaderMap::new();
        let broken = message.replace("-01", "\\n");
        continue_trace(&mut headers, Some(broken.as_bytes()));
        assert!(is_traceparent(headers[TRACEPARENT].as_bytes()) && headers.len() == 1);
    }
}
