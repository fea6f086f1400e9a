//! The admin socket, asked without any library: also from `drop`, where nothing can be awaited.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::secrets;

/// Sends a body to a page.
pub fn put(socket: &Path, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let length = body.len();
    let headers = format!("host: localhost\r\ncontent-length: {length}\r\n");
    speak(socket, "PUT", path, &headers, body)
}

/// One question on a connection of its own: status and body.
pub fn ask(socket: &Path, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    ask_with(socket, method, path, "host: localhost\r\n")
}

pub fn ask_with(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &str,
) -> std::io::Result<(u16, String)> {
    speak(socket, method, path, headers, "")
}

fn speak(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        // What is refused by its head is closed with its body unread: a reset follows the answer.
        if answer.is_empty() || error.kind() != ErrorKind::ConnectionReset {
            return Err(error);
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    secrets::assert_none(path, &answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    Ok((status.unwrap_or(0), body.to_owned()))
}
