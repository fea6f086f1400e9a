//! TLS 1.2 can begin anew in the middle of a connection. Neither side of the daemon does; `openssl` asks for it.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::common::tls::authority;
use crate::common::{Ask, Http, Setup, Upstream, Way, skipped, until};

/// A running `openssl`, and what it has printed so far.
struct Openssl {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Openssl {
    /// `None` where there is none.
    fn start(args: &[&str]) -> Option<Self> {
        let child = Command::new("openssl")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            skipped("there is no openssl", true);
            return None;
        };
        let said = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().unwrap(), Arc::clone(&said));
        collect(child.stderr.take().unwrap(), Arc::clone(&said));
        Some(Self { child, said })
    }

    fn says(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        // It may have ended.
        let _ = stdin.write_all(text.as_bytes());
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    async fn has_said(&self, text: &str, times: usize) {
        until(text, || self.said().matches(text).count() >= times).await;
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..n]);
            into.lock().unwrap().push_str(&text);
        }
    });
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_upstream_that_wants_to_renegotiate_gets_no_second_handshake_and_no_second_request() {
    let good = Upstream::https();
    let setup = Setup::before(&good);
    let identity = authority().issue(&["localhost", "127.0.0.1"]);
    let certificate = setup.file("evil.pem", &identity.certificate);
    let key = setup.file("evil.key", &identity.key);
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let listen = ["s_server", "-tls1_2", "-accept", "127.0.0.1:0"];
    let args = [&listen[..], &["-cert", certificate, "-key", key]].concat();
    let Some(mut evil) = Openssl::start(&args) else {
        return;
    };
    evil.has_said("ACCEPT 127.0.0.1:", 1).await;
    let port = evil.said();
    let port = port.rsplit("ACCEPT 127.0.0.1:").next().unwrap().trim();
    let ca = setup.path("ca.pem");
    let more = format!(
        "[upstream.evil]\nurl = \"https://localhost:{port}/\"\nca_file = {ca:?}\n\
         credential = \"key\"\nretry = \"off\"\nrequest_timeout = \"2s\"\n\
         [[route]]\npath = \"/evil\"\nupstream = \"evil\"\n\
         [[route]]\npath = \"/\"\nupstream = \"up\""
    );
    let daemon = setup.more(&more).start().await;
    // It serves one connection at a time, and the first is the one that the daemon opens before it needs any.
    evil.has_said("CIPHER is", 1).await;
    evil.says("q\n");
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    let asking = client.ask(Ask::get("/evil"));
    let attack = async {
        evil.has_said("GET /evil", 1).await;
        evil.says("r\n");
        evil.has_said("SSL_do_handshake -> ", 1).await;
        evil.says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\n");
        evil.has_said("ERROR", 1).await;
    };
    let (answer, ()) = tokio::join!(asking, attack);
    assert!(
        (502..=504).contains(&answer.status.as_u16()) && answer.code().is_some(),
        "{answer:?}"
    );
    assert_eq!(evil.said().matches("CIPHER is").count(), 2);
    assert_eq!(evil.said().matches("GET /evil").count(), 1);
    assert_eq!(daemon.get("/good").await.status, 200);
}

#[tokio::test]
async fn a_client_that_wants_to_renegotiate_gets_no_second_handshake() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let identity = authority().issue(&["localhost", "127.0.0.1"]);
    let certificate = setup.file("own.pem", &identity.certificate);
    let key = setup.file("own.key", &identity.key);
    let tls = format!("tls = {{ cert = {certificate:?}, key = {key:?} }}");
    let daemon = setup
        .tcp_listener(&tls)
        .more("[server]\nidle_timeout = \"2s\"")
        .start()
        .await;
    let address = daemon.address().to_string();
    let Some(mut evil) = Openssl::start(&["s_client", "-tls1_2", "-connect", &address]) else {
        return;
    };
    let request = "GET /once HTTP/1.1\nHost: localhost\n\n";
    evil.says(&request.replace('\n', "\r\n"));
    evil.has_said("HTTP/1.1 200", 1).await;
    evil.says("R\n");
    evil.has_said("RENEGOTIATING", 1).await;
    evil.says(&request.replace('\n', "\r\n"));
    // OpenSSL waits for a handshake that nobody gives it, and is closed like any other that is idle.
    until("it is closed", || daemon.status()["connections"] == 0).await;
    assert_eq!(evil.said().matches("HTTP/1.1 200").count(), 1);
    assert_eq!(upstream.count(), 1);
}
