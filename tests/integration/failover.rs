//! Several URLs of one upstream: which one requests go to, and that nobody notices when one dies.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Response;
use serde_json::{Value, json};

use crate::common::tls::{Tls, authority};
use crate::common::upstream::{Outcome, json as json_answer};
use crate::common::wait::until;
use crate::common::{Answer, Ask, Client, Daemon, Http, Setup, Upstream, Way, body};
use crate::sessions::server::{Server, request};

const LIST: &str = r#"{"jsonrpc":"2.0","id":"l","method":"tools/list"}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"t"}}"#;
const SOON: &str = "breaker = { failures = 3, patience = \"1ms\", probe_interval = \"200ms\" }";

/// An address where nobody listens.
fn unused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A daemon's setup with these URLs, the first preferred.
fn before(urls: &[&str]) -> Setup {
    let secure = urls.iter().find(|url| url.starts_with("https"));
    Setup::at(secure.unwrap_or(&urls[0])).upstream_urls(urls)
}

fn url_of(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn down(daemon: &Daemon, url: &str) -> f64 {
    daemon.metric(&format!(
        "mcp_auth_proxy_upstream_url_down{{upstream=\"up\",url=\"{url}\"}}"
    ))
}

fn says(upstream: &Upstream, path: &str, outcome: fn() -> Outcome) {
    upstream.at(path, move |_| std::future::ready(outcome()));
}

fn unavailable(retry_after: Option<&str>) -> Outcome {
    let mut response = Response::builder().status(503);
    if let Some(value) = retry_after {
        response = response.header("retry-after", value);
    }
    Ok(response.body(body::full("not now")).unwrap())
}

/// Opens a session; its id.
async fn opened(daemon: &Daemon) -> String {
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#;
    let answer = daemon.post("/mcp", initialize).await;
    answer.header("mcp-session-id").unwrap().to_owned()
}

#[tokio::test]
async fn the_first_url_has_every_request_while_it_is_up() {
    let (first, second) = (Upstream::https(), Upstream::https());
    let daemon = before(&[&first.url(), &second.url()]).start().await;
    for _ in 0..5 {
        assert_eq!(daemon.post("/x", CALL).await.status, 200);
    }
    assert_eq!((first.count(), second.count()), (5, 0));
    assert_eq!(down(&daemon, &first.url()), 0.0);
    let status = daemon.status();
    let urls = status["upstreams"][0]["urls"].as_array().unwrap();
    assert_eq!(urls.len(), 2, "{status}");
    assert!(urls.iter().all(|url| url["up"] == true), "{status}");
}

#[tokio::test]
async fn each_url_is_signed_for_its_own_host_and_path() {
    let (first, second) = (unused(), Upstream::https());
    let urls = [url_of(first) + "/a/b", second.url() + "/other%20base/"];
    let daemon = before(&[&urls[0], &urls[1]]).start().await;
    let answer = daemon.post("/mcp/%41?q=1", CALL).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // The fake has verified the signature over its own path.
    let seen = second.only();
    assert_eq!(seen.target, "/other%20base/mcp/%41?q=1");
    assert_eq!(seen.authority, format!("127.0.0.1:{}", second.port()));
}

#[tokio::test]
async fn what_cannot_be_sent_to_one_url_is_sent_to_the_next_whatever_it_is() {
    let (gone, second) = (url_of(unused()), Upstream::https());
    for retry in ["", "retry = \"off\""] {
        let setup = before(&[&gone, &second.url()]).upstream(retry);
        let daemon = setup.start().await;
        let begun = Instant::now();
        let count = second.count();
        let ask = Ask::post("/x", CALL).header("x-request-id", "moved");
        assert_eq!(daemon.ask(ask).await.status, 200);
        assert!(begun.elapsed() < Duration::from_millis(900), "it waited");
        assert_eq!(second.count(), count + 1);
        let line = daemon.logged_request("moved").await;
        assert_eq!(line["url"], json!(second.url()));
        assert_eq!(down(&daemon, &gone), 1.0);
        daemon
            .logged("the URL's loss", |line| {
                line["msg"].to_string().contains("cannot be reached")
            })
            .await;
        let status = daemon.status();
        assert_eq!(status["upstreams"][0]["urls"][0]["up"], false, "{status}");
        assert_eq!(status["upstreams"][0]["url"], json!(second.url()));
    }
}

#[tokio::test]
async fn what_only_reads_does_not_wait_for_a_url_that_takes_it_and_says_nothing() {
    let (first, second) = (Upstream::https(), Upstream::https());
    first.at("/x", |_| std::future::pending());
    let setup = before(&[&first.url(), &second.url()])
        .upstream("request_timeout = \"4s\"\nretry = { attempt_timeout = \"500ms\" }")
        .upstream("breaker = { failures = 3, patience = \"1ms\", probe_interval = \"1m\" }");
    let daemon = setup.start().await;
    // Connections are there, so that what is cut short is the answer.
    daemon.post("/warm", LIST).await;
    let begun = Instant::now();
    let answer = daemon.post("/x", LIST).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-mcp-auth-proxy-attempts"), Some("2"));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(took < Duration::from_millis(3900), "{took:?}");
    // What was given up is not left at work.
    first.idle().await;

    // This may have been done, so it has all the time there is, and is nobody else's.
    let begun = Instant::now();
    let answer = daemon.post("/x", CALL).await;
    answer.assert_refused(504, "upstream_timeout");
    assert!(begun.elapsed() >= Duration::from_secs(4));
    assert_eq!((first.count(), second.count()), (3, 1));

    // The third in a row: from now on nobody waits for it.
    assert_eq!(daemon.post("/x", LIST).await.status, 200);
    assert_eq!(daemon.post("/x", CALL).await.status, 200);
    assert_eq!((first.count(), second.count()), (4, 3));
}

#[tokio::test]
async fn what_only_reads_is_asked_once_more_where_the_answer_is_long_in_coming() {
    let upstream = Upstream::https();
    upstream.at("/x", |_| std::future::pending());
    let retry = "retry = { attempts = 3, attempt_timeout = \"500ms\" }";
    let setup = Setup::before(&upstream).upstream(retry);
    let daemon = setup.upstream("request_timeout = \"3s\"").start().await;
    daemon.post("/warm", LIST).await;
    let begun = Instant::now();
    let answer = daemon.post("/x", LIST).await;
    answer.assert_refused(504, "upstream_timeout");
    // The last has the time of the request, which all of them have together.
    let took = begun.elapsed();
    assert!((3..5).contains(&took.as_secs()), "{took:?}");
    assert_eq!(upstream.count(), 4);
}

#[tokio::test]
async fn a_body_that_streams_goes_to_the_next_url_too_if_nothing_of_it_has_left() {
    let (gone, second) = (url_of(unused()), Upstream::https());
    let setup = before(&[&gone, &second.url()]).more("[limits]\nreplay_buffer = \"100B\"");
    let daemon = setup.start().await;
    let body = format!("{CALL}{}", " ".repeat(100_000));
    assert_eq!(daemon.post("/x", &body).await.status, 200);
    assert_eq!(second.only().body().len(), body.len());
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_is_the_fault_of_one_url_only() {
    let first = Upstream::tls(Tls {
        identity: authority().issue(&["another.example"]),
        ..Tls::default()
    });
    let second = Upstream::https();
    let daemon = before(&[&first.url(), &second.url()]).start().await;
    assert_eq!(daemon.post("/x", CALL).await.status, 200);
    assert_eq!((first.count(), second.count()), (0, 1));
}

#[tokio::test]
async fn a_read_that_fails_at_one_url_is_sent_to_the_next_and_a_call_is_not() {
    for fail in [|| Err(body::Cut), || unavailable(None)] as [fn() -> Outcome; 2] {
        let (first, second) = (Upstream::https(), Upstream::https());
        says(&first, "/x", fail);
        let daemon = before(&[&first.url(), &second.url()]).start().await;
        let answer = daemon.post("/x", LIST).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-mcp-auth-proxy-attempts"), Some("2"));
        assert_eq!((first.count(), second.count()), (1, 1));
        assert!(daemon.post("/x", CALL).await.status.is_server_error());
        assert_eq!((first.count(), second.count()), (2, 1));
    }
}

#[tokio::test]
async fn a_url_that_says_it_did_nothing_is_left_for_the_next_and_a_rate_limit_is_obeyed() {
    let (first, second) = (Upstream::https(), Upstream::https());
    says(&first, "/x", || unavailable(Some("3")));
    let limited = || {
        let response = Response::builder().status(429).header("retry-after", "60");
        Ok(response.body(body::full("slowly")).unwrap())
    };
    says(&first, "/limited", limited);
    let daemon = before(&[&first.url(), &second.url()]).start().await;
    let begun = Instant::now();
    assert_eq!(daemon.post("/x", CALL).await.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "it waited");
    assert_eq!((first.count(), second.count()), (1, 1));
    assert_eq!(daemon.post("/limited", CALL).await.status, 429);
    assert_eq!((first.count(), second.count()), (2, 1));
}

#[tokio::test]
async fn requests_return_to_the_first_url_when_it_can_be_reached_again() {
    let address = unused();
    let (gone, second) = (url_of(address), Upstream::http());
    let daemon = before(&[&gone, &second.url()]).upstream(SOON).start().await;
    assert_eq!(daemon.post("/x", CALL).await.status, 200);
    assert_eq!(second.count(), 1);
    let first = Upstream::http_at(address);
    let begun = Instant::now();
    while first.count() == 0 {
        assert_eq!(daemon.post("/x", CALL).await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(10), "it stays away");
    }
    let count = second.count();
    assert_eq!(daemon.post("/x", CALL).await.status, 200);
    assert_eq!(second.count(), count);
    assert_eq!(down(&daemon, &gone), 0.0);
    daemon
        .logged("the URL's return", |line| {
            line["msg"].to_string().contains("can be reached again")
        })
        .await;
}

#[tokio::test]
async fn a_url_that_keeps_failing_gets_no_calls_until_a_read_finds_it_well() {
    let (first, second) = (Upstream::https(), Upstream::https());
    let is_ill = Arc::new(AtomicBool::new(true));
    let ill = Arc::clone(&is_ill);
    first.at("/x", move |_| {
        std::future::ready(if ill.load(Ordering::Relaxed) {
            unavailable(None)
        } else {
            Ok(json_answer("{}"))
        })
    });
    let setup = before(&[&first.url(), &second.url()]).upstream(SOON);
    let daemon = setup.start().await;
    for _ in 0..3 {
        assert_eq!(daemon.post("/x", LIST).await.status, 200);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(first.count(), 3);
    assert_eq!(down(&daemon, &first.url()), 1.0);
    // Not even when one is due: a call finds nothing out.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(daemon.post("/x", CALL).await.status, 200);
    assert_eq!(first.count(), 3);
    assert_eq!(daemon.post("/x", LIST).await.status, 200);
    assert_eq!(first.count(), 4, "no read went to see");
    is_ill.store(false, Ordering::Relaxed);
    let begun = Instant::now();
    while down(&daemon, &first.url()) == 1.0 {
        assert_eq!(daemon.post("/x", LIST).await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody looked");
    }
    let count = first.count();
    assert_eq!(daemon.post("/x", CALL).await.status, 200);
    assert_eq!(first.count(), count + 1);
}

#[tokio::test]
async fn where_no_url_is_up_the_failure_is_told_soon() {
    let (one, other) = (url_of(unused()), url_of(unused()));
    let daemon = before(&[&one, &other]).start().await;
    let begun = Instant::now();
    let answer = daemon.post("/x", CALL).await;
    answer.assert_refused(502, "upstream_unreachable");
    assert!(begun.elapsed() < Duration::from_millis(2500));
    assert_eq!(down(&daemon, &one) + down(&daemon, &other), 2.0);
    // As soon as either is there, whichever it is.
    let address = other.trim_start_matches("http://").parse().unwrap();
    let _back = Upstream::http_at(address);
    assert_eq!(daemon.post("/x", CALL).await.status, 200);
}

#[tokio::test]
async fn urls_that_all_fail_are_left_alone_until_one_answers() {
    let (first, second) = (Upstream::https(), Upstream::https());
    for upstream in [&first, &second] {
        says(upstream, "/x", || unavailable(None));
    }
    let off =
        "retry = \"off\"\nbreaker = { failures = 2, patience = \"1ms\", probe_interval = \"1h\" }";
    let setup = before(&[&first.url(), &second.url()]).upstream(off);
    let daemon = setup.start().await;
    for _ in 0..4 {
        assert_eq!(daemon.post("/x", LIST).await.code(), None);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let answer = daemon.post("/x", LIST).await;
    answer.assert_refused(503, "upstream_unavailable");
    assert_eq!((first.count(), second.count()), (2, 2));
    assert_eq!(
        daemon.metric("mcp_auth_proxy_upstream_refusing{upstream=\"up\"}"),
        1.0
    );
}

#[tokio::test]
async fn a_session_stays_with_the_url_that_opened_it_while_that_is_up() {
    let address = unused();
    let (gone, second) = (url_of(address), Upstream::http());
    let of_second = Server::named(&second, "/mcp", "second");
    let setup = before(&[&gone, &second.url()]).upstream(SOON);
    let mut daemon = setup.start().await;
    let session = opened(&daemon).await;
    assert_eq!(session, "second1");
    let first = Upstream::http_at(address);
    let of_first = Server::named(&first, "/mcp", "first");
    let begun = Instant::now();
    while first.count() == 0 {
        daemon.post("/mcp", CALL).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "it stays away");
    }
    let ask = || request("/mcp", &session, 7, "tools/list");
    assert_eq!(daemon.ask(ask()).await.json()["result"]["in"], "second1");
    // New ones are the first's, and a reload forgets neither.
    let new = opened(&daemon).await;
    assert_eq!(new, "first1");
    daemon.reload_with(|setup| setup.log_level("info")).await;
    assert_eq!(daemon.ask(ask()).await.status, 200);
    let ask = request("/mcp", &new, 8, "tools/list");
    assert_eq!(daemon.ask(ask).await.status, 200);
    assert_eq!(of_second.count("tools/list"), 2);
    assert_eq!(of_first.count("tools/list"), 1);
}

#[tokio::test]
async fn a_session_whose_url_dies_is_gone_or_opened_again_at_the_next() {
    for (recovery, status) in [("off", 404), ("replay", 200)] {
        let (first, second) = (Upstream::https(), Upstream::https());
        Server::named(&first, "/one/mcp", "first");
        let of_second = Server::named(&second, "/two/mcp", "second");
        let urls = [
            format!("{}/one", first.url()),
            format!("{}/two", second.url()),
        ];
        let recovery = format!("session_recovery = \"{recovery}\"");
        let setup = before(&[&urls[0], &urls[1]]).upstream(&recovery);
        let daemon = setup.start().await;
        let session = opened(&daemon).await;
        assert_eq!(session, "first1");
        drop(first);
        for id in 1..4 {
            let answer = daemon
                .ask(request("/mcp", &session, id, "tools/call"))
                .await;
            assert_eq!(answer.status, status, "{answer:?}");
            if status == 200 {
                assert_eq!(answer.json()["result"]["in"], "second1");
                assert_eq!(answer.header("mcp-session-id"), Some("first1"));
            }
        }
        assert_eq!(of_second.count("initialize"), usize::from(status == 200));
    }
}

#[tokio::test]
async fn a_stream_whose_url_dies_goes_on_at_the_next() {
    let (first, second) = (Upstream::https(), Upstream::https());
    let (at_first, at_second) = (first.streams_at("/events"), second.streams_at("/events"));
    let setup = before(&[&first.url(), &second.url()]);
    let daemon = setup.upstream("stream_recovery = true").start().await;
    let ask = Ask::get("/events").header("accept", "text/event-stream");
    let mut stream = daemon.client(Way::Tcp(Http::One)).await.open(ask).await;
    let pipe = at_first.find_after(0, "the stream", |_| true).await;
    pipe.send("id: 1\ndata: one\n\n").await;
    stream.until("data: one").await;
    drop(first);
    let pipe = at_second
        .find_after(0, "the stream at the next", |_| true)
        .await;
    assert_eq!(second.last().header("last-event-id"), Some("1"));
    pipe.send("id: 2\ndata: two\n\n").await;
    stream.until("data: two").await;
}

#[tokio::test]
async fn readiness_wants_one_url_and_names_the_other() {
    let (gone, second) = (url_of(unused()), Upstream::https());
    let daemon = before(&[&gone, &second.url()]).start().await;
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready.status, 200, "{ready:?}");
    let urls = &ready.json()["upstreams"]["up"]["urls"];
    assert_eq!(
        (&urls[0]["ok"], &urls[1]["ok"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        (&urls[0]["url"], urls[0]["error"].is_string()),
        (&json!(gone), true)
    );
    // What it has found out is known to requests.
    assert_eq!(
        daemon
            .post("/x", CALL)
            .await
            .header("x-mcp-auth-proxy-attempts"),
        None
    );
    let both = before(&[&gone, &url_of(unused())]).start().await;
    assert_eq!(both.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn status_and_doctor_show_each_url() {
    let (gone, second) = (url_of(unused()), Upstream::https());
    let daemon = before(&[&gone, &second.url()]).start().await;
    daemon.get("/readyz").await;
    let shown = daemon.setup.run(&["status"]);
    assert!(
        shown.output().contains(&format!("{gone}  down")),
        "{}",
        shown.output()
    );
    assert!(shown.output().contains(&format!("{}  up", second.url())));
    let found = daemon.setup.run(&["doctor", "--json"]);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let of = |url: &str| {
        let name = format!("up {url}");
        let all = found["findings"].as_array().unwrap().iter();
        all.filter(|finding| finding["upstream"] == json!(name))
            .map(|finding| finding["code"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&gone), ["connect_failed"], "{found}");
    assert!(of(&second.url()).contains(&"tls_ok".to_owned()), "{found}");
}

// Figures.

/// What agents did, wherever it was done.
#[derive(Default)]
struct World {
    executed: Mutex<HashMap<String, usize>>,
    requests: AtomicUsize,
}

impl World {
    /// Every twentieth answer is lost, after the work was done.
    fn live_at(self: &Arc<Self>, upstream: &Upstream) {
        let world = Arc::clone(self);
        upstream.at("/mcp", move |mut call| {
            let world = Arc::clone(&world);
            async move {
                let body = call.read().await?;
                let message: Value = serde_json::from_slice(&body).unwrap();
                if message["method"] == "tools/call" {
                    let id = message["id"].as_str().unwrap().to_owned();
                    *world.executed.lock().unwrap().entry(id).or_default() += 1;
                }
                if world.requests.fetch_add(1, Ordering::Relaxed) % 20 == 19 {
                    return Err(body::Cut);
                }
                Ok(json_answer("{}"))
            }
        });
    }
}

async fn agent(mut client: Client, name: usize, stop: Arc<AtomicBool>) -> (usize, Vec<Answer>) {
    let (mut reads, mut failures) = (0, Vec::new());
    for nth in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let answer = client.ask(Ask::post("/mcp", LIST)).await;
        match answer.status.as_u16() {
            200 => reads += 1,
            _ => failures.push(answer),
        }
        let call = CALL.replace(r#""id":"c""#, &format!(r#""id":"{name}-{nth}""#));
        client.ask(Ask::post("/mcp", call)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (reads, failures)
}

#[tokio::test]
async fn agents_at_work_do_not_notice_that_a_url_dies_and_comes_back() {
    let world = Arc::new(World::default());
    let address = unused();
    let (first, second) = (Upstream::http_at(address), Upstream::http());
    world.live_at(&first);
    world.live_at(&second);
    let daemon = before(&[&url_of(address), &second.url()])
        .log_level("warning")
        .start()
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut agents = Vec::new();
    for name in 0..32 {
        let client = daemon.client(Way::Unix(Http::One)).await;
        agents.push(tokio::spawn(agent(client, name, Arc::clone(&stop))));
    }
    let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
    pause(1000).await;
    assert!(first.count() > 0 && second.count() < first.count());
    drop(first);
    pause(2000).await;
    let meanwhile = second.count();
    assert!(meanwhile > 0, "nobody went on");
    let first = Upstream::http_at(address);
    world.live_at(&first);
    until("it is back in use", || first.count() > 0).await;
    pause(500).await;
    stop.store(true, Ordering::Relaxed);
    let mut reads = 0;
    for agent in agents {
        let (read, failures) = agent.await.unwrap();
        assert!(failures.is_empty(), "{failures:#?}");
        reads += read;
    }
    let executed = world.executed.lock().unwrap();
    let twice = executed.iter().filter(|(_, times)| **times > 1);
    assert_eq!(twice.count(), 0);
    println!(
        "{reads} reads and {} calls by 32 agents, {meanwhile} requests at the second URL: \
         no read failed, no call was executed twice",
        executed.len()
    );
}
