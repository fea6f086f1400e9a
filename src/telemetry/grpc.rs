//! The one call of gRPC that OTLP makes, in its framing over HTTP/2 (gRPC, "gRPC over HTTP2").
//!
//! The messages are those of OTLP over HTTP, byte for byte; only what is around them differs.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{StatusCode, response};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

pub fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (TE, HeaderValue::from_static("trailers")),
    ])
}

pub fn framed(message: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(PREFIX + message.len());
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.put_slice(message);
    body.freeze()
}

/// What is in the body; nothing if it is not there whole.
pub fn message(body: &Bytes) -> Bytes {
    let length = body
        .get(1..PREFIX)
        .and_then(|length| length.try_into().ok());
    let length = length.map_or(0, |length| u32::from_be_bytes(length) as usize);
    let end = PREFIX.saturating_add(length);
    if body.first() == Some(&0) && end <= body.len() {
        body.slice(PREFIX..end)
    } else {
        Bytes::new()
    }
}

/// The status of OTLP over HTTP that says the same: whether it was taken, and if not, whether to
/// try again (OTLP specification, "Failures"). An answer without a status was taken by nobody.
pub fn status(head: &response::Parts, trailers: Option<&HeaderMap>) -> StatusCode {
    if head.status != StatusCode::OK {
        return head.status;
    }
    // Without a body they come together with the head.
    let said = trailers.and_then(|trailers| trailers.get(STATUS));
    let said = said.or_else(|| head.headers.get(STATUS));
    match said.map(HeaderValue::as_bytes) {
        Some(b"0") => StatusCode::OK,
        Some(b"16") => StatusCode::UNAUTHORIZED,
        Some(b"1" | b"4" | b"8" | b"10" | b"11" | b"14" | b"15") => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) => StatusCode::BAD_REQUEST,
        None => StatusCode::BAD_GATEWAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    fn answered(in_head: Option<&'static str>, in_trailers: Option<&'static str>) -> StatusCode {
        let with = |value: Option<&'static str>| {
            let status = value.map(|value| (STATUS, HeaderValue::from_static(value)));
            HeaderMap::from_iter(status)
        };
        let mut head = Response::new(()).into_parts().0;
        head.headers = with(in_head);
        status(&head, Some(&with(in_trailers)))
    }

    #[test]
    fn a_message_comes_out_as_it_went_in_and_half_of_one_not_at_all() {
        let body = framed(b"batch");
        assert_eq!(&body[..PREFIX], [0, 0, 0, 0, 5]);
        assert_eq!(message(&body), "batch");
        for length in 0..body.len() {
            assert_eq!(message(&body.slice(..length)), "");
        }
        assert_eq!(
            message(&Bytes::from_static(&[0, 255, 255, 255, 255, 1])),
            ""
        );
    }

    #[test]
    fn only_a_zero_means_taken_wherever_it_stands() {
        assert_eq!(answered(None, Some("0")), 200);
        assert_eq!(answered(Some("0"), None), 200);
        assert_eq!(answered(Some("14"), None), 503);
        assert_eq!(answered(None, Some("3")), 400);
        assert_eq!(answered(None, Some("16")), 401);
        assert_eq!(answered(None, None), 502);
    }
}
