//! Taking out of a text what the request it answers carried.

use http::HeaderMap;

const REPLACEMENT: &str = "[credential]";

/// Pieces of a value shorter than this tell nothing, and stand in every text.
const TELLING: usize = 8;

/// Takes every sensitive value in `sent`, and each of its parts, out of a text that may echo
/// it, in any case, and that may be cut anywhere.
pub fn redact(sent: &HeaderMap, text: &str) -> String {
    let mut needles: Vec<String> = sent
        .values()
        .filter(|value| value.is_sensitive())
        .flat_map(|value| parts(&String::from_utf8_lossy(value.as_bytes())))
        .collect();
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
fn parts(value: &str) -> Vec<String> {
    let is_separator = |c: char| c.is_whitespace() || ",;:=\"".contains(c);
    let mut parts: Vec<_> = value
        .split(is_separator)
        .filter(|part| part.len() >= TELLING)
        .map(str::to_ascii_lowercase)
        .collect();
    if !value.is_empty() {
        parts.push(value.to_ascii_lowercase());
    }
    parts.dedup();
    parts
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
