//! Bytes as they are: a client that sends whatever it likes, and an upstream that does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::journal::Journal;
use super::wait::within;

/// Sends `bytes` and returns all that comes back until the other end closes the connection.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // The other end may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}

/// Everything until the connection is closed, or reset.
pub async fn read_to_end(stream: &mut tokio::net::TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = within("the connection was closed", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until `text` has come.
pub async fn read_until(stream: &mut tokio::net::TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    within(text, async {
        while !String::from_utf8_lossy(&read).contains(text) {
            let n = stream.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "ended: {}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&buffer[..n]);
        }
    })
    .await;
    String::from_utf8_lossy(&read).into_owned()
}

/// An upstream in clear that is handed each connection once a request's head has come.
pub struct RawUpstream {
    address: SocketAddr,
    /// The heads, byte for byte.
    pub heads: Arc<Journal<String>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RawUpstream {
    pub fn start(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Journal::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let (of_thread, is_stopping) = (Arc::clone(&heads), Arc::clone(&stopping));
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_stopping.load(Ordering::Relaxed) {
                    return;
                }
                let (heads, answer) = (Arc::clone(&of_thread), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &heads, &*answer));
            }
        });
        Self {
            address,
            heads,
            stopping,
            thread: Some(thread),
        }
    }

    /// Sends these bytes and closes the connection, properly.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |stream| {
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
            // Closing with unread input would reset the connection.
            let _ = stream.read_to_end(&mut Vec::new());
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, heads: &Journal<String>, answer: &impl Fn(&mut TcpStream)) {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    heads.push(String::from_utf8(head).unwrap());
    answer(&mut stream);
}
