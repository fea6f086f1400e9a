//! Responses of an upstream: what our codec takes, hyper reads in the same way.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::seeded;
use crate::client::h1::head;
use crate::framing::{Decoded, Decoder};

#[derive(Debug, PartialEq)]
struct Read {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

pub fn check(data: &[u8]) {
    let (seed, data) = seeded(data);
    let method = if seed & 7 == 7 {
        Method::HEAD
    } else {
        Method::GET
    };
    // hyper takes no more of a head than its buffer has; sizes are checked elsewhere.
    if data.len() > 8 * 1024 {
        return;
    }
    let Some(ours) = ours(data, &method) else {
        return;
    };
    match theirs(data, method) {
        Ok(theirs) => assert_eq!(ours, theirs),
        Err(error) => panic!("hyper refuses what we take ({error}): {ours:?}"),
    }
}

/// `None` for what is refused or is not whole.
fn ours(data: &[u8], method: &Method) -> Option<Read> {
    let mut input = BytesMut::from(data);
    let head = loop {
        let head = head::parse(&mut input, method).ok()??;
        if !head.response.status().is_informational() {
            break head;
        }
        // An upgrade that nobody asked for is refused further up.
        if head.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
    };
    let mut read = Read {
        status: head.response.status(),
        headers: head.response.headers().clone(),
        body: Vec::new(),
        trailers: None,
    };
    let mut decoder = head.decoder;
    assert!(!head.keeps_alive || decoder != Decoder::UntilClose);
    loop {
        match decoder.decode(&mut input).ok()? {
            Decoded::Data(data) => read.body.extend_from_slice(&data),
            Decoded::Trailers(trailers) => read.trailers = Some(trailers),
            Decoded::End => return Some(read),
            Decoded::Incomplete => return (decoder == Decoder::UntilClose).then_some(read),
        }
    }
}

fn theirs(data: &[u8], method: Method) -> Result<Read, hyper::Error> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(exchange(data, method)))
}

async fn exchange(data: &[u8], method: Method) -> Result<Read, hyper::Error> {
    let (near, mut far) = tokio::io::duplex(16 * 1024);
    // As many lines as we take; hyper's own limit is lower.
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(crate::framing::MAX_LINES)
        .handshake(TokioIo::new(near))
        .await?;
    let request = Request::builder()
        .method(method)
        .uri("/")
        .body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.expect("a request"));
    let upstream = async {
        let mut request = [0; 1024];
        let _ = far.read(&mut request).await;
        let _ = far.write_all(data).await;
        let _ = far.shutdown().await;
        // What hyper still writes has to go somewhere.
        while let Ok(1..) = far.read(&mut request).await {}
    };
    let read = async {
        let (head, body) = answer.await?.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Read {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes().to_vec(),
            trailers,
        })
    };
    tokio::select! {
        biased;
        read = read => read,
        () = async { let _ = tokio::join!(connection, upstream); std::future::pending().await } => unreachable!(),
    }
}
