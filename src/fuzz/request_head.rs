//! The scanner of request heads, against httparse: no head with two lengths gets past it.

use super::{pieces, seeded};
use crate::serve::head::HeadScanner;

pub fn check(data: &[u8]) {
    let (seed, data) = seeded(data);
    if data.starts_with(b"PRI") {
        return;
    }
    let mut whole = HeadScanner::default();
    whole.feed(data);
    let mut cut = HeadScanner::default();
    for piece in pieces(seed, data) {
        cut.feed(piece);
    }
    let seen = |scanner: &HeadScanner| (scanner.two_lengths_at(), scanner.is_inside_head());
    assert_eq!(seen(&whole), seen(&cut), "a cut changes what is seen");
    match reference(data) {
        Reading::TwoLengths(at) => assert_eq!(
            whole.two_lengths_at(),
            Some(at),
            "a head with two lengths goes unseen"
        ),
        Reading::Clean { inside_head } => {
            assert_eq!(
                whole.two_lengths_at(),
                None,
                "two lengths are seen where there is one"
            );
            assert_eq!(whole.is_inside_head(), inside_head);
        }
        Reading::Refused => {}
    }
}

enum Reading {
    /// The head with this number has both.
    TwoLengths(u64),
    Clean {
        inside_head: bool,
    },
    /// hyper closes such a connection; whatever comes then goes nowhere.
    Refused,
}

/// Follows requests as hyper does.
fn reference(mut rest: &[u8]) -> Reading {
    for at in 0.. {
        let mut lines = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut lines);
        let head = match request.parse(rest) {
            Ok(httparse::Status::Complete(length)) => length,
            // Blank lines before a request are nobody's.
            Ok(httparse::Status::Partial) => {
                let inside_head = rest.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
                return match rest {
                    [] => Reading::Clean { inside_head: false },
                    _ if inside_head => Reading::Clean { inside_head },
                    _ => Reading::Refused,
                };
            }
            Err(_) => return Reading::Refused,
        };
        let values = |name: &str| -> Vec<&[u8]> {
            let lines = request.headers.iter();
            let lines = lines.filter(|line| line.name.eq_ignore_ascii_case(name));
            lines.map(|line| line.value).collect()
        };
        let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
        rest = &rest[head..];
        rest = match (&lengths[..], &codings[..]) {
            ([], []) => rest,
            ([_, ..], [_, ..]) => return Reading::TwoLengths(at),
            ([], [coding])
                if coding.eq_ignore_ascii_case(b"chunked") && request.version == Some(1) =>
            {
                match chunked(rest) {
                    Some(rest) => rest,
                    None => return Reading::Refused,
                }
            }
            ([length], []) => match std::str::from_utf8(length).ok().and_then(number) {
                Some(length) if length <= rest.len() => &rest[length..],
                Some(_) => return Reading::Clean { inside_head: false },
                None => return Reading::Refused,
            },
            _ => return Reading::Refused,
        };
    }
    Reading::Refused
}

fn number(digits: &str) -> Option<usize> {
    let is_plain = digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

/// What is behind a chunked body that is there whole, in the plainest of forms.
fn chunked(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?;
        let is_plain = size.len() <= 16 && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16).ok().filter(|_| is_plain)?;
        rest = &rest[end + 2..];
        if size == 0 {
            return rest.strip_prefix(b"\r\n");
        }
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
