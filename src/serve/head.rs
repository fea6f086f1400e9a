//! Following a client's HTTP/1.1 messages as they go by: where a head begins and ends, and whether it claims two lengths.
//!
//! hyper parses the requests; but it does not tell that bytes of a head have
//! begun to arrive (which starts the header timeout), nor that a head had both
//! `Content-Length` and `Transfer-Encoding` (which smells of smuggling and gets a
//! 400). Bodies are followed too, or a second request in the same segment would
//! not be seen.

/// As much of a line as matters: the longest name, and a length's digits.
const LINE_START: usize = 48;

#[derive(Debug, Default)]
pub struct HeadScanner {
    state: State,
    line: LineStart,
    length: Option<u64>,
    chunked: bool,
    /// The head that is being read has two lengths, or one that cannot be followed.
    unclear: bool,
    /// Heads that are complete.
    heads: u64,
    /// How many of them can be trusted, once one cannot.
    trusted: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between messages.
    #[default]
    Before,
    /// In the first line of a head, which may turn out to be a blank line before it
    /// (RFC 9112, section 2.2).
    Start,
    Head,
    /// This many bytes of body are left.
    Body(u64),
    ChunkSize,
    /// Data and its line end.
    Chunk(u64),
    Trailers,
    /// Behind a head with two lengths, or with one that cannot be followed.
    Lost,
    Http2,
}

impl HeadScanner {
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Lost | State::Http2 => return,
                State::Body(left) => self.skip(bytes, left, State::Body, State::Before),
                State::Chunk(left) => self.skip(bytes, left, State::Chunk, State::ChunkSize),
                State::Before | State::Start | State::Head | State::ChunkSize | State::Trailers => {
                    self.read_line(bytes)
                }
            };
        }
    }

    /// Whether part of a head has come, and part is still missing.
    pub fn is_inside_head(&self) -> bool {
        matches!(self.state, State::Start | State::Head)
    }

    pub fn is_http2(&self) -> bool {
        self.state == State::Http2
    }

    /// The head that had both lengths, or one that hyper may read otherwise, counted from 0.
    /// What follows it cannot be trusted and is not followed.
    pub fn two_lengths_at(&self) -> Option<u64> {
        (self.state == State::Lost).then_some(self.trusted)
    }

    fn skip<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        on: fn(u64) -> State,
        then: State,
    ) -> &'a [u8] {
        let skipped = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - skipped as u64;
        self.state = if left == 0 { then } else { on(left) };
        &bytes[skipped..]
    }

    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.state == State::Before {
            self.state = State::Start;
        }
        let end = memchr::memchr(b'\n', bytes);
        if let Some(end) = end.filter(|_| self.is_of_no_interest(bytes)) {
            if self.state == State::Start {
                self.state = State::Head;
            }
            return &bytes[end + 1..];
        }
        self.line.push(&bytes[..end.unwrap_or(bytes.len())]);
        let Some(end) = end else { return &[] };
        let line = std::mem::take(&mut self.line);
        self.state = match self.state {
            State::Start if line.text().is_empty() => State::Before,
            State::Start | State::Head => self.head_line(&line),
            State::ChunkSize => {
                // What comes behind such a body is not where it seems to be.
                self.trusted = self.heads;
                chunk_size(&line)
            }
            State::Trailers if line.text().is_empty() => State::Before,
            other => other,
        };
        &bytes[end + 1..]
    }

    /// Whether `bytes`, at whose front is all of a line, can be told by its first letter to say
    /// nothing of lengths: most lines need not be looked at any further.
    fn is_of_no_interest(&self, bytes: &[u8]) -> bool {
        let first = bytes[0].to_ascii_lowercase();
        self.line.len == 0
            && first.is_ascii_alphabetic()
            && match self.state {
                State::Start | State::Head => !matches!(first, b'c' | b't' | b'p'),
                State::Trailers => true,
                _ => false,
            }
    }

    fn head_line(&mut self, line: &LineStart) -> State {
        let text = line.text();
        if text.starts_with(b"pri*http/2") {
            return State::Http2;
        }
        if let Some(value) = text.strip_prefix(b"content-length:") {
            let length = number(value, 10);
            self.unclear |= self.chunked || line.is_cut || length.is_none();
            self.length = length;
        } else if let Some(value) = text.strip_prefix(b"transfer-encoding:") {
            self.unclear |= self.length.is_some() || value != b"chunked";
            self.chunked = true;
        } else if text.is_empty() {
            return self.end_of_head();
        }
        State::Head
    }

    fn end_of_head(&mut self) -> State {
        self.trusted = self.heads;
        self.heads += 1;
        let (length, chunked) = (self.length.take(), std::mem::take(&mut self.chunked));
        match length {
            _ if self.unclear => State::Lost,
            _ if chunked => State::ChunkSize,
            None | Some(0) => State::Before,
            Some(length) => State::Body(length),
        }
    }
}

fn chunk_size(line: &LineStart) -> State {
    let text = line.text();
    let digits = text.split(|&byte| byte == b';').next().unwrap_or(text);
    match number(digits, 16) {
        // More digits than any size has: hyper may make something of them.
        _ if line.is_cut && digits.len() == LINE_START => State::Lost,
        None => State::Lost,
        Some(0) => State::Trailers,
        Some(size) => State::Chunk(size.saturating_add(2)),
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_hexdigit);
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| plain)
        .and_then(|digits| u64::from_str_radix(digits, radix).ok())
}

/// The first bytes of a line that may arrive in pieces, in lower case, without blanks and
/// without its line end: however a value is padded, it is seen.
#[derive(Debug, Clone, Copy)]
struct LineStart {
    bytes: [u8; LINE_START],
    len: usize,
    /// There was more.
    is_cut: bool,
}

impl Default for LineStart {
    fn default() -> Self {
        Self {
            bytes: [0; LINE_START],
            len: 0,
            is_cut: false,
        }
    }
}

impl LineStart {
    fn push(&mut self, piece: &[u8]) {
        if self.is_cut {
            return;
        }
        for byte in piece {
            if matches!(byte, b' ' | b'\t') {
                continue;
            }
            let Some(place) = self.bytes.get_mut(self.len) else {
                self.is_cut = true;
                return;
            };
            *place = byte.to_ascii_lowercase();
            self.len += 1;
        }
    }

    fn text(&self) -> &[u8] {
        let text = &self.bytes[..self.len];
        text.strip_suffix(b"\r").unwrap_or(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n";
    const BOTH: [&str; 2] = [
        "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTRANSFER-encoding: chunked\r\ncontent-LENGTH: 4\r\n\r\n",
    ];

    fn fed(text: &str) -> HeadScanner {
        let mut scanner = HeadScanner::default();
        scanner.feed(text.as_bytes());
        scanner
    }

    #[test]
    fn whole_messages_leave_it_between_messages() {
        for message in [PLAIN, CHUNKED, "GET / HTTP/1.1\r\n\r\n"] {
            assert_eq!(fed(message).state, State::Before, "{message}");
            assert_eq!(fed(&message.repeat(3)).state, State::Before, "{message}");
        }
    }

    #[test]
    fn the_same_is_seen_when_bytes_come_one_by_one() {
        for message in [PLAIN, CHUNKED] {
            let mut scanner = HeadScanner::default();
            for byte in message.as_bytes() {
                scanner.feed(&[*byte]);
            }
            assert_eq!(scanner.state, State::Before, "{message}");
        }
    }

    #[test]
    fn a_head_is_under_way_from_its_first_byte_to_its_blank_line() {
        let mut scanner = HeadScanner::default();
        assert!(!scanner.is_inside_head());
        scanner.feed(b"G");
        assert!(scanner.is_inside_head());
        scanner.feed(b"ET / HTTP/1.1\r\nHost: x\r\n");
        assert!(scanner.is_inside_head());
        scanner.feed(b"\r\n");
        assert!(!scanner.is_inside_head());
    }

    #[test]
    fn two_kinds_of_length_are_noticed_in_any_order_and_case() {
        for head in BOTH {
            assert_eq!(fed(head).two_lengths_at(), Some(0), "{head}");
        }
        assert_eq!(fed(PLAIN).two_lengths_at(), None);
        assert_eq!(fed(CHUNKED).two_lengths_at(), None);
    }

    #[test]
    fn they_are_noticed_behind_blank_lines_and_however_they_are_padded() {
        let blanks = " ".repeat(99);
        for head in [
            format!("\r\n\r\n\n{}", BOTH[0]),
            BOTH[0].replace(": ", &format!(":{blanks}")),
            BOTH[1].replace(": ", &format!(":{blanks}\t")),
            BOTH[1].replace(": chunked", ": gzip, chunked"),
            format!(
                "POST / HTTP/1.1\r\nContent-Length: {}4\r\n\r\n",
                "0".repeat(99)
            ),
        ] {
            assert_eq!(fed(&head).two_lengths_at(), Some(0), "{head}");
        }
    }

    #[test]
    fn they_are_noticed_behind_other_other_messages_in_the_same_segment() {
        for before in [PLAIN, CHUNKED] {
            for head in BOTH {
                assert_eq!(fed(&format!("{before}{head}")).two_lengths_at(), Some(1));
            }
        }
    }

    #[test]
    fn lengths_named_in_a_body_do_not_count() {
        let body = BOTH[0];
        let plain = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let chunked = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        for message in [plain, chunked] {
            let scanner = fed(&message);
            assert_eq!(scanner.two_lengths_at(), None);
            assert_eq!(scanner.state, State::Before);
        }
    }

    #[test]
    fn the_http2_preface_ends_the_watch() {
        let scanner = fed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert!(scanner.is_http2() && !scanner.is_inside_head());
    }

    proptest::proptest! {
        #[test]
        fn the_cut_of_the_input_makes_no_difference(bytes in "[a-zA-Z0-9:; \r\n]{0,200}", at in 0usize..200) {
            let bytes = bytes.as_bytes();
            let at = at.min(bytes.len());
            let (mut whole, mut cut) = (HeadScanner::default(), HeadScanner::default());
            whole.feed(bytes);
            cut.feed(&bytes[..at]);
            cut.feed(&bytes[at..]);
            proptest::prop_assert_eq!(whole.state, cut.state);
            proptest::prop_assert_eq!(whole.two_lengths_at(), cut.two_lengths_at());
        }
    }
}
