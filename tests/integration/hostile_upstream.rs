//! Upstreams that mean harm: what they send is bounded, contained, and never followed.
//!
//! `hostile_upstream/verdicts.txt` says what the client gets in each case.

mod bombs;
mod h1;
mod h2;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Response;

use crate::common::raw::{self, RawUpstream};
use crate::common::verdicts::{self, Row};
use crate::common::{Ask, Daemon, Http, Setup, Upstream, Way, body};

/// An attack: what the upstream does with a connection on which a request has come.
struct Case {
    family: &'static str,
    name: &'static str,
    is_h2: bool,
    attack: Arc<dyn Fn(&mut TcpStream) + Send + Sync>,
}

/// More than the daemon may ever take of what nobody asked for, and less than a test may send.
const FLOOD: usize = 48 * 1024 * 1024;
const FLOOD_LASTS: Duration = Duration::from_secs(3);

/// Repeats `bytes` until the daemon has had enough, or the test has. Reads nothing.
fn flood(stream: &mut TcpStream, bytes: &[u8]) {
    let piece = bytes.repeat((64 * 1024 / bytes.len()).max(1));
    let began = Instant::now();
    stream.set_write_timeout(Some(FLOOD_LASTS)).unwrap();
    for _ in 0..FLOOD / piece.len() {
        if began.elapsed() > FLOOD_LASTS || stream.write_all(&piece).is_err() {
            return;
        }
    }
}

/// What a client by this way gets: status, code, and how the body ends.
async fn verdict(daemon: &Daemon, way: Way, target: &str) -> String {
    let mut client = daemon.client(way).await;
    let opened = match client.try_open(Ask::get(target)).await {
        Ok(opened) => opened,
        Err(_) => return "no answer".to_owned(),
    };
    let status = opened.status.as_u16();
    let code = opened.headers.get("x-mcp-auth-proxy-error").cloned();
    // What goes on for ever is left by the client.
    let end = tokio::time::timeout(Duration::from_secs(2), opened.end()).await;
    let end = match end {
        Ok((_, Ok(()))) => "whole",
        Ok((_, Err(_))) => "cut",
        Err(_) => "until the client leaves",
    };
    match code {
        Some(code) => format!("{status} {}", code.to_str().unwrap()),
        None => format!("{status}, {end}"),
    }
}

/// What depends on who is faster is not told apart.
fn settled(family: &str, verdict: String) -> String {
    if !family.ends_with("without end") {
        return verdict;
    }
    match &verdict[..] {
        "502 upstream_reset" | "502 upstream_bad_response" | "504 upstream_timeout" => {
            "502 or 504".to_owned()
        }
        passed if passed.starts_with("200, ") => "200, as it comes".to_owned(),
        _ => verdict,
    }
}

/// Each upstream behind a path of its own, and a good one at `/good`.
async fn daemon_before(upstreams: &[(String, bool, bool, RawUpstream)], good: &Upstream) -> Daemon {
    let mut more = String::new();
    for (name, is_h2, is_flood, upstream) in upstreams {
        let timeout = if *is_flood { "2s" } else { "6s" };
        let (url, version) = (upstream.url(), if *is_h2 { "2" } else { "1.1" });
        more.push_str(&format!(
            "[upstream.{name}]\nurl = \"{url}\"\ncredential = \"key\"\n\
             http_version = \"{version}\"\nrequest_timeout = \"{timeout}\"\n\
             retry = \"off\"\nbreaker = \"off\"\n\
             [[route]]\npath = \"/{name}\"\nupstream = \"{name}\"\n",
        ));
    }
    more.push_str("[[route]]\npath = \"/good\"\nupstream = \"up\"\n");
    Setup::before(good).more(&more).start().await
}

#[tokio::test]
async fn what_a_hostile_upstream_sends_is_bounded_and_contained() {
    let cases: Vec<Case> = h1::cases().into_iter().chain(h2::cases()).collect();
    let upstreams: Vec<_> = cases
        .iter()
        .enumerate()
        .flat_map(|(at, case)| {
            ["one", "two"].map(|way| {
                let attack = Arc::clone(&case.attack);
                let upstream = RawUpstream::start(move |stream| attack(stream));
                let is_flood = case.family.ends_with("without end");
                (format!("{way}{at}"), case.is_h2, is_flood, upstream)
            })
        })
        .collect();
    let good = Upstream::http();
    let daemon = daemon_before(&upstreams, &good).await;
    assert_eq!(daemon.get("/good").await.status, 200);
    let before = daemon.proc_status("VmRSS");
    let mut rows: Vec<Row> = Vec::new();
    // A few at a time: their floods share the machine with others.
    for (some, from) in cases.chunks(12).zip((0..).step_by(12)) {
        let asked = some.iter().zip(from..).map(|(case, at)| {
            let daemon = &daemon;
            async move {
                let (one, two) = (format!("/one{at}"), format!("/two{at}"));
                let (one, two) = tokio::join!(
                    verdict(daemon, Way::Tcp(Http::One), &one),
                    verdict(daemon, Way::Unix(Http::Two), &two)
                );
                let [one, two] = [one, two].map(|verdict| settled(case.family, verdict));
                let verdict = if one == two {
                    one
                } else {
                    format!("{one}; over h2: {two}")
                };
                (case.family, case.name.to_owned(), verdict)
            }
        });
        rows.extend(join_all(asked).await);
        assert_eq!(daemon.get("/good").await.status, 200, "others go on");
    }
    let grown = daemon.proc_status("VmHWM").saturating_sub(before);
    eprintln!(
        "{} hostile upstreams: {grown} KiB at the peak above {before} KiB",
        cases.len()
    );
    // Gigabytes are offered. Usually 11 MiB are taken.
    assert!(grown < 32 * 1024, "the daemon grew by {grown} KiB");
    verdicts::assert_kept("hostile_upstream/verdicts.txt", &rows);
}

#[tokio::test]
async fn nothing_an_upstream_says_is_followed_and_nothing_leads_around_the_proxy() {
    let bait = Upstream::http();
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let targets = [
        "file:///etc/passwd".to_owned(),
        "http://127.0.0.1/".to_owned(),
        format!("{}/bait", bait.url()),
        format!("//{}/bait", bait.url().trim_start_matches("http://")),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "javascript:alert(1)".to_owned(),
        "gopher://127.0.0.1:25/".to_owned(),
    ];
    for target in &targets {
        for status in [300, 301, 302, 303, 305, 307, 308, 401, 407, 421] {
            let location = target.clone();
            upstream.at("/away", move |_| {
                let response = Response::builder()
                    .status(status)
                    .header("location", &location)
                    .header("content-location", &location)
                    .header("refresh", format!("0; url={location}"))
                    .header("link", format!("<{location}>; rel=preload"))
                    .header("alt-svc", "h2=\"evil.example:443\"; ma=86400; persist=1")
                    .header("proxy-authenticate", "Basic");
                std::future::ready(Ok(response.body(body::empty()).unwrap()))
            });
            let before = upstream.count();
            let head = "GET /away HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let answer = raw::exchange(daemon.address(), head.as_bytes())
                .await
                .to_ascii_lowercase();
            assert_eq!(upstream.count(), before + 1, "{target} {status}");
            for gone in ["alt-svc:", "proxy-authenticate:", "www-authenticate:"] {
                assert!(!answer.contains(gone), "{answer}");
            }
        }
    }
    assert_eq!((bait.count(), bait.connections()), (0, 0));
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_never_taken_for_the_next_one() {
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let upstream = RawUpstream::start(move |stream| {
        let _ = stream.write_all(two.as_bytes());
        // Kept open: the daemon may use the connection again, if it trusts it.
        let _ = std::io::Read::read_to_end(stream, &mut Vec::new());
    });
    let daemon = Setup::at(&upstream.url()).start().await;
    for _ in 0..20 {
        assert_eq!(daemon.get("/").await.text(), "ok");
    }
    assert_eq!(upstream.heads.len(), 20, "each on a connection of its own");
}

#[tokio::test]
async fn a_credential_that_comes_back_in_a_header_goes_no_further() {
    let upstream = Upstream::https();
    upstream.at("/mirror", |call| async move {
        let signature = call.seen.header("x-signature").unwrap().to_owned();
        let response = Response::builder()
            .status(302)
            .header("x-signature", &signature)
            .header(
                "x-upstream-debug",
                format!("got {} there", signature.to_uppercase()),
            )
            .header("location", format!("/next?signature={signature}"))
            .header("set-cookie", format!("last={signature}"))
            .header("x-upstream-kept", "kept");
        Ok(response.body(body::empty()).unwrap())
    });
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::get("/mirror")).await;
        crate::common::secrets::assert_none("the answer", &format!("{:?}", answer.headers));
        assert_eq!(answer.header("x-upstream-kept"), Some("kept"));
        assert_eq!(answer.header("location"), None);
    }
}
