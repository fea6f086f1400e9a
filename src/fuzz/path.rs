//! Request paths: what passes has one reading, and that is the one which is signed.

use crate::path;

pub fn check(data: &[u8]) {
    let Ok(raw) = std::str::from_utf8(data) else {
        return;
    };
    let (strict, lenient) = (path::check(raw, false), path::check(raw, true));
    if let Ok(decoded) = &lenient {
        let theirs = decode(data).expect("a broken escape passed");
        assert_eq!(decoded[..], theirs[..]);
        assert!(
            !theirs.iter().any(u8::is_ascii_control),
            "a control character passed"
        );
        let mut segments = theirs.split(|byte| matches!(byte, b'/' | b'\\'));
        assert!(
            !segments.any(|part| part == b"." || part == b".."),
            "a step passed"
        );
        for cut in 0..=decoded.len() {
            let rest = path::after_decoded(raw, cut);
            if raw.is_char_boundary(raw.len() - rest.len()) && !rest.is_empty() {
                assert_eq!(path::decode(rest)[..], decoded[cut..]);
            }
        }
    }
    if let Ok(decoded) = &strict {
        assert_eq!(
            Ok(decoded),
            lenient.as_ref(),
            "the strict rule is no part of the lenient one"
        );
        // Whether a server decodes first or splits first must make no difference.
        for delimiter in [b'/', b'\\', b'?', b'#'] {
            let split: Option<Vec<_>> = data.split(|byte| *byte == delimiter).map(decode).collect();
            let decoded: Vec<_> = decoded.split(|byte| *byte == delimiter).collect();
            assert_eq!(split.expect("a broken escape passed"), decoded);
        }
    }
}

/// Percent-decoding, once more; `None` where an escape is broken.
fn decode(raw: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        if raw[at] == b'%' {
            let digits = std::str::from_utf8(raw.get(at + 1..at + 3)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            out.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            out.push(raw[at]);
            at += 1;
        }
    }
    Some(out)
}
