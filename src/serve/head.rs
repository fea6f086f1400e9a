//! Watching a request's head go by: when it begins, when it ends, and whether it claims two lengths.
//!
//! hyper parses the head; but it does not tell that bytes of one have begun to
//! arrive (which starts the header timeout), nor that both `Content-Length` and
//! `Transfer-Encoding` were there (which smells of smuggling and gets a 400).

/// Longest line start that matters: `transfer-encoding:`.
const LINE_START: usize = 18;

#[derive(Debug, Default)]
pub struct HeadScanner {
    state: State,
    line: LineStart,
    content_length: bool,
    transfer_encoding: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between requests.
    #[default]
    Before,
    Inside,
    /// The rest is body, until the request is over.
    After,
    /// HTTP/2: frames, not lines.
    Frames,
}

/// What a piece of input did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Begun,
    Complete,
    Nothing,
}

impl HeadScanner {
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        match self.state {
            State::After | State::Frames => return Progress::Nothing,
            State::Before | State::Inside => {}
        }
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
            self.line.push(&rest[..at]);
            rest = &rest[at + 1..];
            if self.end_of_line() {
                return Progress::Complete;
            }
        }
        self.line.push(rest);
        self.state = State::Inside;
        Progress::Begun
    }

    /// Returns whether the head is complete.
    fn end_of_line(&mut self) -> bool {
        let line = self.line.take();
        if line.starts_with(b"pri * http/2") {
            self.state = State::Frames;
            return true;
        }
        self.content_length |= line.starts_with(b"content-length:");
        self.transfer_encoding |= line.starts_with(b"transfer-encoding:");
        let blank = matches!(line.bytes(), b"" | b"\r");
        // Empty lines before a request line are permitted (RFC 9112, section 2.2).
        if blank && self.state == State::Inside {
            self.state = State::After;
            return true;
        }
        if !blank {
            self.state = State::Inside;
        }
        false
    }

    /// The next bytes belong to another request.
    pub fn next_request(&mut self) {
        if self.state == State::After {
            *self = Self::default();
        }
    }

    pub fn is_http2(&self) -> bool {
        self.state == State::Frames
    }

    /// Whether the last head had both `Content-Length` and `Transfer-Encoding`.
    pub fn has_two_lengths(&self) -> bool {
        self.content_length && self.transfer_encoding
    }
}

/// The first bytes of a line that may arrive in pieces, in lower case.
#[derive(Debug, Default, Clone, Copy)]
struct LineStart {
    bytes: [u8; LINE_START],
    len: usize,
}

impl LineStart {
    fn push(&mut self, piece: &[u8]) {
        let room = &mut self.bytes[self.len..];
        let taken = room.len().min(piece.len());
        room[..taken].copy_from_slice(&piece[..taken]);
        room[..taken].make_ascii_lowercase();
        self.len += taken;
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn starts_with(&self, prefix: &[u8]) -> bool {
        self.bytes().starts_with(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";

    #[test]
    fn a_head_in_one_piece_is_complete_at_once() {
        let mut scanner = HeadScanner::default();
        assert_eq!(scanner.feed(HEAD), Progress::Complete);

        assert!(!scanner.has_two_lengths());
        assert_eq!(scanner.feed(b"body\r\n\r\n"), Progress::Nothing);
    }

    #[test]
    fn a_head_in_single_bytes_is_complete_at_its_blank_line() {
        let mut scanner = HeadScanner::default();
        let end = HEAD.len() - 2;
        for byte in &HEAD[..end - 1] {
            assert_eq!(scanner.feed(&[*byte]), Progress::Begun);
        }
        assert_eq!(scanner.feed(&HEAD[end - 1..end]), Progress::Complete);
    }

    #[test]
    fn two_kinds_of_length_are_noticed_in_any_order_and_case() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTRANSFER-encoding: chunked\r\ncontent-LENGTH: 4\r\n\r\n",
        ] {
            let mut scanner = HeadScanner::default();
            scanner.feed(head.as_bytes());
            assert!(scanner.has_two_lengths(), "{head}");
            scanner.next_request();
            assert!(!scanner.has_two_lengths());
        }
    }

    #[test]
    fn lengths_named_in_the_body_do_not_count() {
        let mut scanner = HeadScanner::default();
        scanner.feed(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ncontent-length: 4\r\n\r\n",
        );
        assert!(!scanner.has_two_lengths());
    }

    #[test]
    fn the_http2_preface_ends_the_watch() {
        let mut scanner = HeadScanner::default();
        assert_eq!(
            scanner.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            Progress::Complete
        );
        assert!(scanner.is_http2());
        scanner.next_request();
        assert!(scanner.is_http2());
    }

    #[test]
    fn empty_lines_before_a_request_are_skipped() {
        let mut scanner = HeadScanner::default();
        assert_eq!(scanner.feed(b"\r\n\r\n"), Progress::Begun);
        assert_eq!(scanner.feed(b"GET / HTTP/1.1\r\n\r\n"), Progress::Complete);
    }
}
