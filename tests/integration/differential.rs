//! The request as the upstream saw it, against the request as it was sent, for generated ones:
//! every header passed, dropped by rule, or added by rule, and nothing else.
//!
//! The rules are written here anew, from the manual.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::common::strict::StrictUpstream;
use crate::common::{Ask, Daemon, Http, Setup, Upstream, Way, body, raw};

#[derive(Debug, Clone)]
struct Sent {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    is_chunked: bool,
}

/// What arrived: names in lower case, the values of each in order.
struct Arrived {
    method: String,
    target: String,
    headers: BTreeMap<String, Vec<Vec<u8>>>,
    body: Vec<u8>,
}

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];
const CREDENTIALS: [&str; 11] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key-id",
    "x-timestamp",
    "x-signature",
    "signature",
    "signature-input",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];
const FORWARDED: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
const FRAMING: [&str; 3] = ["host", "content-length", "transfer-encoding"];
/// Made anew unless what came is sane; what is generated here never is.
const MADE: [&str; 2] = ["x-request-id", "traceparent"];
const SIGNATURE: [&str; 3] = ["x-api-key-id", "x-timestamp", "x-signature"];
const ORDINARY: [&str; 12] = [
    "accept",
    "accept-language",
    "user-agent",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-param-a",
    "last-event-id",
    "x-custom",
    "tracestate",
    "forwarded",
    "x_custom",
    "range",
];

fn name() -> impl Strategy<Value = String> {
    let twins: Vec<_> = CREDENTIALS
        .iter()
        .chain(&FORWARDED)
        .chain(&MADE)
        .map(|name| name.replace('-', "_"))
        .collect();
    let known: Vec<_> = [&HOP_BY_HOP[..], &CREDENTIALS, &FORWARDED, &MADE].concat();
    let known = known
        .into_iter()
        .filter(|name| !FRAMING.contains(name) && *name != "expect")
        .collect::<Vec<_>>();
    let named = prop_oneof![
        3 => select(&ORDINARY[..]).prop_map(str::to_owned),
        3 => select(known).prop_map(str::to_owned),
        1 => select(twins),
        // None of these is a name that means something.
        3 => "y[!#$%&'*+.^_`|~0-9a-zA-Z-]{0,12}",
    ];
    (named, any::<bool>()).prop_map(|(name, loud)| if loud { name.to_uppercase() } else { name })
}

fn value(of: &str) -> BoxedStrategy<String> {
    match of.to_ascii_lowercase().as_str() {
        "te" => Just("trailers".to_owned()).boxed(),
        "x-request-id" => Just("not sane".to_owned()).boxed(),
        "traceparent" => Just("00-nonsense".to_owned()).boxed(),
        "connection" => vec(name(), 0..3).prop_map(|names| names.join(", ")).boxed(),
        "upgrade" => Just("h2c".to_owned()).boxed(),
        _ => prop_oneof![
            "[!-~]([ -~]{0,30}[!-~])?",
            Just(String::new()),
            "[é世!-~]{1,8}"
        ]
        .boxed(),
    }
}

fn header() -> impl Strategy<Value = (String, String)> {
    name().prop_flat_map(|name| {
        let value = value(&name);
        (Just(name), value)
    })
}

fn target() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        "[a-zA-Z0-9_~!$&'()*+,;=:@-][a-zA-Z0-9._~!$&'()*+,;=:@-]{0,8}",
        Just(String::new()),
        "(%4[1-9a-f]|%C3%A9|%20|%25){1,3}"
    ];
    let query = proptest::option::of("[a-zA-Z0-9._~!$&'()*+,;=:@/?%-]{0,20}");
    (vec(segment, 1..4), query).prop_map(|(segments, query)| {
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        format!("/p/{}{query}", segments.join("/"))
    })
}

fn sent() -> impl Strategy<Value = Sent> {
    let method = select(&["GET", "POST", "PUT", "PATCH", "DELETE", "QUERY", "X-OWN"][..]);
    let text = prop_oneof!["[ -~]{1,40}", "[a-z]{2000,9000}", "\\{\"n\":[0-9]{1,9}\\}"];
    let body = proptest::option::of(text);
    (
        method,
        target(),
        vec(header(), 0..12),
        body,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(method, target, mut headers, body, is_json, is_chunked)| {
            if is_json && body.is_some() {
                headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
            }
            Sent {
                method: method.to_owned(),
                target,
                headers,
                body,
                is_chunked,
            }
        })
}

/// The headers that pass, by the rules.
fn passing(sent: &[(String, String)]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let lower: Vec<_> = sent
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let named: Vec<String> = lower
        .iter()
        .filter(|(name, _)| name == "connection")
        .filter(|(_, value)| value.is_ascii())
        .flat_map(|(_, value)| {
            value
                .split(',')
                .map(|name| name.trim().to_ascii_lowercase())
        })
        .collect();
    let is_dropped = |name: &str| {
        [&HOP_BY_HOP[..], &CREDENTIALS, &FRAMING]
            .concat()
            .contains(&name)
            || FORWARDED.contains(&name)
            || MADE.contains(&name)
            // It belongs to a valid traceparent, and none is sent here (W3C Trace Context, section 3.3).
            || name == "tracestate"
    };
    let left: Vec<_> = lower
        .into_iter()
        .filter(|(name, _)| !is_dropped(name) && !named.contains(name))
        .collect();
    let mut passing = BTreeMap::<String, Vec<Vec<u8>>>::new();
    for (name, value) in &left {
        let dashed = name.replace('_', "-");
        let is_twin = *name != dashed
            && (is_dropped(&dashed) || left.iter().any(|(other, _)| *other == dashed));
        if !is_twin {
            passing
                .entry(name.clone())
                .or_default()
                .push(value.trim().as_bytes().to_vec());
        }
    }
    passing
}

fn compare(sent: &Sent, way: Way, arrived: &Arrived) -> Result<(), TestCaseError> {
    prop_assert_eq!(&arrived.method, &sent.method);
    prop_assert_eq!(&arrived.target, &sent.target);
    prop_assert_eq!(
        &arrived.body[..],
        sent.body.as_deref().unwrap_or_default().as_bytes()
    );
    let mut headers = arrived.headers.clone();
    let mut take = |name: &str| headers.remove(name).unwrap_or_default();
    for name in [
        &SIGNATURE[..],
        &MADE,
        &["x-forwarded-proto", "x-forwarded-host"],
    ]
    .concat()
    {
        prop_assert_eq!(take(name).len(), 1, "one {}", name);
    }
    let from = take("x-forwarded-for");
    prop_assert_eq!(from.len(), usize::from(matches!(way, Way::Tcp(_))));
    prop_assert!(from.iter().all(|from| from == b"127.0.0.1"));
    if let [length] = &take("content-length")[..] {
        prop_assert_eq!(length.clone(), arrived.body.len().to_string().into_bytes());
    }
    take("transfer-encoding");
    take("host");
    prop_assert_eq!(headers, passing(&sent.headers));
    Ok(())
}

fn raw_request(sent: &Sent) -> String {
    let mut request = format!(
        "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
        sent.method, sent.target
    );
    for (name, value) in &sent.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    match &sent.body {
        None => request.push_str("\r\n"),
        Some(body) if sent.is_chunked => {
            request.push_str("Transfer-Encoding: chunked\r\n\r\n");
            for piece in body.as_bytes().chunks(1000) {
                let piece = std::str::from_utf8(piece).unwrap();
                request.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
            }
            request.push_str("0\r\n\r\n");
        }
        Some(body) => request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len())),
    }
    request
}

/// HTTP/2 knows no `Connection`, and hyper would refuse to send one.
fn for_h2(mut sent: Sent) -> Sent {
    let unknown = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "transfer-encoding",
    ];
    sent.headers
        .retain(|(name, _)| !unknown.contains(&name.to_ascii_lowercase().as_str()));
    sent
}

async fn send(daemon: &Daemon, way: Way, sent: &Sent) {
    let status = match way {
        Way::Tcp(Http::One) => raw::exchange(daemon.address(), raw_request(sent).as_bytes()).await,
        _ => {
            let mut ask = Ask::new(&sent.method, &sent.target);
            for (name, value) in &sent.headers {
                ask = ask.header(name, value);
            }
            if let Some(text) = &sent.body {
                ask = ask.body(body::full(text.clone()));
            }
            format!("HTTP/1.1 {}", daemon.ask_by(way, ask).await.status.as_u16())
        }
    };
    assert!(status.starts_with("HTTP/1.1 200"), "{status}\n{sent:?}");
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn check(daemon: &Daemon, runtime: &Runtime, last: impl Fn() -> Arrived) {
    let ways = vec![
        Way::Tcp(Http::One),
        Way::Tcp(Http::Two),
        Way::Unix(Http::Two),
    ];
    let config = Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&(sent(), select(ways)), |(sent, way)| {
        let sent = if way == Way::Tcp(Http::One) {
            sent
        } else {
            for_h2(sent)
        };
        runtime.block_on(send(daemon, way, &sent));
        compare(&sent, way, &last())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn what_an_http1_upstream_sees_is_what_was_sent_but_for_the_rules() {
    let runtime = runtime();
    let upstream = StrictUpstream::start();
    let daemon = runtime.block_on(Setup::at(&upstream.url()).log_level("warn").start());
    check(&daemon, &runtime, || {
        let seen = upstream.seen.all().pop().unwrap();
        let mut headers = BTreeMap::<_, Vec<_>>::new();
        for (name, value) in seen.headers {
            headers
                .entry(name.to_ascii_lowercase())
                .or_default()
                .push(value);
        }
        Arrived {
            method: seen.method,
            target: seen.target,
            headers,
            body: seen.body,
        }
    });
    assert_eq!(upstream.odd.all(), Vec::<String>::new());
}

#[test]
fn what_an_http2_upstream_sees_is_what_was_sent_but_for_the_rules() {
    let runtime = runtime();
    let upstream = Upstream::https();
    let daemon = runtime.block_on(Setup::before(&upstream).log_level("warn").start());
    check(&daemon, &runtime, || {
        let seen = upstream.last();
        let headers = seen.headers.keys().map(|name| {
            let values = seen.headers.get_all(name).iter();
            (
                name.to_string(),
                values.map(|value| value.as_bytes().to_vec()).collect(),
            )
        });
        Arrived {
            method: seen.method.clone(),
            target: seen.target.clone(),
            headers: headers.collect(),
            body: seen.body().to_vec(),
        }
    });
}
