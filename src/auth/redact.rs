//! Taking out of a text what the request it answers carried.

use zeroize::Zeroizing;

use super::Added;

const REPLACEMENT: &str = "[credential]";

/// Pieces of a value shorter than this tell nothing, and stand in every text.
const TELLING: usize = 8;

/// Takes every sensitive value in `sent`, and each of its parts, out of a text that may echo
/// it, in any case, plainly or with the escapes of JSON, and that may be cut anywhere.
pub fn redact(sent: &Added, text: &str) -> String {
    redact_values(sent.secrets().map(String::from_utf8_lossy), text)
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
        text = without(&text, needle, &Reading::plain(&text));
        if text.contains('\\') {
            text = without(&text, needle, &Reading::unescaped(&text));
        }
    }
    text
}

/// The value itself, and what is between its separators, such as the token after `Bearer`.
pub fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_separator = |byte: &u8| {
        matches!(
            byte,
            b' ' | b'\t'..=b'\r' | b',' | b';' | b':' | b'=' | b'"'
        )
    };
    // Without branches, for most have none; and what has none is looked at no further.
    let plain = |plain, byte: &u8| plain & !is_separator(byte);
    let cut = if value.iter().fold(true, plain) {
        &[]
    } else {
        value
    };
    let parts = cut.split(is_separator);
    let telling = parts.filter(move |part| part.len() >= TELLING && part.len() < value.len());
    std::iter::once(value)
        .filter(|value| !value.is_empty())
        .chain(telling)
}

/// A text in lower case, as somebody reads it.
struct Reading {
    lower: String,
    /// Where in the text each byte of `lower` begins, and where the last one ends; the same
    /// places if there is none.
    at: Option<Vec<usize>>,
}

impl Reading {
    fn plain(text: &str) -> Self {
        Self {
            lower: text.to_ascii_lowercase(),
            at: None,
        }
    }

    /// With every escape of JSON as what it stands for. One that is cut off at the end says nothing yet.
    fn unescaped(text: &str) -> Self {
        let (mut lower, mut at) = (String::new(), Vec::new());
        let mut rest = text;
        while let Some((c, length)) = first(rest) {
            lower.push(c.to_ascii_lowercase());
            at.resize(lower.len(), text.len() - rest.len());
            rest = &rest[length..];
        }
        at.push(text.len() - rest.len());
        Self {
            lower,
            at: Some(at),
        }
    }

    fn place(&self, at: usize) -> usize {
        self.at.as_ref().map_or(at, |places| places[at])
    }

    /// How long the end is that begins `needle`; few enough bytes tell nothing.
    fn begun(&self, needle: &str) -> Option<usize> {
        (TELLING..needle.len()).rev().find(|&length| {
            needle.is_char_boundary(length) && self.lower.ends_with(&needle[..length])
        })
    }
}

/// The first character that a text of JSON says, and how many bytes it takes to say it.
fn first(text: &str) -> Option<(char, usize)> {
    let c = text.chars().next()?;
    let Some(escape) = text.strip_prefix('\\') else {
        return Some((c, c.len_utf8()));
    };
    let Some(code) = escape.strip_prefix('u') else {
        let escaped = escape.chars().next()?;
        return Some((escaped, 1 + escaped.len_utf8()));
    };
    match code.get(..4) {
        Some(digits) => match u32::from_str_radix(digits, 16).map(char::from_u32) {
            Ok(Some(c)) => Some((c, 6)),
            _ => Some((c, 1)),
        },
        None if code.len() < 4 => None,
        None => Some((c, 1)),
    }
}

fn without(text: &str, needle: &str, reading: &Reading) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in reading.lower.match_indices(needle) {
        out.push_str(&text[from..reading.place(at)]);
        out.push_str(REPLACEMENT);
        from = reading.place(at + found.len());
    }
    let end = reading.begun(needle).map_or(text.len(), |length| {
        reading.place(reading.lower.len() - length)
    });
    // A value may end with its own beginning.
    out.push_str(&text[from..end.max(from)]);
    out
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn sent(value: &'static str) -> Added {
        let mut value = HeaderValue::from_static(value);
        value.set_sensitive(true);
        Added::from([(http::header::AUTHORIZATION, value)])
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
    fn a_value_is_taken_out_however_json_spells_it() {
        let sent = sent("Bearer s3cret/token");
        let spelled: fn(u8) -> String = |byte| format!("\\u{byte:04X}");
        let all: String = "s3cret/token".bytes().map(spelled).collect();
        for spelled in [r"s3cret\/token", r"S\u0033cr\u0065t\/token", &all] {
            let body = format!(r#"{{"error":"no {spelled}","é":"\ud83d\u00e9"}}"#);
            assert_eq!(
                redact(&sent, &body),
                r#"{"error":"no [credential]","é":"\ud83d\u00e9"}"#
            );
        }
        for cut in 48..72 {
            assert_eq!(redact(&sent, &format!("no {}", &all[..cut])), "no ");
        }
        let path = r"C:\users\new \u12 \ud800 \uéé";
        assert_eq!(redact(&sent, path), path);
    }

    #[test]
    fn a_short_value_is_taken_out_and_what_is_not_sensitive_stays() {
        assert_eq!(
            redact(&sent("hush"), "you said hush!"),
            "you said [credential]!"
        );
        let open = Added::from([(
            http::header::ACCEPT,
            HeaderValue::from_static("application/json"),
        )]);
        assert_eq!(
            redact(&open, "want application/json"),
            "want application/json"
        );
    }
}
