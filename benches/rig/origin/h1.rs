//! HTTP/1.1 by hand, so that the origin is no slower than what is measured.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Gateway;
use super::answer::Asked;
use super::verify::Claim;
use crate::clock;
use crate::wire::{bad, number};

const HEADERS: usize = 64;
/// Between two events of a stream.
pub const INTERVAL: Duration = Duration::from_secs(1);

enum Body {
    Known(usize),
    Chunked,
}

struct Request {
    asked: Asked,
    admitted: bool,
    body: Body,
    closes: bool,
}

struct Connection<S> {
    stream: S,
    buffer: BytesMut,
    out: BytesMut,
}

pub async fn serve<S>(stream: S, gateway: Arc<Gateway>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection {
        stream,
        buffer: BytesMut::new(),
        out: BytesMut::new(),
    };
    loop {
        let request = connection.request(&gateway).await?;
        let body = connection.body(&request).await?;
        if request.admitted && request.asked == Asked::Events {
            return connection.events().await;
        }
        let (status, kind, answer) = match request.admitted {
            true => request.asked.answer(&gateway, &body),
            false => (401, "text/plain", "Invalid Signature".into()),
        };
        connection.answer(status, kind, &answer).await?;
        if request.closes {
            return connection.stream.shutdown().await;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn request(&mut self, gateway: &Gateway) -> io::Result<Request> {
        loop {
            if let Some((request, len)) = parse(&self.buffer, gateway)? {
                self.buffer.advance(len);
                return Ok(request);
            }
            self.fill().await?;
        }
    }

    /// Reads the body; keeps it only where it is looked into.
    async fn body(&mut self, request: &Request) -> io::Result<BytesMut> {
        let mut kept = BytesMut::new();
        match request.body {
            Body::Known(len) => self.take(len, request, &mut kept).await?,
            Body::Chunked => loop {
                let (start, size) = self.chunk_size().await?;
                self.buffer.advance(start);
                self.take(size, request, &mut kept).await?;
                self.take(2, request, &mut BytesMut::new()).await?;
                if size == 0 {
                    break;
                }
            },
        }
        Ok(kept)
    }

    async fn chunk_size(&mut self) -> io::Result<(usize, usize)> {
        loop {
            match httparse::parse_chunk_size(&self.buffer).map_err(|_| bad("chunk size"))? {
                httparse::Status::Complete((start, size)) => return Ok((start, size as usize)),
                httparse::Status::Partial => self.fill().await?,
            }
        }
    }

    async fn take(
        &mut self,
        mut len: usize,
        request: &Request,
        kept: &mut BytesMut,
    ) -> io::Result<()> {
        loop {
            let here = len.min(self.buffer.len());
            let piece = self.buffer.split_to(here);
            if request.asked == Asked::Rpc {
                kept.extend_from_slice(&piece);
            }
            len -= here;
            if len == 0 {
                return Ok(());
            }
            drop(piece);
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.buffer.capacity() - self.buffer.len() < 4096 {
            self.buffer.reserve(32 * 1024);
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn answer(&mut self, status: u16, kind: &str, body: &[u8]) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.out.clear();
        self.out.extend_from_slice(head.as_bytes());
        if body.len() <= 16 * 1024 {
            self.out.extend_from_slice(body);
            self.stream.write_all(&self.out).await?;
        } else {
            self.stream.write_all(&self.out).await?;
            self.stream.write_all(body).await?;
        }
        self.stream.flush().await
    }

    /// One event at once, then one a second, each with the time of its departure.
    async fn events(&mut self) -> io::Result<()> {
        // nginx holds events back otherwise.
        let head = "HTTP/1.1 200 -\r\ncontent-type: text/event-stream\r\nx-accel-buffering: no\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        self.stream.write_all(head.as_bytes()).await?;
        let mut pause = first_pause();
        loop {
            let event = event();
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            self.stream.write_all(chunk.as_bytes()).await?;
            self.stream.flush().await?;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Whoever leaves says so by closing.
                left = self.stream.read_u8() => return left.map(drop),
            }
            pause = INTERVAL;
        }
    }
}

/// Streams that were opened together shall not all speak at the same moment.
pub fn first_pause() -> Duration {
    INTERVAL.mul_f64(1.0 + fastrand::f64())
}

pub fn event() -> String {
    format!("event: message\ndata: {}\n\n", clock::now())
}

fn parse(buffer: &[u8], gateway: &Gateway) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(buffer).map_err(|_| bad("request head"))? {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial => return Ok(None),
    };
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(bad("request line"));
    };
    let path = target.split('?').next().unwrap_or(target);
    let mut body = Body::Known(0);
    let mut closes = request.version == Some(0);
    let mut claim = Claim::default();
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            body = Body::Known(number(header.value)? as usize);
        } else if is("transfer-encoding") {
            body = Body::Chunked;
        } else if is("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.starts_with(['x', 'X']) {
            claim.note(&header.name.to_ascii_lowercase(), header.value);
        }
    }
    let asked = Asked::at(path);
    let request = Request {
        asked,
        admitted: asked == Asked::Counts || gateway.admits(method, path, &claim),
        body,
        closes,
    };
    Ok(Some((request, len)))
}
