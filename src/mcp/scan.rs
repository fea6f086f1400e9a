//! Where the parts of a JSON text begin and end, by the grammar of RFC 8259 and nothing beyond it.
//!
//! Every message is looked at, and few of its parts matter: they are handed out as they stand, the
//! others are checked and passed. Nothing is decoded, and nothing allocated unless a value nests
//! deeper than 64 times.

/// A string as it stands, without its quotes.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    pub inside: &'a str,
    pub has_escapes: bool,
}

impl<'a> Text<'a> {
    /// `None` for what is no string; `json` is one value.
    pub fn of(json: &'a str) -> Option<Self> {
        let mut scanner = Scanner::new(json);
        scanner.expect(b'"')?;
        scanner.string()
    }
}

/// Goes through a text from value to value. `None` from any of its steps is for what is no JSON:
/// none may follow.
pub struct Scanner<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(json: &'a str) -> Self {
        Self { json, at: 0 }
    }

    /// Passes an object and returns it. `each` is told every key, and has to pass its value.
    #[inline(always)]
    pub fn object(
        &mut self,
        mut each: impl FnMut(Text<'a>, &mut Self) -> Option<()>,
    ) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        self.expect(b'{')?;
        let mut end = self.peek()?;
        self.at += usize::from(end == b'}');
        while end != b'}' {
            let key = self.key()?;
            each(key, self)?;
            end = self.next()?;
            if end != b',' && end != b'}' {
                return None;
            }
        }
        self.json.get(start..self.at)
    }

    /// Nothing but blanks may be left.
    pub fn end(mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// The first byte of the next token; `None` at the end.
    #[inline(always)]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.json.as_bytes().get(self.at)?;
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// Passes a value, whatever is nested in it, and returns it.
    #[inline(always)]
    pub fn value(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        match self.next()? {
            b'"' => _ = self.string()?,
            open @ (b'{' | b'[') => self.nested(open)?,
            first => self.plain(first)?,
        }
        self.json.get(start..self.at)
    }

    fn nested(&mut self, open: u8) -> Option<()> {
        let mut nesting = Nesting::default();
        let mut first = open;
        loop {
            match first {
                b'"' => _ = self.string()?,
                b'{' if self.peek()? != b'}' => {
                    nesting.enter(true);
                    self.key()?;
                    first = self.next()?;
                    continue;
                }
                b'[' if self.peek()? != b']' => {
                    nesting.enter(false);
                    first = self.next()?;
                    continue;
                }
                b'{' | b'[' => self.at += 1,
                first => self.plain(first)?,
            }
            // A value is over, and with it, perhaps, those around it.
            loop {
                let Some(is_object) = nesting.innermost() else {
                    return Some(());
                };
                match (self.next()?, is_object) {
                    (b',', false) => break,
                    (b',', true) => {
                        self.key()?;
                        break;
                    }
                    (b'}', true) | (b']', false) => nesting.leave(),
                    _ => return None,
                }
            }
            first = self.next()?;
        }
    }

    /// Passes a key and its colon.
    #[inline(always)]
    fn key(&mut self) -> Option<Text<'a>> {
        self.expect(b'"')?;
        let key = self.string()?;
        self.expect(b':')?;
        Some(key)
    }

    /// Passes what is left of a string behind its opening quote.
    #[inline(always)]
    fn string(&mut self) -> Option<Text<'a>> {
        let (bytes, start) = (self.json.as_bytes(), self.at);
        let mut end = special(bytes, start);
        let has_escapes = *bytes.get(end)? != b'"';
        if has_escapes {
            end = end_of_escaped(bytes, end)?;
        }
        self.at = end + 1;
        let inside = self.json.get(start..end)?;
        Some(Text {
            inside,
            has_escapes,
        })
    }

    /// Passes what is left of a number or a word behind its first byte.
    fn plain(&mut self, first: u8) -> Option<()> {
        let mut first = first;
        if first == b'-' {
            first = *self.json.as_bytes().get(self.at)?;
            self.at += 1;
            first.is_ascii_digit().then_some(())?;
        }
        match first {
            // Another digit behind it is no token that could follow.
            b'0' => {}
            b'1'..=b'9' => _ = self.digits(),
            b't' => return self.word("rue"),
            b'f' => return self.word("alse"),
            b'n' => return self.word("ull"),
            _ => return None,
        }
        if self.takes(|byte| byte == b'.') {
            self.digits()?;
        }
        if self.takes(|byte| byte == b'e' || byte == b'E') {
            self.takes(|byte| byte == b'+' || byte == b'-');
            self.digits()?;
        }
        Some(())
    }

    /// `None` if there is none.
    #[inline(always)]
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.takes(|byte| byte.is_ascii_digit()) {}
        (self.at > start).then_some(())
    }

    #[inline(always)]
    fn takes(&mut self, is_it: impl Fn(u8) -> bool) -> bool {
        let bytes = self.json.as_bytes();
        let takes = bytes.get(self.at).is_some_and(|byte| is_it(*byte));
        self.at += usize::from(takes);
        takes
    }

    fn word(&mut self, rest: &str) -> Option<()> {
        let is_here = self.json.as_bytes()[self.at..].starts_with(rest.as_bytes());
        self.at += rest.len();
        is_here.then_some(())
    }
}

/// Where the string ends whose first backslash, or fault, is at `at`.
#[cold]
fn end_of_escaped(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 1 + escape(&bytes[at + 1..])?,
            _ => return None,
        }
        at = special(bytes, at);
    }
}

/// Where the next quote, backslash or control character is, or the end.
#[inline(always)]
fn special(bytes: &[u8], at: usize) -> usize {
    // Most strings are short.
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(word) if first_special(*word) < 8 => at + first_special(*word),
        Some(_) => special_from(bytes, at + 8),
        None => special_from(bytes, at),
    }
}

#[inline(never)]
fn special_from(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let found = first_special(*word);
        at += found;
        if found < 8 {
            return at;
        }
    }
    while bytes
        .get(at)
        .is_some_and(|byte| !matches!(byte, 0..0x20 | b'"' | b'\\'))
    {
        at += 1;
    }
    at
}

/// Where the first quote, backslash or control character is.
///
/// Each of them makes the highest bit of its byte, by a borrow that reaches only the bytes behind
/// it (Mycroft's test for a zero in a word).
#[inline(always)]
fn first_special(word: [u8; 8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let word = u64::from_le_bytes(word);
    let is_control = word.wrapping_sub(ONES * 0x20);
    let is_quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let is_backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    // None of them has that bit itself.
    let found = (is_control | is_quote | is_backslash) & !word & (ONES << 7);
    found.trailing_zeros() as usize / 8
}

/// The length of an escape behind its backslash.
fn escape(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(1),
        b'u' => {
            let digits = bytes.get(1..5)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(5)
        }
        _ => None,
    }
}

/// What encloses a value: objects (1) and arrays (0), the innermost in the lowest bit.
#[derive(Default)]
struct Nesting {
    bits: u64,
    depth: usize,
    /// Those further out, 64 in each.
    outer: Vec<u64>,
}

impl Nesting {
    fn enter(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.bits);
        }
        self.bits = self.bits << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.bits >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.bits = self.outer.pop().unwrap_or_default();
        }
    }

    /// Whether it is an object; `None` if nothing encloses.
    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
