//! URL paths that the configuration writes down: under the rules for requests' paths,
//! with words for the operator.

use crate::path::{self, Refused};

/// Percent-decodes a path, once.
///
/// # Errors
/// A sentence for the operator. It never repeats the path: that of an upstream's URL may
/// be a secret.
pub fn decode(raw: &str) -> Result<String, String> {
    let decoded = path::check(raw, false).map_err(advice)?;
    String::from_utf8(decoded.into_owned())
        .map_err(|_| "the path does not decode to UTF-8; correct its escapes".to_owned())
}

fn advice(refused: Refused) -> String {
    let advice = match refused {
        Refused::NotAbsolute => "the path must begin with \"/\"; write one before it",
        Refused::BrokenEscape => {
            "the path has a \"%\" without two hex digits after it; \
             write \"%25\" for a percent sign"
        }
        Refused::ControlCharacter => {
            "the path has a control character, plain or encoded; leave it out"
        }
        Refused::DotSegment => "the path has a \".\" or \"..\" segment; write the path it leads to",
        Refused::EncodedDelimiter => {
            "the path has an encoded \"/\", \"\\\", \"?\" or \"#\"; leave it out"
        }
    };
    advice.to_owned()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn a_path_is_decoded_once_and_refused_without_being_repeated() {
        assert_eq!(decode("/a%20b/%25zz").unwrap(), "/a b/%zz");
        assert_eq!(decode("/%C3%A9//x/").unwrap(), "/é//x/");
        for path in [
            "hidden",
            "/hidden%",
            "/hidden%2f",
            "/hidden%0a",
            "/hidden/..",
            "/hidden%ff",
        ] {
            assert!(!decode(path).unwrap_err().contains("hidden"));
        }
    }
}
