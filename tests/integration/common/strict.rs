//! An upstream that reads HTTP/1.1 as strictly as it can be read, and notes every byte that
//! another server might read in another way.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::journal::Journal;

pub struct StrictUpstream {
    address: SocketAddr,
    pub seen: Arc<Journal<Message>>,
    /// What no proxy should ever send.
    pub odd: Arc<Journal<String>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A request, as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    pub target: String,
    /// In order; names as they were written.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let own = self.headers.iter().filter(move |(own, _)| own == name);
        own.map(|(_, value)| &value[..])
    }
}

impl StrictUpstream {
    /// Answers everything with `{}`.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, odd) = (Arc::new(Journal::default()), Arc::new(Journal::default()));
        let stopping = Arc::new(AtomicBool::new(false));
        let (of_seen, of_odd, is_stopping) = (seen.clone(), odd.clone(), stopping.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_stopping.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, odd) = (Arc::clone(&of_seen), Arc::clone(&of_odd));
                std::thread::spawn(move || serve(&stream.unwrap(), &seen, &odd));
            }
        });
        Self {
            address,
            seen,
            odd,
            stopping,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for StrictUpstream {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `Ok(None)`: the connection ended where one message ends and none has begun.
type Parsed<T> = Result<Option<T>, String>;

fn serve(stream: &TcpStream, seen: &Journal<Message>, odd: &Journal<String>) {
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        match message(&mut reader) {
            Ok(Some(message)) => seen.push(message),
            Ok(None) => return,
            Err(reason) => return odd.push(reason),
        }
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let mut writer = stream;
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn message(reader: &mut impl Read) -> Parsed<Message> {
    let Some(first) = line(reader)? else {
        return Ok(None);
    };
    let text = String::from_utf8(first).map_err(|_| "a request line of odd bytes")?;
    let parts: Vec<_> = text.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return Err(format!("the request line {text:?}"));
    };
    if !is_token(method.as_bytes())
        || !target
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || !byte.is_ascii())
    {
        return Err(format!("the request line {text:?}"));
    }
    let Some(headers) = headers(reader)? else {
        return Ok(None);
    };
    let Some(body) = body(reader, &headers)? else {
        return Ok(None);
    };
    Ok(Some(Message {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body,
    }))
}

fn headers(reader: &mut impl Read) -> Parsed<Vec<(String, Vec<u8>)>> {
    let mut headers = Vec::new();
    loop {
        let Some(line) = line(reader)? else {
            return Ok(None);
        };
        if line.is_empty() {
            return Ok(Some(headers));
        }
        let shown = String::from_utf8_lossy(&line).into_owned();
        let colon = line.iter().position(|&byte| byte == b':');
        let colon = colon.ok_or_else(|| format!("the header {shown:?}"))?;
        let value = line[colon + 1..].trim_ascii();
        let is_text = value
            .iter()
            .all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
        if !is_token(&line[..colon]) || !is_text {
            return Err(format!("the header {shown:?}"));
        }
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        headers.push((name, value.to_vec()));
    }
}

fn body(reader: &mut impl Read, headers: &[(String, Vec<u8>)]) -> Parsed<Vec<u8>> {
    let all = |name: &str| -> Vec<_> {
        let own = headers
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.map(|(_, value)| String::from_utf8_lossy(value))
            .collect()
    };
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Some(Vec::new())),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let mut body = vec![0; length.parse().map_err(|_| format!("the length {length}"))?];
            Ok(reader.read_exact(&mut body).ok().map(|()| body))
        }
        ([], [coding]) if coding == "chunked" => chunks(reader),
        _ => Err(format!("the framing {lengths:?} {codings:?}")),
    }
}

fn chunks(reader: &mut impl Read) -> Parsed<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Some(size) = line(reader)? else {
            return Ok(None);
        };
        let size = String::from_utf8_lossy(&size).into_owned();
        let is_plain = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let count = usize::from_str_radix(&size, 16).ok().filter(|_| is_plain);
        let count = count.ok_or_else(|| format!("the chunk size {size:?}"))?;
        let mut chunk = vec![0; count];
        if reader.read_exact(&mut chunk).is_err() {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
        match line(reader)? {
            None => return Ok(None),
            Some(end) if end.is_empty() => {}
            Some(end) => {
                return Err(format!(
                    "{:?} behind a chunk",
                    String::from_utf8_lossy(&end)
                ));
            }
        }
        if count == 0 {
            return Ok(Some(body));
        }
    }
}

/// Without its CR LF; `None` at the end of the connection.
fn line(reader: &mut impl Read) -> Parsed<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while reader.read_exact(&mut byte).is_ok() {
        line.push(byte[0]);
        if byte[0] != b'\n' {
            continue;
        }
        return match line.strip_suffix(b"\r\n") {
            Some(text) if !text.contains(&b'\r') => Ok(Some(text.to_vec())),
            _ => Err(format!(
                "a bare CR or LF: {:?}",
                String::from_utf8_lossy(&line)
            )),
        };
    }
    // What was cut is plainly not whole: nobody takes it for a message.
    Ok(None)
}

fn is_token(name: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_tchar)
}
