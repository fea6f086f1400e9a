//! What a request is about, as it is logged: its path, its message's method, and the name in it,
//! in one piece of memory.

use crate::mcp::Peek;

/// Most bytes of each that are kept.
const MAX: usize = 1024;

/// Enough for most methods and names.
const ROOM: usize = 40;

#[derive(Default)]
pub struct Subject {
    text: String,
    /// Where each ends.
    path: u16,
    method: Option<u16>,
    name: Option<u16>,
}

impl Subject {
    /// `path` is without the query, which may hold what is nobody's business.
    pub fn of(path: &str) -> Self {
        let mut subject = Self {
            text: String::with_capacity(path.len().min(MAX) + ROOM),
            ..Self::default()
        };
        subject.path = subject.push(path, MAX, "…");
        subject
    }

    /// Once at most.
    pub fn carries(&mut self, message: &Peek<'_>) {
        let (method, name) = (message.method.as_deref(), message.name.as_deref());
        self.method = method.map(|method| self.push(method, MAX, "…"));
        self.name = name.map(|name| self.push(name, MAX, "…"));
    }

    pub fn path(&self) -> &str {
        &self.text[..self.path.into()]
    }

    pub fn method(&self) -> Option<&str> {
        Some(&self.text[self.path.into()..self.method?.into()])
    }

    pub fn name(&self) -> Option<&str> {
        let start = self.method.unwrap_or(self.path);
        Some(&self.text[start.into()..self.name?.into()])
    }

    /// With at most `max` bytes of each; what may be an address loses its query.
    pub fn shortened(self, max: usize) -> Self {
        let bare = |text: &str| text.bytes().position(|byte| byte == b'?');
        let is_long = |text: &str| text.len() > max || bare(text).is_some();
        let mut parts = self.method().into_iter().chain(self.name());
        if self.path().len() <= max && !parts.any(is_long) {
            return self;
        }
        let mut short = Self::default();
        let mut push = |text: &str| short.push(text, max, "");
        let path = push(self.path());
        let mut part = |text: &str| push(&text[..bare(text).unwrap_or(text.len())]);
        let (method, name) = (self.method().map(&mut part), self.name().map(&mut part));
        Self {
            path,
            method,
            name,
            ..short
        }
    }

    /// Where it ends then.
    fn push(&mut self, text: &str, max: usize, instead: &str) -> u16 {
        match text.len() <= max {
            true => self.text.push_str(text),
            false => {
                let end = (0..=max).rev().find(|&at| text.is_char_boundary(at));
                self.text.push_str(&text[..end.unwrap_or(0)]);
                self.text.push_str(instead);
            }
        }
        // Three of them are far shorter than 64 KiB.
        self.text.len() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(subject: &Subject) -> (&str, Option<&str>, Option<&str>) {
        (subject.path(), subject.method(), subject.name())
    }

    #[test]
    fn its_parts_are_told_apart() {
        let mut subject = Subject::of("/a");
        assert_eq!(parts(&subject), ("/a", None, None));
        subject.carries(&Peek {
            method: Some("ping".into()),
            name: None,
        });
        assert_eq!(parts(&subject), ("/a", Some("ping"), None));
        let mut subject = Subject::of("");
        subject.carries(&Peek {
            method: Some("m".into()),
            name: Some("n".into()),
        });
        assert_eq!(parts(&subject), ("", Some("m"), Some("n")));
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        let long = "ä".repeat(600);
        let mut subject = Subject::of(&format!("x{long}"));
        subject.carries(&Peek {
            method: Some("m?q".into()),
            name: Some(long.as_str().into()),
        });
        let cut = format!("{}…", "ä".repeat(512));
        let cut_path = format!("x{}…", "ä".repeat(511));
        assert_eq!(parts(&subject), (&*cut_path, Some("m?q"), Some(&*cut)));
        let short = subject.shortened(256);
        let cut_path = format!("x{}", "ä".repeat(127));
        assert_eq!(
            parts(&short),
            (&*cut_path, Some("m"), Some(&*"ä".repeat(128)))
        );
    }
}
