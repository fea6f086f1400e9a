//! On the way to the upstream: certificates, versions, key exchange, proxies.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use http::Version;
use rustls::NamedGroup;
use rustls::crypto::aws_lc_rs;

use crate::common::journal::Journal;
use crate::common::tls::{Authority, Tls, authority};
use crate::common::{Ask, Setup, Upstream, Way};

#[tokio::test]
async fn http2_or_1_1_is_spoken_as_the_upstream_offers_and_the_operator_wants() {
    let both = Upstream::https();
    let one = Upstream::https_h1();
    for (upstream, wanted, spoken) in [
        (&both, "auto", Version::HTTP_2),
        (&both, "1.1", Version::HTTP_11),
        (&both, "2", Version::HTTP_2),
        (&one, "auto", Version::HTTP_11),
        (&one, "1.1", Version::HTTP_11),
    ] {
        let setup = Setup::before(upstream).upstream(&format!("http_version = \"{wanted}\""));
        let daemon = setup.start().await;
        for way in Way::ALL {
            assert_eq!(daemon.ask_by(way, Ask::post("/", "{}")).await.status, 200);
            assert_eq!(upstream.last().version, spoken, "{wanted}");
        }
    }
}

#[tokio::test]
async fn http2_in_clear_is_spoken_where_it_is_asked_for() {
    let upstream = Upstream::http();
    let daemon = Setup::before(&upstream)
        .upstream("http_version = \"2\"")
        .start()
        .await;
    assert_eq!(daemon.get("/").await.status, 200);
    assert_eq!(upstream.only().version, Version::HTTP_2);
}

#[tokio::test]
async fn a_host_by_name_is_asked_for_by_that_name() {
    let upstream = Upstream::https();
    let url = format!("https://LocalHost:{}/", upstream.port());
    let daemon = Setup::at(&url).start().await;
    assert_eq!(daemon.get("/").await.status, 200);
    let seen = upstream.only();
    assert_eq!(seen.session.server_name.as_deref(), Some("localhost"));
    assert_eq!(seen.authority, format!("localhost:{}", upstream.port()));
}

#[tokio::test]
async fn the_post_quantum_hybrid_is_preferred() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    daemon.get("/").await;
    let session = &upstream.only().session;
    assert_eq!(session.group, Some(NamedGroup::X25519MLKEM768));
    assert_eq!(session.version, Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn an_upstream_without_the_hybrid_is_reached_all_the_same() {
    let mut provider = aws_lc_rs::default_provider();
    provider
        .kx_groups
        .retain(|group| group.name() == NamedGroup::secp256r1);
    let upstream = Upstream::tls(Tls {
        provider,
        ..Tls::default()
    });
    let daemon = Setup::before(&upstream).start().await;
    assert_eq!(daemon.get("/").await.status, 200);
    assert_eq!(upstream.only().session.group, Some(NamedGroup::secp256r1));
}

#[tokio::test]
async fn tls_1_2_is_spoken_with_those_that_know_no_better() {
    let upstream = Upstream::tls(Tls {
        versions: vec![&rustls::version::TLS12],
        ..Tls::default()
    });
    let daemon = Setup::before(&upstream).start().await;
    assert_eq!(daemon.get("/").await.status, 200);
    let version = upstream.only().session.version;
    assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_2));
}

#[tokio::test]
async fn an_upstream_that_wants_a_client_certificate_gets_it() {
    let upstream = Upstream::tls(Tls {
        wants_client: true,
        ..Tls::default()
    });
    let setup = Setup::before(&upstream);
    let identity = authority().issue(&["client"]);
    let certificate = setup.file("client.pem", &identity.certificate);
    let key = setup.file("client.key", &identity.key);
    let daemon = setup
        .upstream(&format!(
            "client_cert = {certificate:?}\nclient_key = {key:?}"
        ))
        .start()
        .await;
    assert_eq!(daemon.get("/").await.status, 200);
    assert!(upstream.only().session.has_client_certificate);

    let without = Setup::before(&upstream).start().await;
    let answer = without.get("/").await;
    // With TLS 1.3 the refusal comes after our side of the handshake is done.
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_client_certificate_without_its_key_or_with_anothers_is_a_configuration_error() {
    let setup = Setup::at("https://127.0.0.1:1");
    let (one, other) = (authority().issue(&["one"]), authority().issue(&["other"]));
    let certificate = setup.file("client.pem", &one.certificate);
    let key = setup.file("client.key", &other.key);
    let setup = setup.upstream(&format!(
        "client_cert = {certificate:?}\nclient_key = {key:?}"
    ));
    let ended = setup.run(&["check"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("client_key"), "{ended:?}");
    let alone =
        Setup::at("https://127.0.0.1:1").upstream(&format!("client_cert = {certificate:?}"));
    assert_eq!(alone.run(&["check"]).code, Some(78));
}

#[tokio::test]
async fn a_ca_file_is_trusted_beside_the_systems_and_only_for_its_upstream() {
    let private = Authority::new("private");
    let upstream = Upstream::tls(Tls {
        identity: private.issue(&["127.0.0.1"]),
        ..Tls::default()
    });
    let setup = Setup::before(&upstream);
    setup.file("ca.pem", &format!("{}{}", authority().pem, private.pem));
    let daemon = setup.start().await;
    assert_eq!(daemon.get("/").await.status, 200);
}

#[tokio::test]
async fn a_new_ca_file_counts_from_the_reload_on() {
    let private = Authority::new("private");
    let upstream = Upstream::tls(Tls {
        identity: private.issue(&["127.0.0.1"]),
        ..Tls::default()
    });
    let daemon = Setup::before(&upstream).start().await;
    daemon.get("/").await.assert_refused(502, "upstream_tls");
    daemon.setup.file("ca.pem", &private.pem);
    daemon.reload().await;
    assert_eq!(daemon.get("/").await.status, 200);
}

// Proxies.

/// A proxy that knows CONNECT, and nothing else.
struct ConnectProxy {
    port: u16,
    /// The heads of the requests it got.
    heads: Arc<Journal<String>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ConnectProxy {
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Journal::default());
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (of_thread, stopped) = (Arc::clone(&heads), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for client in listener.incoming() {
                if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let heads = Arc::clone(&of_thread);
                std::thread::spawn(move || connect(client.unwrap(), &heads, answer));
            }
        });
        Self {
            port,
            heads,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn connect(mut client: TcpStream, heads: &Journal<String>, answer: &str) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    heads.push(head);
    let _ = client.write_all(answer.as_bytes());
    if !answer.contains(" 200 ") {
        return;
    }
    // Names do not matter here: whatever is asked for is this host's.
    let port: u16 = target.rsplit(':').next().unwrap().parse().unwrap();
    let mut upstream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut there = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut there.0, &mut there.1);
        let _ = there.1.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut upstream, &mut client);
    let _ = client.shutdown(Shutdown::Write);
}

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

#[tokio::test]
async fn an_https_upstream_is_reached_through_the_proxy_of_the_environment() {
    let upstream = Upstream::https();
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let proxy = ConnectProxy::start(ESTABLISHED);
        let url = format!("http://user:hush@127.0.0.1:{}", proxy.port);
        let daemon = Setup::before(&upstream).env(variable, &url).start().await;
        for way in Way::ALL {
            assert_eq!(daemon.ask_by(way, Ask::post("/p", "{}")).await.status, 200);
        }
        let head = proxy.heads.find("CONNECT", |_| true).await;
        let target = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", upstream.port());
        assert!(head.starts_with(&target), "{variable}: {head}");
        // `user:hush`, for the proxy alone.
        assert!(
            head.to_lowercase().contains("proxy-authorization: basic "),
            "{head}"
        );
        assert_eq!(upstream.last().header("proxy-authorization"), None);
    }
}

#[tokio::test]
async fn no_proxy_leads_around_it() {
    let upstream = Upstream::https();
    let proxy = ConnectProxy::start(ESTABLISHED);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    for exempt in ["127.0.0.1", "*", "example.org,127.0.0.0/8"] {
        let daemon = Setup::before(&upstream)
            .env("HTTPS_PROXY", &url)
            .env("NO_PROXY", exempt)
            .start()
            .await;
        assert_eq!(daemon.get("/").await.status, 200, "{exempt}");
        assert_eq!(proxy.heads.len(), 0, "{exempt}");
    }
    let daemon = Setup::at(&format!("https://localhost:{}", upstream.port()))
        .env("HTTPS_PROXY", &url)
        .env("no_proxy", "localhost")
        .start()
        .await;
    assert_eq!(daemon.get("/").await.status, 200);
    assert_eq!(proxy.heads.len(), 0);
}

#[tokio::test]
async fn upstreams_in_clear_or_behind_unix_sockets_need_no_proxy() {
    let proxy = ConnectProxy::start(ESTABLISHED);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    for upstream in [Upstream::http(), Upstream::unix()] {
        let daemon = Setup::before(&upstream)
            .env("HTTPS_PROXY", &url)
            .start()
            .await;
        assert_eq!(daemon.get("/").await.status, 200);
    }
    assert_eq!(proxy.heads.len(), 0);
}

#[tokio::test]
async fn a_proxy_that_refuses_makes_the_upstream_unreachable() {
    let upstream = Upstream::https();
    for answer in [
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let proxy = ConnectProxy::start(answer);
        let url = format!("http://user:hush@127.0.0.1:{}", proxy.port);
        let daemon = Setup::before(&upstream)
            .env("HTTPS_PROXY", &url)
            .start()
            .await;
        daemon
            .get("/")
            .await
            .assert_refused(502, "upstream_unreachable");
    }
    assert_eq!(upstream.count(), 0);
}
