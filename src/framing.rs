//! What reading and writing HTTP/1.1 has in common towards clients and upstreams: where a message's body is,
//! and where it ends (RFC 9112, sections 6 and 7).

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Largest head of a message, and largest trailers, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// Most lines of a response's head, and of trailers.
pub const MAX_LINES: usize = 128;
/// The longest line that announces a chunk, its extensions included.
const MAX_CHUNK_LINE: usize = 4 * 1024;

/// What is wrong with bytes that are no message.
pub type Malformed = &'static str;

/// Finds a body's bytes among those of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoder {
    /// That many bytes are to come.
    Length(u64),
    UntilClose,
    Chunked(Chunk),
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// The line with its size comes next.
    Size,
    /// That many bytes are to come.
    Data(u64),
    /// The line end behind the data.
    DataEnd,
    Trailers,
}

/// What the bytes at hand come to.
#[derive(Debug)]
pub enum Decoded {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    /// More bytes are needed.
    Incomplete,
}

impl Decoder {
    pub fn length(length: u64) -> Self {
        match length {
            0 => Self::Done,
            length => Self::Length(length),
        }
    }

    pub fn chunked() -> Self {
        Self::Chunked(Chunk::Size)
    }

    pub fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// How many bytes are still to come, if that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(*length),
            Self::Done => Some(0),
            Self::UntilClose | Self::Chunked(_) => None,
        }
    }

    /// Takes the next piece of the body from the front of `input`.
    ///
    /// # Errors
    /// Chunks that are not as RFC 9112 has them.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, Malformed> {
        match self {
            Self::Done => Ok(Decoded::End),
            _ if input.is_empty() => Ok(Decoded::Incomplete),
            Self::UntilClose => Ok(Decoded::Data(input.split().freeze())),
            Self::Length(left) => {
                let data = take(input, left);
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Decoded::Data(data))
            }
            Self::Chunked(_) => self.decode_chunks(input),
        }
    }

    fn decode_chunks(&mut self, input: &mut BytesMut) -> Result<Decoded, Malformed> {
        while let Self::Chunked(chunk) = self {
            match chunk {
                Chunk::Size => match take_size(input)? {
                    None => return Ok(Decoded::Incomplete),
                    Some(0) => *chunk = Chunk::Trailers,
                    Some(size) => *chunk = Chunk::Data(size),
                },
                Chunk::Data(_) if input.is_empty() => return Ok(Decoded::Incomplete),
                Chunk::Data(left) => {
                    let data = take(input, left);
                    if *left == 0 {
                        *chunk = Chunk::DataEnd;
                        self.end_chunk(input)?;
                    }
                    return Ok(Decoded::Data(data));
                }
                Chunk::DataEnd => {
                    if !self.end_chunk(input)? {
                        return Ok(Decoded::Incomplete);
                    }
                }
                Chunk::Trailers => {
                    let Some(trailers) = parse_trailers(input)? else {
                        return Ok(Decoded::Incomplete);
                    };
                    *self = Self::Done;
                    if !trailers.is_empty() {
                        return Ok(Decoded::Trailers(trailers));
                    }
                }
            }
        }
        Ok(Decoded::End)
    }

    /// Takes the line end behind a chunk's data, and the last chunk if it is there already:
    /// a body whose end has come should not need another look to be over.
    fn end_chunk(&mut self, input: &mut BytesMut) -> Result<bool, Malformed> {
        match input.as_ref() {
            [b'\r', b'\n', rest @ ..] => {
                let is_last = rest == b"0\r\n\r\n";
                *self = if is_last { Self::Done } else { Self::chunked() };
                drop(input.split_to(if is_last { 7 } else { 2 }));
                Ok(true)
            }
            [] | [b'\r'] => Ok(false),
            _ => Err("a chunk is longer than it says"),
        }
    }
}

fn take(input: &mut BytesMut, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= length as u64;
    input.split_to(length).freeze()
}

/// A chunk's size from the line at the front; its extensions mean nothing to us.
fn take_size(input: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    let end = memchr::memchr(b'\n', input);
    if end.unwrap_or(input.len()) > MAX_CHUNK_LINE {
        return Err("a chunk's size line is too long");
    }
    let Some(end) = end else {
        return Ok(None);
    };
    let line = input.split_to(end + 1);
    let line = line
        .strip_suffix(b"\r\n")
        .ok_or("a chunk's size line ends without CR")?;
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let size = size.trim_ascii_end();
    let is_size = (1..=16).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
    let has_control = line
        .iter()
        .any(|byte| *byte != b'\t' && byte.is_ascii_control());
    if !is_size || has_control {
        return Err("a chunk's size is no number");
    }
    let size = std::str::from_utf8(size)
        .ok()
        .and_then(|size| u64::from_str_radix(size, 16).ok());
    size.map(Some).ok_or("a chunk's size is no number")
}

/// Writes a header's line.
pub fn put_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a number in decimal digits.
pub fn put_number(out: &mut Vec<u8>, number: u64) {
    let (mut digits, mut begin) = ([0; 20], 20);
    let mut left = number;
    loop {
        begin -= 1;
        digits[begin] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
}

/// Takes the trailers that end a chunked body; `None` if they are not complete.
fn parse_trailers(input: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let (length, lines) = match httparse::parse_headers(input, &mut lines) {
        Ok(httparse::Status::Complete(found)) => found,
        Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("its trailers are larger than 64 KiB"),
        Err(_) => return Err("its trailers are malformed"),
    };
    // httparse takes a bare LF; the chunks before had none, and so has nothing else in them.
    let line_ends = memchr::memchr_iter(b'\n', &input[..length]);
    if line_ends
        .into_iter()
        .any(|at| at == 0 || input[at - 1] != b'\r')
    {
        return Err("a trailer's line ends without CR");
    }
    let mut trailers = HeaderMap::new();
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let value = HeaderValue::from_bytes(line.value);
        trailers.append(
            name.map_err(|_| "a trailer's name is malformed")?,
            value.map_err(|_| "a trailer's value is malformed")?,
        );
    }
    drop(input.split_to(length));
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body in `pieces`, whether it is over, and what is left behind it.
    type Found = (Vec<u8>, bool, Vec<u8>);

    fn decoded(mut decoder: Decoder, pieces: &[&[u8]]) -> Result<Found, Malformed> {
        let mut input = BytesMut::new();
        let mut body = Vec::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut input)? {
                    Decoded::Data(data) => body.extend_from_slice(&data),
                    Decoded::Trailers(_) => {}
                    Decoded::End | Decoded::Incomplete => break,
                }
            }
        }
        Ok((body, decoder.is_done(), input.to_vec()))
    }

    #[test]
    fn a_number_is_written_in_decimal_digits() {
        for number in [0, 7, 10, 1234567890, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_length_takes_its_bytes_and_no_more() {
        let found = decoded(Decoder::length(4), &[b"ab", b"cdNEXT"]);
        assert_eq!(found, Ok((b"abcd".to_vec(), true, b"NEXT".to_vec())));
        assert_eq!(decoded(Decoder::length(0), &[b"NEXT"]).unwrap().2, b"NEXT");
    }

    #[test]
    fn chunks_end_with_their_trailers() {
        let text = b"3\r\nabc\r\n2;ext=\"1\"\r\nde\r\n0\r\nx-t: 1\r\n\r\nNEXT";
        let found = decoded(Decoder::chunked(), &[text]);
        assert_eq!(found, Ok((b"abcde".to_vec(), true, b"NEXT".to_vec())));
        let mut input = BytesMut::from("0\r\nx-t: 1\r\n\r\n");
        match Decoder::chunked().decode(&mut input) {
            Ok(Decoded::Trailers(trailers)) => assert_eq!(trailers["x-t"], "1"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_body_that_came_whole_is_over_with_its_last_byte() {
        let mut decoder = Decoder::chunked();
        let mut input = BytesMut::from("3\r\nabc\r\n0\r\n\r\n");
        assert!(matches!(decoder.decode(&mut input), Ok(Decoded::Data(_))));
        assert!(decoder.is_done());
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for text in [
            &b"x\r\n"[..],
            b"\r\n",
            b"-1\r\n",
            b"0x1\r\na\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1 1\r\n",
            b"11111111111111111\r\n",
            b"1;\x00\r\na\r\n",
            b"0\r\nbad trailer\r\n\r\n",
            b"0\r\nA: b\n\n",
        ] {
            assert!(decoded(Decoder::chunked(), &[text]).is_err(), "{text:?}");
        }
        let endless = vec![b'1'; 2 * MAX_CHUNK_LINE];
        assert!(decoded(Decoder::chunked(), &[&endless]).is_err());
    }

    proptest! {
        #[test]
        fn however_chunks_arrive_the_body_is_the_same(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            cut in 1usize..17,
        ) {
            let mut wire = Vec::new();
            for piece in &pieces {
                wire.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
                wire.extend_from_slice(piece);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let arriving: Vec<&[u8]> = wire.chunks(cut).collect();
            let found = decoded(Decoder::chunked(), &arriving);
            prop_assert_eq!(found, Ok((pieces.concat(), true, Vec::new())));
        }
    }
}
