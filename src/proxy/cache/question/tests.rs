use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn asked(pairs: &[(&'static str, &'static str)], body: &str) -> Option<Question> {
    let target = PathAndQuery::from_static("/mcp");
    Question::read(&head(pairs), &target, body.as_bytes(), false)
}

fn head(pairs: &[(&'static str, &'static str)]) -> Parts {
    let mut head = http::Request::new(()).into_parts().0;
    head.headers = headers(pairs);
    head
}

fn digest(pairs: &[(&'static str, &'static str)], body: &str) -> [u8; 32] {
    asked(pairs, body).unwrap().digest
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

#[test]
fn what_differs_from_request_to_request_without_bearing_is_left_out() {
    let one = digest(
        &[
            ("accept-language", "de"),
            ("traceparent", "00-a"),
            ("x-request-id", "1"),
            ("x-a", "1"),
        ],
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"c","_meta":{"a":1,"progressToken":7}}}"#,
    );
    let other = digest(
        &[
            ("x-a", "1"),
            ("content-length", "9"),
            ("accept-language", "de"),
            ("authorization", "x"),
        ],
        r#"{"params":{"_meta":{"traceparent":"00-b","a":1},"cursor":"c"},"method":"tools/list","id":"x","jsonrpc":"2.0"}"#,
    );
    assert_eq!(one, other);
    assert_eq!(
        digest(&[], LIST),
        digest(&[], r#"{"id":1,"method":"tools/list","params":{}}"#)
    );
}

#[test]
fn what_may_change_the_result_makes_another_question() {
    let with = |params: &str| {
        digest(
            &[],
            &format!(r#"{{"id":1,"method":"tools/list","params":{params}}}"#),
        )
    };
    let target = PathAndQuery::from_static("/other/mcp");
    let elsewhere = Question::read(&head(&[]), &target, LIST.as_bytes(), false).unwrap();
    let all = [
        with("{}"),
        with(r#"{"cursor":"2"}"#),
        with(r#"{"cursor":"3"}"#),
        with(r#"{"new":{"cursor":"2"}}"#),
        with(r#"{"_meta":{"cursor":"2"}}"#),
        with(r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}"#),
        with(r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}}"#),
        digest(&[], r#"{"id":1,"method":"prompts/list"}"#),
        digest(&[("mcp-protocol-version", "2025-11-25")], LIST),
        digest(&[("mcp-protocol-version", "2026-07-28")], LIST),
        digest(&[("mcp-session-id", "1")], LIST),
        digest(&[("mcp-session-id", "2")], LIST),
        digest(&[("accept-language", "de")], LIST),
        digest(&[("x-tenant", "1")], LIST),
        digest(&[("host", "localhost")], LIST),
        elsewhere.digest,
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(
            !all[i + 1..].contains(one),
            "question {i} is another one too"
        );
    }
}

#[test]
fn http_2_asks_what_http_1_asks() {
    let mut two = head(&[]);
    two.uri = "http://localhost/mcp".parse().unwrap();
    let target = PathAndQuery::from_static("/mcp");
    let two = Question::read(&two, &target, LIST.as_bytes(), false).unwrap();
    assert_eq!(two.digest, digest(&[("host", "localhost")], LIST));
}

#[test]
fn a_session_is_left_out_where_the_operator_says_so() {
    let target = PathAndQuery::from_static("/mcp");
    let in_session = |id| {
        let head = head(&[("mcp-session-id", id), ("x-a", "1")]);
        Question::read(&head, &target, LIST.as_bytes(), true)
            .unwrap()
            .digest
    };
    assert_eq!(in_session("1"), in_session("2"));
}

#[test]
fn only_one_plain_request_for_a_cacheable_result_is_a_question() {
    for body in [
        r#"{"id":1,"method":"tools/call","params":{"name":"a"}}"#,
        r#"{"method":"tools/list"}"#,
        r#"{"id":null,"method":"tools/list"}"#,
        r#"[{"id":1,"method":"tools/list"}]"#,
        r#"{"id":1,"method":"tools/list","method":"tools/list"}"#,
        r#"{"id":1,"method":"tools/list","params":{"cursor":"a","cursor":"b"}}"#,
        r#"{"id":1,"method":"tools/list","params":{"_meta":{"a":1,"a":2}}}"#,
        r#"{"id":1,"method":"tools/list","params":[]}"#,
        r#"{"id":1,"method":"tools/list","params":{"requestState":"s"}}"#,
        r#"{"id":1,"method":"resources/read","params":{"uri":"a:b","inputResponses":{}}}"#,
        r#"{"id":1,"method":"resources/read","params":{}}"#,
        r#"{"id":1,"result":{}}"#,
        "",
    ] {
        assert!(asked(&[], body).is_none(), "{body}");
    }
    let read = asked(
        &[],
        r#"{"id":1,"method":"resources/read","params":{"uri":"a:\u0062"}}"#,
    )
    .unwrap();
    assert_eq!(
        (read.kind, read.uri.as_deref(), &*read.id),
        (Kind::Read, Some("a:b"), "1")
    );
}

#[test]
fn json_is_accepted_by_name_and_by_wildcard() {
    for accept in [
        "application/json, text/event-stream",
        "text/html, */*;q=0.1",
        "Application/*",
    ] {
        assert!(accepts_json(&headers(&[("accept", accept)])), "{accept}");
    }
    assert!(!accepts_json(&headers(&[("accept", "text/event-stream")])));
    assert!(!accepts_json(&headers(&[])));
}
