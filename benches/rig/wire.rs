//! HTTP/1.1 as far as a load needs it: whole requests out, heads and bodies in.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const HEADERS: usize = 64;
const READ: usize = 64 * 1024;

pub struct Reader {
    buffer: BytesMut,
}

/// How a body ends.
pub enum Length {
    Known(u64),
    Chunked,
    UntilClosed,
}

pub struct Head {
    pub status: u16,
    pub length: Length,
}

impl Reader {
    pub fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
        }
    }

    /// The next response's head. An end of the connection before it is an error.
    pub async fn head(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Head> {
        loop {
            if let Some((head, len)) = parse(&self.buffer)? {
                self.buffer.advance(len);
                return Ok(head);
            }
            self.fill(from).await?;
        }
    }

    /// Reads a body to its end and counts it.
    pub async fn skip(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        length: Length,
    ) -> io::Result<u64> {
        match length {
            Length::Known(len) => self.skip_exactly(from, len).await,
            Length::Chunked => {
                let mut total = 0;
                while let Some(chunk) = self.chunk(from).await? {
                    total += chunk.len() as u64;
                }
                Ok(total)
            }
            Length::UntilClosed => Err(io::Error::other("a body without a length")),
        }
    }

    async fn skip_exactly(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        len: u64,
    ) -> io::Result<u64> {
        let mut left = len;
        loop {
            let here = left.min(self.buffer.len() as u64);
            self.buffer.advance(here as usize);
            left -= here;
            if left == 0 {
                return Ok(len);
            }
            self.fill(from).await?;
        }
    }

    /// The next piece of a chunked body; `None` at its end.
    pub async fn chunk(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<BytesMut>> {
        let (start, size) = loop {
            match httparse::parse_chunk_size(&self.buffer).map_err(|_| bad("chunk size"))? {
                httparse::Status::Complete((start, size)) => break (start, size as usize),
                httparse::Status::Partial => self.fill(from).await?,
            }
        };
        while self.buffer.len() < start + size + 2 {
            self.fill(from).await?;
        }
        self.buffer.advance(start);
        let chunk = self.buffer.split_to(size);
        self.buffer.advance(2);
        Ok((size > 0).then_some(chunk))
    }

    async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        if self.buffer.capacity() - self.buffer.len() < READ / 8 {
            self.buffer.reserve(READ);
        }
        match from.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn parse(buffer: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(buffer).map_err(|_| bad("response head"))? {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.ok_or_else(|| bad("status"))?;
    let mut length = match status {
        204 | 304 => Length::Known(0),
        _ => Length::UntilClosed,
    };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = Length::Known(number(header.value)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            length = Length::Chunked;
        }
    }
    Ok(Some((Head { status, length }, len)))
}

pub fn number(digits: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.trim().parse().ok())
        .ok_or_else(|| bad("length"))
}

pub fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("broken {what}"))
}
