//! Chunked bodies: a strict grammar, the same however the bytes arrive.

use bytes::BytesMut;

use super::{pieces, seeded};
use crate::framing::{Decoded, Decoder};

/// What a body comes to: its data, whether its end was seen, and how many bytes are behind it.
#[derive(Debug, PartialEq)]
enum Verdict {
    Whole { data: Vec<u8>, behind: usize },
    Unfinished { data: Vec<u8> },
    Malformed,
}

pub fn check(data: &[u8]) {
    let (seed, data) = seeded(data);
    let whole = decode(&[data]);
    assert_eq!(whole, decode(&pieces(seed, data)), "a cut changes the body");
    if let Verdict::Whole { data: ours, behind } = &whole {
        let (theirs, rest) = reference(data).expect("it took what is no chunked body");
        assert_eq!((&theirs, rest), (ours, *behind));
    } else if reference(data).is_some() {
        // Long lines and trailers that are no headers are refused beyond the grammar's demands.
        assert_eq!(
            whole,
            Verdict::Malformed,
            "a whole body is not seen to be whole"
        );
    }
}

fn decode(pieces: &[&[u8]]) -> Verdict {
    let mut decoder = Decoder::chunked();
    let (mut input, mut data) = (BytesMut::new(), Vec::new());
    let mut pieces = pieces.iter();
    loop {
        match decoder.decode(&mut input) {
            Ok(Decoded::Data(piece)) => {
                assert!(!piece.is_empty(), "a piece of nothing");
                data.extend_from_slice(&piece);
            }
            Ok(Decoded::Trailers(_)) => {}
            Ok(Decoded::End) => {
                assert!(decoder.is_done());
                let behind = input.len() + pieces.map(|piece| piece.len()).sum::<usize>();
                return Verdict::Whole { data, behind };
            }
            Ok(Decoded::Incomplete) => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => return Verdict::Unfinished { data },
            },
            Err(_) => return Verdict::Malformed,
        }
    }
}

/// RFC 9112, section 7.1, on bytes that are all there. The data, and how many bytes are behind.
fn reference(mut rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut data = Vec::new();
    loop {
        let line = line(&mut rest)?;
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let extension = line[digits..].trim_ascii_start();
        if !extension.is_empty() && extension[0] != b';' {
            return None;
        }
        let digits = std::str::from_utf8(&line[..digits]).ok()?;
        match usize::from_str_radix(digits, 16).ok()? {
            0 => break,
            size => {
                data.extend_from_slice(rest.get(..size)?);
                rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
            }
        }
    }
    while !line(&mut rest)?.is_empty() {}
    Some((data, rest.len()))
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}
