//! Taking out of a text what the request it answers carried.

use http::HeaderMap;
use zeroize::Zeroizing;

const REPLACEMENT: &str = "[credential]";

/// Pieces of a value shorter than this tell nothing, and stand in every text.
const TELLING: usize = 8;

/// Takes every sensitive value in `sent`, and each of its parts, out of a text that may echo
/// it, in any case, and that may be cut anywhere.
pub fn redact(sent: &HeaderMap, text: &str) -> String {
    let sensitive = sent.values().filter(|value| value.is_sensitive());
    let values = sensitive.map(|value| String::from_utf8_lossy(value.as_bytes()));
    redact_values(values, text)
}

/// As [`redact`], of values that travelled otherwise than in headers.
pub fn redact_values<T: AsRef<str>>(sent: impl IntoIterator<Item = T>, text: &str) -> String {
    let mut needles: Vec<Zeroizing<String>> = Vec::new();
    for value in sent {
        let pieces = pieces(value.as_ref().as_bytes());
        let lower = pieces.map(|piece| String::from_utf8_lossy(piece).to_ascii_lowercase());
        needles.extend(lower.map(Zeroizing::new));
    }
    needles.dedup();
    // The longest first: what is left of one that is cut is no other's.
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    let mut text = text.to_owned();
    for needle in &needles {
        text = replace_ignoring_case(&text, needle);
        text.truncate(text.len() - begun(&text, needle));
    }
    text
}

/// The value itself, and what is between its separators, such as the token after `Bearer`.
pub fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_separator = |byte: &u8| byte.is_ascii_whitespace() || b",;:=\"".contains(byte);
    let parts = value.split(is_separator);
    let telling = parts.filter(move |part| part.len() >= TELLING && part.len() < value.len());
    std::iter::once(value)
        .filter(|value| !value.is_empty())
        .chain(telling)
}

/// How many bytes at the end of `text` are the beginning of `needle`; few enough tell nothing.
fn begun(text: &str, needle: &str) -> usize {
    let lower = text.to_ascii_lowercase();
    (TELLING..needle.len())
        .rev()
        .find(|&len| needle.is_char_boundary(len) && lower.ends_with(&needle[..len]))
        .unwrap_or(0)
}

fn replace_ignoring_case(text: &str, needle: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in lower.match_indices(needle) {
        out.push_str(&text[from..at]);
        out.push_str(REPLACEMENT);
        from = at + found.len();
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn sent(value: &'static str) -> HeaderMap {
        let mut value = HeaderValue::from_static(value);
        value.set_sensitive(true);
        HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
    }

    #[test]
    fn the_beginning_of_a_value_at_the_end_of_a_cut_text_is_taken_out_too() {
        let sent = sent("abcdef0123456789");
        assert_eq!(redact(&sent, "bad: ABCDEF01234567"), "bad: ");
        assert_eq!(
            redact(&sent, "abcdef0123456789 abcdef0123"),
            "[credential] "
        );
        assert_eq!(redact(&sent, "a cab"), "a cab");
    }

    #[test]
    fn an_echoed_value_is_taken_out_in_any_case_and_the_rest_stays() {
        assert_eq!(
            redact(&sent("abcdef0123456789"), "bad é ABCDEF0123456789, sorry"),
            "bad é [credential], sorry"
        );
    }

    #[test]
    fn a_token_is_taken_out_without_its_bearer_too() {
        let sent = sent("Bearer s3cret-token");
        assert_eq!(redact(&sent, "no s3cret-token"), "no [credential]");
        assert_eq!(redact(&sent, "Bearer s3cret-token?"), "[credential]?");
        assert_eq!(redact(&sent, "a Bearer is wanted"), "a Bearer is wanted");
    }

    #[test]
    fn a_short_value_is_taken_out_and_what_is_not_sensitive_stays() {
        assert_eq!(
            redact(&sent("hush"), "you said hush!"),
            "you said [credential]!"
        );
        let open = HeaderMap::from_iter([(
            http::header::ACCEPT,
            HeaderValue::from_static("application/json"),
        )]);
        assert_eq!(
            redact(&open, "want application/json"),
            "want application/json"
        );
    }
}
