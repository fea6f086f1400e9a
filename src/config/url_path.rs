//! The rules for URL paths that the configuration writes down. Stricter than those for
//! requests: nobody has a reason to configure a path that two servers read differently.

/// Percent-decodes a path, once.
///
/// # Errors
/// A sentence for the operator: no leading slash, a broken escape, an escape that
/// hides a delimiter or a control character, a dot segment, or bytes that are not UTF-8.
pub fn decode(raw: &str) -> Result<String, String> {
    if !raw.starts_with('/') {
        return Err("the path must begin with \"/\"; write one before it".into());
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            decoded.push(*first);
            rest = tail;
            continue;
        }
        let byte = escape(tail).ok_or(BROKEN_ESCAPE)?;
        if matches!(byte, b'/' | b'\\' | b'?' | b'#') {
            return Err(format!(
                "the path has an encoded {:?}; leave it out",
                char::from(byte)
            ));
        }
        decoded.push(byte);
        rest = &tail[2..];
    }
    let decoded = String::from_utf8(decoded)
        .map_err(|_| "the path does not decode to UTF-8; correct its escapes")?;
    if decoded.chars().any(|c| c.is_ascii_control()) {
        return Err("the path has a control character, plain or encoded; leave it out".into());
    }
    if decoded
        .split(['/', '\\'])
        .any(|segment| segment == "." || segment == "..")
    {
        return Err("the path has a \".\" or \"..\" segment; write the path it leads to".into());
    }
    Ok(decoded)
}

const BROKEN_ESCAPE: &str =
    "the path has a \"%\" without two hex digits after it; write \"%25\" for a percent sign";

fn escape(after_percent: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*after_percent.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(decode("/a%20b/%25zz").unwrap(), "/a b/%zz");
        assert_eq!(decode("/%C3%A9//x/").unwrap(), "/é//x/");
    }

    #[test]
    fn what_two_servers_read_differently_is_refused() {
        for (path, reason) in [
            ("a", "must begin with \"/\""),
            ("/%", "without two hex digits"),
            ("/%4", "without two hex digits"),
            ("/%+1", "without two hex digits"),
            ("/a%2fb", "encoded '/'"),
            ("/a%5cb", "encoded '\\\\'"),
            ("/a%0ab", "control character"),
            ("/a/../b", "\"..\" segment"),
            ("/a/%2e%2E", "\"..\" segment"),
            ("/a/.", "\"..\" segment"),
            ("/%ff", "UTF-8"),
        ] {
            let message = decode(path).unwrap_err();
            assert!(message.contains(reason), "{path}: {message}");
        }
    }
}
