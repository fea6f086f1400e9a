//! A request on its way out: its head, then its body as it comes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Method, Request};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::head::{self, Framing};
use crate::client::io::Io;
use crate::message::RequestBody;

/// A body up to this size goes out in one write with its head.
const SMALL_BODY: usize = 16 * 1024;

pub struct Outgoing {
    method: Method,
    body: RequestBody,
    framing: Framing,
    queue: VecDeque<Bytes>,
    /// The body's bytes are still to be taken from the request.
    has_more: bool,
    /// Bytes that a body of a given length still owes.
    owed: u64,
    has_begun: bool,
    is_done: bool,
    failed: Option<io::Error>,
    /// The body broke off at its source: the upstream must see that, by the connection's end.
    is_broken: bool,
}

impl Outgoing {
    pub fn new(request: &mut Request<RequestBody>) -> Self {
        let mut first = Vec::with_capacity(1024);
        let framing = head::encode(request, &mut first);
        let mut queue = VecDeque::with_capacity(2);
        let mut has_more = true;
        if let RequestBody::Full(body) = request.body() {
            has_more = false;
            match body {
                Some(body) if body.len() > SMALL_BODY => queue.push_back(body.clone()),
                Some(body) => first.extend_from_slice(body),
                None => {}
            }
        }
        queue.push_front(first.into());
        Self {
            owed: match framing {
                Framing::Length(length) => length,
                Framing::Chunked => 0,
            },
            method: request.method().clone(),
            // What is known whole is in the queue.
            body: if has_more {
                request.body_mut().take()
            } else {
                RequestBody::Gone
            },
            framing,
            queue,
            has_more,
            has_begun: false,
            is_done: false,
            failed: None,
            is_broken: false,
        }
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    /// All of it is out.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Nothing more will go out.
    pub fn is_over(&self) -> bool {
        self.is_done || self.failed.is_some()
    }

    /// The body cannot be sent to its end, whatever the upstream does.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether no byte of the request was taken; then it gets its body back.
    pub fn give_back(self, request: &mut Request<RequestBody>) -> bool {
        if self.has_more && !self.has_begun {
            *request.body_mut() = self.body;
        }
        !self.has_begun
    }

    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Writes what can be written now. A failure is kept: an answer may be there all the same.
    pub fn advance(&mut self, io: &mut Io, cx: &mut Context<'_>) {
        if self.is_over() {
            return;
        }
        match self.poll_write(io, cx) {
            Poll::Ready(Ok(())) => self.is_done = true,
            Poll::Ready(Err(error)) => self.failed = Some(error),
            Poll::Pending => {}
        }
    }

    fn poll_write(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while let Some(front) = self.queue.front_mut() {
                let written = ready!(Pin::new(&mut *io).poll_write(cx, front))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.has_begun = true;
                front.advance(written);
                if front.is_empty() {
                    self.queue.pop_front();
                }
            }
            if !self.has_more {
                return Pin::new(io).poll_flush(cx);
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // What is out shall arrive while we wait for the rest.
                ready!(Pin::new(&mut *io).poll_flush(cx))?;
                return Poll::Pending;
            };
            match frame {
                None => self.end()?,
                Some(Err(error)) => return Poll::Ready(Err(self.broken(error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.add(data)?;
                    }
                }
            }
        }
    }

    fn add(&mut self, data: Bytes) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        if self.framing == Framing::Chunked {
            let size = format!("{:x}\r\n", data.len());
            self.queue.push_back(Bytes::from(size));
            self.queue.push_back(data);
            self.queue.push_back(Bytes::from_static(b"\r\n"));
            return Ok(());
        }
        // What is beyond the announced length would be taken for another request.
        match self.owed.checked_sub(data.len() as u64) {
            Some(owed) => self.owed = owed,
            None => return Err(self.broken("the body is longer than announced")),
        }
        self.queue.push_back(data);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.has_more = false;
        if self.framing == Framing::Chunked {
            self.queue.push_back(Bytes::from_static(b"0\r\n\r\n"));
        }
        if self.owed > 0 {
            return Err(self.broken("the body is shorter than announced"));
        }
        Ok(())
    }

    fn broken(&mut self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
        self.is_broken = true;
        io::Error::other(why)
    }
}
