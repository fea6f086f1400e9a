//! "Did you mean …?"

/// The known word that somebody most likely meant.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |candidate: &&str| {
        let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
        let (a, b) = (plain(word), plain(candidate));
        let within = a.len() >= 4 && (b.contains(&a) || a.contains(&b));
        let edits = strsim::damerau_levenshtein(&a, &b);
        if within { edits.min(1) } else { edits }
    };
    let close = known.map(|candidate| (distance(&candidate), candidate));
    close
        .filter(|(edits, k)| *edits <= (k.len() / 3).clamp(1, 3))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_of_the_finger_are_recognised_and_other_words_are_not() {
        let known = [
            "request_timeout",
            "connect_timeout",
            "url",
            "tcp",
            "unix",
            "max_body",
        ];
        let near = |word| nearest(word, known.into_iter());
        assert_eq!(near("request_timeot"), Some("request_timeout"));
        assert_eq!(near("request-timeout"), Some("request_timeout"));
        assert_eq!(near("URL"), Some("url"));
        assert_eq!(near("body"), Some("max_body"));
        assert_eq!(near("tls"), None);
        assert_eq!(near("allow"), None);
        assert_eq!(near(""), None);
    }
}
