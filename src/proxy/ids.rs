//! Request ids and trace context: kept if sane, made otherwise.

use http::HeaderValue;

/// Longest request id taken over from a client, in characters.
const MAX_ID: usize = 128;

/// The client's id if it is one that logs, headers and shells take unquoted; a new one otherwise.
pub fn request_id(sent: Option<&HeaderValue>) -> HeaderValue {
    match sent {
        Some(id) if is_sane(id.as_bytes()) => id.clone(),
        _ => header(&hex(fastrand::u128(..))),
    }
}

fn is_sane(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    (1..=MAX_ID).contains(&id.len()) && id.iter().all(plain)
}

/// The client's `traceparent` if it is well-formed; otherwise a new, unsampled trace.
///
/// W3C Trace Context, section 3.2.
pub fn traceparent(sent: Option<&HeaderValue>) -> HeaderValue {
    match sent {
        Some(value) if is_traceparent(value.as_bytes()) => value.clone(),
        _ => {
            let (trace, span) = (hex(fastrand::u128(1..)), hex(fastrand::u128(1..)));
            header(format!("00-{}-{}-00", as_str(&trace), &as_str(&span)[..16]).as_bytes())
        }
    }
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

fn hex(number: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(number >> (124 - 4 * at)) as usize & 15])
}

fn as_str(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
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
        let good =
            HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(traceparent(Some(&good)), good);
        for bad in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "nonsense",
        ] {
            let made = traceparent(Some(&HeaderValue::from_static(bad)));
            assert!(is_traceparent(made.as_bytes()) && made != bad, "{bad}");
        }
    }
}
