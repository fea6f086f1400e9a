//! From pieces of input to lines.

use bytes::Bytes;

#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Whole(Bytes),
    /// Longer than the limit; it was thrown away.
    TooLong,
}

pub struct Lines {
    begun: Vec<u8>,
    is_too_long: bool,
    limit: usize,
}

impl Lines {
    pub fn new(limit: usize) -> Self {
        Self {
            begun: Vec::new(),
            is_too_long: false,
            limit,
        }
    }

    /// The next line that `piece` completes. What is taken of it is gone from its front.
    pub fn take(&mut self, piece: &mut &[u8]) -> Option<Line> {
        while !piece.is_empty() {
            let end = piece.iter().position(|&byte| byte == b'\n');
            let (text, rest) = piece.split_at(end.unwrap_or(piece.len()));
            *piece = rest.get(1..).unwrap_or_default();
            self.is_too_long |= self.begun.len() + text.len() > self.limit;
            if self.is_too_long {
                self.begun = Vec::new();
            } else {
                self.begun.extend_from_slice(text);
            }
            if end.is_some()
                && let Some(line) = self.finish()
            {
                return Some(line);
            }
        }
        None
    }

    /// A last line without its end is a message all the same. `None` for a blank one.
    pub fn finish(&mut self) -> Option<Line> {
        if std::mem::take(&mut self.is_too_long) {
            return Some(Line::TooLong);
        }
        let line = Bytes::from(std::mem::take(&mut self.begun));
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
        assert_eq!(
            lines(text, 5),
            [whole("{a}"), Line::TooLong, whole("{c}"), Line::TooLong]
        );
    }
}
