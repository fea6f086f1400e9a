//! From pieces of input to lines.

use bytes::Bytes;

use crate::bridge::message::END;

#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Whole(Bytes),
    /// Longer than the limit: only its ends were kept.
    TooLong {
        head: Vec<u8>,
        tail: Vec<u8>,
    },
}

pub struct Lines {
    begun: Vec<u8>,
    /// The beginning of a line that is too long; what has begun is its last part then.
    head: Option<Vec<u8>>,
    limit: usize,
}

impl Lines {
    pub fn new(limit: usize) -> Self {
        Self {
            begun: Vec::new(),
            head: None,
            limit,
        }
    }

    /// The next line that `piece` completes. What is taken of it is gone from its front.
    pub fn take(&mut self, piece: &mut &[u8]) -> Option<Line> {
        while !piece.is_empty() {
            let end = piece.iter().position(|&byte| byte == b'\n');
            let (text, rest) = piece.split_at(end.unwrap_or(piece.len()));
            *piece = rest.get(1..).unwrap_or_default();
            self.begun.extend_from_slice(text);
            self.shorten();
            if end.is_some()
                && let Some(line) = self.finish()
            {
                return Some(line);
            }
        }
        None
    }

    /// Lets go of the middle of a line that is too long.
    fn shorten(&mut self) {
        if self.head.is_none() && self.begun.len() > self.limit {
            let head = &self.begun[..END.min(self.begun.len())];
            self.head = Some(head.to_vec());
        }
        if self.head.is_some() && self.begun.len() > END {
            let tail = &self.begun[self.begun.len() - END..];
            self.begun = tail.to_vec();
        }
    }

    /// A last line without its end is a message all the same. `None` for a blank one.
    pub fn finish(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.begun);
        if let Some(head) = self.head.take() {
            return Some(Line::TooLong { head, tail: line });
        }
        let line = Bytes::from(line);
        let line = line.slice_ref(line.trim_ascii());
        (!line.is_empty()).then_some(Line::Whole(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(limit);
        let mut found = Vec::new();
        for mut piece in text.as_bytes().chunks(3) {
            found.extend(std::iter::from_fn(|| lines.take(&mut piece)));
        }
        found.extend(lines.finish());
        found
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_are_trimmed_and_blank_ones_skipped() {
        assert_eq!(lines("{1}\r\n\n  \n{2}", 99), [whole("{1}"), whole("{2}")]);
        assert_eq!(lines("", 99), []);
    }

    #[test]
    fn a_line_over_the_limit_does_not_take_its_neighbours_along() {
        let text = "{a}\n{bbbbbbbbbbbb}\n{c}\n{dddddddddd}";
        let found = lines(text, 5);
        assert_eq!([&found[0], &found[2]], [&whole("{a}"), &whole("{c}")]);
        for long in [&found[1], &found[3]] {
            assert!(matches!(long, Line::TooLong { .. }), "{long:?}");
        }
    }

    #[test]
    fn of_a_line_over_the_limit_both_ends_are_kept() {
        let text = format!("{{first{}last}}\n", "x".repeat(9 * END));
        let [Line::TooLong { head, tail }] = &lines(&text, 3 * END)[..] else {
            panic!()
        };
        assert!(head.starts_with(b"{first") && tail.ends_with(b"last}"));
        assert_eq!([head.len(), tail.len()], [END, END]);
    }
}
