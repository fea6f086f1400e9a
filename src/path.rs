//! Request paths: what they decode to, which are refused, how a prefix is cut off.
//!
//! The gateway verifies the decoded path while the wire carries the raw one, so
//! two raw paths with one decoded form would share a signature. Paths that
//! could be read in two ways are therefore refused before anything is signed.

use std::borrow::Cow;

/// Why a path is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    NotAbsolute,
    BrokenEscape,
    ControlCharacter,
    DotSegment,
    EncodedDelimiter,
}

impl Refused {
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotAbsolute => "the request target has no path that starts with /",
            Self::BrokenEscape => "the path has a % that is not followed by two hex digits",
            Self::ControlCharacter => "the path decodes to a control character",
            Self::DotSegment => "the path has a . or .. segment",
            Self::EncodedDelimiter => {
                "the path has an encoded /, \\, ? or #, which this upstream does not allow \
                 (allow_encoded_slash)"
            }
        }
    }
}

/// Percent-decodes once; a broken escape stays as it is ([`check`] refuses those).
pub fn decode(raw: &str) -> Cow<'_, [u8]> {
    if !raw.as_bytes().contains(&b'%') {
        return Cow::Borrowed(raw.as_bytes());
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match escape(rest) {
            Some(decoded) => {
                out.push(decoded);
                rest = &rest[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(out)
}

/// Percent-decodes once, into text: what is no UTF-8 then is replaced.
pub fn decode_lossy(raw: &str) -> String {
    String::from_utf8_lossy(&decode(raw)).into_owned()
}

/// The byte that `%XX` at the start of `bytes` stands for.
fn escape(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
        }
        _ => None,
    }
}

/// Refuses what must not be signed. Returns the decoded path.
///
/// # Errors
/// The first rule of the module's that `raw` breaks.
pub fn check(raw: &str, allow_encoded_slash: bool) -> Result<Cow<'_, [u8]>, Refused> {
    if !raw.starts_with('/') {
        return Err(Refused::NotAbsolute);
    }
    check_escapes(raw.as_bytes(), allow_encoded_slash)?;
    let decoded = decode(raw);
    if decoded.iter().any(|&byte| byte < 0x20 || byte == 0x7f) {
        return Err(Refused::ControlCharacter);
    }
    // Some servers take a backslash for a slash: dots beside either are a step up.
    let mut segments = decoded.split(|&byte| byte == b'/' || byte == b'\\');
    if segments.any(|segment| segment == b"." || segment == b"..") {
        return Err(Refused::DotSegment);
    }
    Ok(decoded)
}

fn check_escapes(raw: &[u8], allow_encoded_slash: bool) -> Result<(), Refused> {
    for (at, _) in raw.iter().enumerate().filter(|&(_, &byte)| byte == b'%') {
        let decoded = escape(&raw[at..]).ok_or(Refused::BrokenEscape)?;
        if !allow_encoded_slash && matches!(decoded, b'/' | b'\\' | b'?' | b'#') {
            return Err(Refused::EncodedDelimiter);
        }
    }
    Ok(())
}

/// What is left of `raw` after the part that decodes to `decoded_len` bytes.
pub fn after_decoded(raw: &str, decoded_len: usize) -> &str {
    let mut at = 0;
    for _ in 0..decoded_len {
        at += if escape(&raw.as_bytes()[at..]).is_some() {
            3
        } else {
            1
        };
    }
    raw.get(at..).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_is_borrowed_as_it_is() {
        assert!(matches!(
            check("//a//b", false),
            Ok(Cow::Borrowed(b"//a//b"))
        ));
    }

    #[test]
    fn escapes_are_decoded_exactly_once() {
        assert_eq!(
            &*check("/a%2520b/%E4%B8%96", false).unwrap(),
            "/a%20b/世".as_bytes()
        );
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for (raw, why) in [
            ("*", Refused::NotAbsolute),
            ("", Refused::NotAbsolute),
            ("/a%2", Refused::BrokenEscape),
            ("/%zz", Refused::BrokenEscape),
            ("/%+1", Refused::BrokenEscape),
            ("/a%00b", Refused::ControlCharacter),
            ("/a%0ab", Refused::ControlCharacter),
            ("/a%7f", Refused::ControlCharacter),
            ("/a/../b", Refused::DotSegment),
            ("/a/./b", Refused::DotSegment),
            ("/a/..", Refused::DotSegment),
            ("/%2e%2E/b", Refused::DotSegment),
            ("/.%2e/b", Refused::DotSegment),
            ("/a/..\\b", Refused::DotSegment),
            ("/a%2fb", Refused::EncodedDelimiter),
            ("/a%5Cb", Refused::EncodedDelimiter),
            ("/a%3fb", Refused::EncodedDelimiter),
            ("/a%23b", Refused::EncodedDelimiter),
        ] {
            assert_eq!(check(raw, false).unwrap_err(), why, "{raw}");
        }
    }

    #[test]
    fn encoded_slashes_pass_where_allowed_but_dot_segments_between_them_never() {
        assert_eq!(&*check("/a%2Fb%3F", true).unwrap(), b"/a/b?");
        assert_eq!(check("/a%2f..%2fb", true).unwrap_err(), Refused::DotSegment);
        assert_eq!(check("/a%5c..", true).unwrap_err(), Refused::DotSegment);
    }

    #[test]
    fn three_dots_and_hidden_names_are_ordinary_segments() {
        assert!(check("/.../.hidden/a..b", false).is_ok());
    }

    #[test]
    fn a_prefix_is_cut_by_its_decoded_length() {
        assert_eq!(after_decoded("/%61cme/mcp", "/acme".len()), "/mcp");
        assert_eq!(after_decoded("/acme", "/acme".len()), "");
    }

    proptest::proptest! {
        #[test]
        fn what_passes_decodes_to_what_a_second_implementation_decodes(raw in "/[ -~]{0,40}") {
            if let Ok(decoded) = check(&raw, true) {
                let theirs: Vec<u8> = percent_encoding::percent_decode_str(&raw).collect();
                proptest::prop_assert_eq!(&*decoded, &theirs[..]);
            }
        }

        #[test]
        fn the_rest_after_a_prefix_decodes_to_the_rest_of_the_decoded(raw in "/[a-z%0-9]{0,30}", cut in 0usize..10) {
            if let Ok(decoded) = check(&raw, true) {
                let cut = cut.min(decoded.len());
                proptest::prop_assert_eq!(&*decode(after_decoded(&raw, cut)), &decoded[cut..]);
            }
        }
    }
}
