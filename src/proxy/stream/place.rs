//! Where an event stream stands: what it takes to go on elsewhere (WHATWG HTML, section 9.2.6).

use http::HeaderValue;

use crate::backoff::Backoff;
use crate::sse;

/// A stream with a longer id is opened again from now on, not from there on.
const MAX_ID: usize = 1024;

#[derive(Debug, Default)]
pub struct Place {
    pub last_id: Option<HeaderValue>,
    pub backoff: Backoff,
    /// It began with an `endpoint` event (2024-11-05): its session is the stream, and ends with it.
    pub is_old_transport: bool,
}

impl Place {
    /// Notes a whole event.
    pub fn note(&mut self, event: &[u8]) {
        for (name, value) in sse::fields(event) {
            // A comment is no sign that the stream is of use.
            self.backoff.reset();
            match name {
                b"event" if value == b"endpoint" => self.is_old_transport = true,
                // An empty id takes the last one back; one with a NUL is none.
                b"id" if !value.contains(&0) => self.last_id = id(value),
                b"retry" => self.ask(value),
                _ => {}
            }
        }
    }

    fn ask(&mut self, value: &[u8]) {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let milliseconds = std::str::from_utf8(value)
            .ok()
            .filter(|_| is_number)
            .and_then(|value| value.parse().ok());
        if let Some(milliseconds) = milliseconds {
            self.backoff.ask(milliseconds);
        }
    }
}

fn id(value: &[u8]) -> Option<HeaderValue> {
    (1..=MAX_ID)
        .contains(&value.len())
        .then(|| HeaderValue::from_bytes(value).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn after(events: &[&str]) -> Place {
        let mut place = Place::default();
        for event in events {
            place.note(event.as_bytes());
        }
        place
    }

    #[test]
    fn the_last_id_stays_until_another_comes_or_it_is_taken_back() {
        for (events, id) in [
            (&["data: 1\n\n"][..], None),
            (&["id: 7\ndata: 1\n\n", "data: 2\n\n"], Some("7")),
            (&["id:7\n\n", "id: 8\n\n"], Some("8")),
            (&["id: 7\r\n\r\n", ":comment\r\n\r\n"], Some("7")),
            (&["id: 7\n\n", "id\n\n"], None),
            (&["id: 7\n\n", "id: a\0b\n\n"], Some("7")),
            (&["id: 7\nid: 8\n\n"], Some("8")),
            (&["id:  7\n\n"], Some(" 7")),
        ] {
            let found = after(events).last_id;
            assert_eq!(
                found.as_ref().map(HeaderValue::as_bytes),
                id.map(str::as_bytes)
            );
        }
    }

    #[test]
    fn an_id_that_no_header_can_carry_is_not_mistaken_for_the_one_before() {
        let long = format!("id: {}\n\n", "x".repeat(MAX_ID + 1));
        for event in [long.as_str(), "id: a\u{1}b\n\n"] {
            assert_eq!(after(&["id: 7\n\n", event]).last_id, None);
        }
    }

    #[test]
    fn a_pause_is_asked_for_in_digits_alone() {
        let asked = |event: &str| after(&[event]).backoff.asked();
        assert_eq!(asked("retry: 1500\n\n"), Some(Duration::from_millis(1500)));
        for nonsense in [
            "retry: \n\n",
            "retry: -1\n\n",
            "retry: 1.5\n\n",
            "retry: +5\n\n",
        ] {
            assert_eq!(asked(nonsense), None, "{nonsense:?}");
        }
        // Longer than anybody would wait.
        assert!(asked("retry: 99999999999\n\n") < Some(Duration::from_secs(3600)));
    }
}
