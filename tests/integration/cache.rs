//! Results that are kept: for how long, for whom, and what ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::common::client::{Answer, Opened};
use crate::common::secrets::NEXT_SECRET;
use crate::common::upstream::{self, Call, event_stream};
use crate::common::{Ask, Daemon, Http, KEY_ID, Setup, Upstream, Way, body, until};

const MINUTE: &str = r#""ttlMs":60000,"cacheScope":"private""#;
const PUBLIC: &str = r#""ttlMs":60000,"cacheScope":"public""#;

/// Answers every request at `/mcp` with a result of these members, and with its number.
fn serves(upstream: &Upstream, members: impl Into<String>) {
    let (members, count) = (Arc::new(members.into()), AtomicUsize::new(0));
    upstream.at("/mcp", move |mut call: Call| {
        let (members, number) = (Arc::clone(&members), count.fetch_add(1, Ordering::Relaxed));
        async move {
            let result = format!(r#"{{"resultType":"complete","number":{number},{members}}}"#);
            Ok(upstream::json(answer_to(&mut call, &result).await))
        }
    });
}

async fn answer_to(call: &mut Call, result: &str) -> String {
    let asked: Value = serde_json::from_slice(&call.read().await.unwrap()).unwrap();
    format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#,
        asked["id"]
    )
}

fn ask(path: &str, id: &Value, method: &str, params: &Value) -> Ask {
    let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    Ask::post(path, body.to_string())
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method)
}

fn list() -> Ask {
    ask("/mcp", &json!(1), "tools/list", &json!({}))
}

/// As before 2026-07-28.
fn old_list(session: &str) -> Ask {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    Ask::post("/mcp", body)
        .header("mcp-protocol-version", "2025-11-25")
        .header("mcp-session-id", session)
}

fn cache(answer: &Answer) -> Option<&str> {
    answer
        .headers
        .get("x-mcp-auth-proxy-cache")
        .map(|value| value.to_str().unwrap())
}

fn number(answer: &Answer) -> u64 {
    answer.json()["result"]["number"]
        .as_u64()
        .unwrap_or_else(|| panic!("{answer:?}"))
}

async fn start(upstream: &Upstream, cache: &str) -> Daemon {
    Setup::before(upstream).upstream(cache).start().await
}

#[tokio::test]
async fn a_fresh_result_is_given_on_every_way_with_the_askers_own_id_and_what_is_left_of_its_time()
{
    let upstream = Upstream::https();
    serves(&upstream, MINUTE);
    let daemon = start(&upstream, "").await;
    let first = daemon.ask(list().header("x-request-id", "first")).await;
    assert_eq!((cache(&first), number(&first)), (Some("miss"), 0));
    for (way, id) in Way::ALL
        .into_iter()
        .zip([json!(0), json!("0"), json!(u64::MAX), json!("é")])
    {
        let answer = daemon
            .ask_by(way, ask("/mcp", &id, "tools/list", &json!({})))
            .await;
        assert_eq!(
            (cache(&answer), number(&answer)),
            (Some("hit"), 0),
            "{way:?}"
        );
        assert_eq!(answer.json()["id"], id);
        assert_eq!(answer.headers["content-type"], "application/json");
        let left = answer.json()["result"]["ttlMs"].as_u64().unwrap();
        assert!((30_000..=60_000).contains(&left), "{left}");
    }
    // Signed once, seen once.
    assert_eq!(upstream.only().header("accept-encoding"), Some("identity"));
    let hit = daemon.ask(list().header("x-request-id", "again")).await;
    assert_eq!(hit.headers["x-request-id"], "again");
    assert_eq!(daemon.logged_request("first").await["cache"], "miss");
    assert_eq!(daemon.logged_request("again").await["cache"], "hit");
    let counted = |outcome| {
        daemon.metric(&format!(
            r#"mcp_auth_proxy_cache_requests_total{{upstream="up",outcome="{outcome}"}}"#
        ))
    };
    assert_eq!(
        (counted("hit"), counted("miss"), counted("stale")),
        (5.0, 1.0, 0.0)
    );
    assert_eq!(daemon.metric("mcp_auth_proxy_cache_entries"), 1.0);
    assert_eq!(daemon.status()["cache"]["entries"], 1);
}

#[tokio::test]
async fn another_question_is_asked_of_the_upstream() {
    let upstream = Upstream::https();
    serves(&upstream, MINUTE);
    let daemon = start(&upstream, "").await;
    let with = |params: Value| ask("/mcp", &json!(1), "resources/read", &params);
    let questions = || {
        [
            list(),
            ask("/mcp", &json!(1), "tools/list", &json!({ "cursor": "2" })),
            list().header("accept-language", "de"),
            with(json!({ "uri": "file:///a" })),
            with(json!({ "uri": "file:///b" })),
            ask("/mcp", &json!(1), "server/discover", &json!({})),
        ]
    };
    for outcome in ["miss", "hit"] {
        for (index, question) in questions().into_iter().enumerate() {
            let answer = daemon.ask(question).await;
            assert_eq!(
                (cache(&answer), number(&answer)),
                (Some(outcome), index as u64)
            );
        }
    }
    // What was asked of a person is nobody else's answer.
    let asked = daemon
        .ask(with(json!({ "uri": "file:///a", "requestState": "s" })))
        .await;
    assert_eq!((cache(&asked), number(&asked)), (None, 6));
    let call = ask("/mcp", &json!(1), "tools/call", &json!({ "name": "a" }));
    assert_eq!(cache(&daemon.ask(call).await), None);
    // A client that takes events only gets what the upstream has to say.
    let events_only = Ask::new("POST", "/mcp")
        .header("content-type", "application/json")
        .header("accept", "text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .body(body::full(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#,
        ));
    assert_eq!(cache(&daemon.ask(events_only).await), None);
}

#[tokio::test]
async fn a_result_is_given_until_its_time_is_over() {
    let upstream = Upstream::https();
    serves(&upstream, r#""ttlMs":300"#);
    let daemon = start(&upstream, "").await;
    let mut client = daemon.client(Way::Unix(Http::One)).await;
    let (mut last, mut hits) = (None, 0);
    while last < Some(3) {
        let answer = client.ask(list()).await;
        let now = Some(number(&answer));
        let expected = if now == last { "hit" } else { "miss" };
        assert_eq!(cache(&answer), Some(expected), "{now:?} after {last:?}");
        hits += usize::from(now == last);
        last = now;
    }
    assert!(hits > 0);
    assert_eq!(Some(upstream.count() as u64 - 1), last);
}

#[tokio::test]
async fn what_does_not_say_that_it_may_be_kept_is_asked_for_each_time() {
    for members in [
        r#""ttlMs":0,"cacheScope":"public""#,
        r#""tools":[]"#,
        r#""ttlMs":60000,"cacheScope":"somebody""#,
    ] {
        let upstream = Upstream::https();
        serves(&upstream, members);
        let daemon = start(&upstream, "").await;
        for expected in 0..3 {
            let answer = daemon.ask(list()).await;
            assert_eq!(
                (cache(&answer), number(&answer)),
                (Some("miss"), expected),
                "{members}"
            );
        }
    }
    let upstream = Upstream::https();
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"},"ttlMs":60000}"#;
    upstream.says("/mcp", 200, &[("content-type", "application/json")], error);
    let daemon = start(&upstream, "").await;
    for expected in 1..4 {
        assert_eq!(daemon.ask(list()).await.body, error);
        assert_eq!(upstream.count(), expected);
    }
}

#[tokio::test]
async fn where_it_is_switched_off_nothing_is_kept() {
    for (of_upstream, more) in [
        ("cache = { enabled = false }", ""),
        ("", "[limits]\ncache = 0"),
    ] {
        let upstream = Upstream::https();
        serves(&upstream, MINUTE);
        let daemon = Setup::before(&upstream)
            .upstream(of_upstream)
            .more(more)
            .start()
            .await;
        for expected in 0..2 {
            let answer = daemon.ask(list()).await;
            assert_eq!((cache(&answer), number(&answer)), (None, expected));
        }
    }
}

/// The same place twice, with a credential each: `/a` and `/b`.
fn two_credentials(upstream: &Upstream) -> Setup {
    upstream.accept_only(&[(KEY_ID, crate::common::SECRET), ("other", NEXT_SECRET)]);
    let setup = Setup::before(upstream);
    let (url, ca) = (upstream.url(), setup.path("ca.pem"));
    let secret = setup.file("other", NEXT_SECRET);
    setup.more(&format!(
        r#"
[upstream.other]
url = "{url}"
ca_file = {ca:?}
credential = "other"
[credential.other.auth-gateway]
key_id = "other"
secret = {{ file = {secret:?} }}
[[route]]
path = "/a/"
strip_prefix = true
upstream = "up"
[[route]]
path = "/b/"
strip_prefix = true
upstream = "other"
"#
    ))
}

#[tokio::test]
async fn a_private_result_stays_with_its_credential_and_a_public_one_is_for_all() {
    let at = |path| ask(path, &json!(1), "tools/list", &json!({}));
    for (members, outcome) in [
        (MINUTE, "miss"),
        (PUBLIC, "hit"),
        (r#""ttlMs":60000"#, "miss"),
    ] {
        let upstream = Upstream::https();
        serves(&upstream, members);
        let daemon = two_credentials(&upstream).start().await;
        for path in ["/a/mcp", "/b/mcp"] {
            let first = daemon.ask(at(path)).await;
            let expected = if path == "/a/mcp" { "miss" } else { outcome };
            assert_eq!(cache(&first), Some(expected), "{path} {members}");
            assert_eq!(cache(&daemon.ask(at(path)).await), Some("hit"));
        }
    }
}

#[tokio::test]
async fn a_new_credential_begins_with_nothing_and_a_reload_of_nothing_new_keeps_all() {
    let upstream = Upstream::https();
    serves(&upstream, MINUTE);
    let mut daemon = start(&upstream, "").await;
    assert_eq!(number(&daemon.ask(list()).await), 0);
    daemon.reload().await;
    assert_eq!(cache(&daemon.ask(list()).await), Some("hit"));
    daemon
        .reload_with(|setup| setup.credential(KEY_ID, NEXT_SECRET))
        .await;
    let answer = daemon.ask(list()).await;
    assert_eq!((cache(&answer), number(&answer)), (Some("miss"), 1));
    daemon
        .reload_with(|setup| setup.more("[limits]\ncache = 0"))
        .await;
    assert_eq!(daemon.status()["cache"]["entries"], 0);
}

#[tokio::test]
async fn a_passing_notification_ends_what_it_names() {
    let upstream = Upstream::https();
    serves(&upstream, PUBLIC);
    let streams = upstream.streams_at("/stream");
    let daemon = start(&upstream, "cache = { ttl = \"1m\" }").await;
    let listen = ask("/stream", &json!(9), "subscriptions/listen", &json!({}));
    let read = |uri| ask("/mcp", &json!(1), "resources/read", &json!({ "uri": uri }));
    // A GET of before, a POST of now: each opened before anything was kept.
    let mut opened: Vec<Opened> = Vec::new();
    for (at, stream) in [Ask::events("/stream"), listen].into_iter().enumerate() {
        opened.push(daemon.open(stream).await);
        let asked = |method| ask("/mcp", &json!(at), method, &json!({}));
        for question in [
            asked("tools/list"),
            asked("prompts/list"),
            read("file:///a"),
            read("file:///b"),
        ] {
            daemon.ask(question).await;
        }
        for (notification, ends, leaves) in [
            (
                json!({ "method": "notifications/tools/list_changed" }),
                asked("tools/list"),
                asked("prompts/list"),
            ),
            (
                json!({ "method": "notifications/resources/updated", "params": { "uri": "file:///a" } }),
                read("file:///a"),
                read("file:///b"),
            ),
        ] {
            let event = format!("id: {at}\nevent: message\ndata: {notification}\n\n");
            streams.all()[at].send(event.clone()).await;
            // Passed on as it came, and seen before that.
            assert_eq!(opened[at].until("\n\n").await, event);
            assert_eq!(
                cache(&daemon.ask(leaves).await),
                Some("hit"),
                "{notification}"
            );
            assert_eq!(
                cache(&daemon.ask(ends).await),
                Some("miss"),
                "{notification}"
            );
        }
    }
}

/// An upstream that answers `/mcp` when it is let, and whether it is.
fn held(upstream: &Upstream) -> watch::Sender<bool> {
    let (let_go, held) = watch::channel(false);
    upstream.at("/mcp", move |mut call: Call| {
        let mut held = held.clone();
        async move {
            let _ = held.wait_for(|is_free| *is_free).await;
            let result = format!(r#"{{"tools":[],{MINUTE}}}"#);
            Ok(upstream::json(answer_to(&mut call, &result).await))
        }
    });
    let_go
}

#[tokio::test]
async fn fifty_who_ask_the_same_at_once_are_one_to_the_upstream() {
    let upstream = Upstream::https();
    let let_go = held(&upstream);
    let daemon = start(&upstream, "").await;
    let asks = (0..50).map(|id| {
        let ask = ask("/mcp", &json!(id), "tools/list", &json!({}));
        daemon.ask_by(Way::ALL[id % 4], ask)
    });
    let free = async {
        until("all fifty wait", || {
            daemon.status()["requests_in_flight"] == 50
        })
        .await;
        let_go.send(true).unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(asks), free);
    for (id, answer) in answers.iter().enumerate() {
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["id"]),
            (200, &json!(id))
        );
    }
    upstream.only();
    let series = r#"mcp_auth_proxy_cache_requests_total{upstream="up",outcome="collapsed"}"#;
    assert_eq!(daemon.metric(series), 49.0);
}

#[tokio::test]
async fn one_who_waits_asks_when_the_one_who_asked_leaves() {
    let upstream = Upstream::https();
    let let_go = held(&upstream);
    let daemon = start(&upstream, "").await;
    let mut leaver = daemon.client(Way::Unix(Http::One)).await;
    let leaving = tokio::spawn(async move { leaver.try_open(list()).await });
    upstream.arrival("/mcp").await;
    let others = (0..5).map(|_| daemon.ask(list()));
    let free = async {
        until("the others wait", || {
            daemon.status()["requests_in_flight"] == 6
        })
        .await;
        leaving.abort();
        until("another asks", || upstream.count() == 2).await;
        let_go.send(true).unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(others), free);
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{answers:?}"
    );
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_stale_result_stands_in_for_an_upstream_that_fails_and_not_for_one_that_refuses() {
    for (settings, stands_in) in [("cache = { stale_if_error = \"1m\" }", true), ("", false)] {
        let upstream = Upstream::https();
        upstream.expects_refusals();
        serves(&upstream, r#""ttlMs":1"#);
        let daemon = start(&upstream, settings).await;
        assert_eq!(daemon.ask(list()).await.status, 200);
        upstream.says("/mcp", 503, &[], "down");
        // A hit is possible within the first millisecond.
        let expected = if stands_in { "stale" } else { "miss" };
        let mut answer = daemon.ask(list()).await;
        while cache(&answer) == Some("hit") {
            answer = daemon.ask(list()).await;
        }
        assert_eq!(cache(&answer), Some(expected), "{answer:?}");
        assert_eq!(answer.status, if stands_in { 200 } else { 503 });
        if stands_in {
            assert_eq!(
                (number(&answer), &answer.json()["result"]["ttlMs"]),
                (0, &json!(0))
            );
        }
        upstream.accept_only(&[]);
        daemon
            .ask(list())
            .await
            .assert_refused(503, "upstream_rejected_credential");
        drop(upstream);
        // What the credential once got was given up with it.
        daemon
            .ask(list())
            .await
            .assert_refused(502, "upstream_unreachable");
    }
    let upstream = Upstream::https();
    serves(&upstream, r#""ttlMs":1"#);
    let daemon = start(&upstream, "cache = { stale_if_error = \"1m\" }").await;
    daemon.ask(list()).await;
    drop(upstream);
    let mut answer = daemon.ask(list()).await;
    while cache(&answer) == Some("hit") {
        answer = daemon.ask(list()).await;
    }
    assert_eq!(
        (answer.status.as_u16(), cache(&answer)),
        (200, Some("stale"))
    );
}

#[tokio::test]
async fn an_answer_in_events_is_kept_and_given_as_json() {
    let upstream = Upstream::https();
    upstream.at("/mcp", |mut call: Call| async move {
        let answer = answer_to(&mut call, &format!(r#"{{"tools":[],{MINUTE}}}"#)).await;
        let (pipe, response) = event_stream();
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
        let events = format!(":hello\n\ndata: {progress}\n\nid: 1\ndata: {answer}\n\n");
        pipe.send(events).await;
        tokio::spawn(pipe.end());
        Ok(response)
    });
    let daemon = start(&upstream, "").await;
    let first = daemon.ask(list()).await;
    assert_eq!(first.headers["content-type"], "text/event-stream");
    assert!(String::from_utf8_lossy(&first.body).contains("notifications/progress"));
    let second = daemon
        .ask(ask("/mcp", &json!("s"), "tools/list", &json!({})))
        .await;
    assert_eq!(
        (cache(&second), &second.json()["id"]),
        (Some("hit"), &json!("s"))
    );
    assert_eq!(second.headers["content-type"], "application/json");
    upstream.only();
}

#[tokio::test]
async fn what_is_too_large_passes_whole_and_is_not_kept() {
    for size in [40 * 1024, 3 << 20] {
        let upstream = Upstream::https();
        serves(
            &upstream,
            format!(r#"{MINUTE},"text":"{}""#, "a".repeat(size)),
        );
        let daemon = Setup::before(&upstream)
            .more("[limits]\ncache = \"128KiB\"")
            .start()
            .await;
        for expected in 0..2 {
            let answer = daemon.ask(list()).await;
            assert_eq!((cache(&answer), number(&answer)), (Some("miss"), expected));
            assert!(answer.body.len() > size);
        }
    }
}

#[tokio::test]
async fn all_that_is_kept_stays_within_its_bound() {
    let upstream = Upstream::https();
    serves(
        &upstream,
        format!(r#"{MINUTE},"text":"{}""#, "a".repeat(10_000)),
    );
    let daemon = Setup::before(&upstream)
        .more("[limits]\ncache = \"100KiB\"")
        .start()
        .await;
    let mut client = daemon.client(Way::Unix(Http::One)).await;
    for page in 0..40 {
        client
            .ask(ask(
                "/mcp",
                &json!(1),
                "tools/list",
                &json!({ "cursor": page }),
            ))
            .await;
        assert!(daemon.metric("mcp_auth_proxy_cache_size_bytes") <= 102_400.0);
    }
    assert!(daemon.metric("mcp_auth_proxy_cache_entries") >= 5.0);
}

#[tokio::test]
async fn results_of_old_revisions_are_kept_where_the_operator_says_for_how_long() {
    for (settings, same_session, other_session) in [
        ("", None, None),
        ("cache = { ttl = \"1m\" }", Some("hit"), Some("miss")),
        (
            "cache = { ttl = \"1m\", across_sessions = true }",
            Some("hit"),
            Some("hit"),
        ),
    ] {
        let upstream = Upstream::https();
        serves(&upstream, r#""tools":[]"#);
        let daemon = start(&upstream, settings).await;
        daemon.ask(old_list("one")).await;
        assert_eq!(
            cache(&daemon.ask(old_list("one")).await),
            same_session,
            "{settings}"
        );
        assert_eq!(
            cache(&daemon.ask(old_list("two")).await),
            other_session,
            "{settings}"
        );
    }
}

#[tokio::test]
async fn a_policy_is_applied_to_what_is_kept_each_time_it_goes_out() {
    let upstream = Upstream::https();
    serves(
        &upstream,
        format!(r#"{MINUTE},"tools":[{{"name":"good"}},{{"name":"bad"}}]"#),
    );
    let routes = r#"
[[route]]
path = "/all/"
strip_prefix = true
upstream = "up"
[[route]]
path = "/some/"
strip_prefix = true
upstream = "up"
[[route.policy]]
tools = { deny = ["bad"] }
"#;
    let daemon = Setup::before(&upstream).more(routes).start().await;
    let names = |answer: &Answer| answer.json()["result"]["tools"].to_string();
    for (path, outcome, shown) in [
        ("/some/mcp", "miss", r#"[{"name":"good"}]"#),
        ("/all/mcp", "hit", r#"[{"name":"good"},{"name":"bad"}]"#),
        ("/some/mcp", "hit", r#"[{"name":"good"}]"#),
    ] {
        let answer = daemon
            .ask(ask(path, &json!(1), "tools/list", &json!({})))
            .await;
        assert_eq!(
            (cache(&answer), names(&answer).as_str()),
            (Some(outcome), shown),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_upstream_cannot_claim_to_be_the_cache() {
    let upstream = Upstream::https();
    upstream.says("/mcp", 200, &[("x-mcp-auth-proxy-cache", "hit")], "{}");
    let daemon = start(&upstream, "").await;
    assert_eq!(cache(&daemon.get("/mcp").await), None);
}
