use super::*;

fn kind(line: &'static str) -> Kind {
    Message::parse(Bytes::from_static(line.as_bytes()))
        .unwrap()
        .kind
}

fn id_of(line: String) -> Id {
    match Message::parse(line.into()).unwrap().kind {
        Kind::Request(request) => request.id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ids_are_kept_as_they_stand() {
    for id in [
        "0",
        "\"0\"",
        "9223372036854775808",
        "-1",
        "1.0",
        r#""\u00e9""#,
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0", "method":"ping", "id": {id} }}"#);
        assert_eq!(&*id_of(line), id);
    }
}

#[test]
fn a_request_of_2026_07_28_says_so_and_names_its_subject() {
    let line = r#"{"id":1,"method":"tools/call","params":{"name":"\u0065cho","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let Kind::Request(request) = kind(line) else {
        panic!()
    };
    assert_eq!(request.version.as_deref(), Some("2026-07-28"));
    assert_eq!(request.name.as_deref(), Some("echo"));
}

#[test]
fn a_cancellation_names_the_id_it_cancels() {
    let line = r#"{"method":"notifications/cancelled","params":{"requestId": "7" }}"#;
    let Kind::Notification { cancels, .. } = kind(line) else {
        panic!()
    };
    assert_eq!(cancels.as_deref(), Some("\"7\""));
}

#[test]
fn a_batch_lists_those_who_wait() {
    let line =
        r#"[{"id":1,"method":"a"},{"method":"n"},{"id":"b","method":"c"},{"id":3,"result":{}}]"#;
    let Kind::Batch(waiting) = kind(line) else {
        panic!()
    };
    let ids: Vec<_> = waiting.iter().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["1", "\"b\""]);
}

#[test]
fn what_is_no_message_is_told_from_what_is_no_json() {
    for (line, code) in [
        ("nonsense", -32700),
        ("{\"id\":1", -32700),
        ("[]", -32600),
        ("[[]]", -32600),
        ("{}", -32600),
        ("7", -32600),
        (r#"[1,"tools/call",{},null,null]"#, -32600),
        (r#"[[1,"tools/call",{},null,null]]"#, -32600),
        (r#"{"id":{"a":1},"method":"x"}"#, -32600),
        (r#"{"id":1,"id":2,"method":"x"}"#, -32600),
    ] {
        let error = Message::parse(Bytes::from_static(line.as_bytes())).unwrap_err();
        assert_eq!(error.0, code, "{line}");
    }
}

#[test]
fn values_without_their_names_answer_nothing_and_name_no_subject() {
    for values in [
        r#"[7,null,null,{},null]"#,
        r#"[[7,null,null,{},null]]"#,
        " [7]",
    ] {
        assert_eq!(read(values.as_bytes()), None, "{values}");
        assert_eq!(error_of(values.as_bytes()), None);
    }
    assert_eq!(error_of(br#"{"id":1,"error":[1,"words"]}"#), None);
    assert_eq!(error_of(br#"[[1,"words"]]"#), None);
    let line = r#"{"id":1,"method":"tools/call","params":[{},"echo",null,null,null,{"a":1}]}"#;
    let message = Message::parse(Bytes::from_static(line.as_bytes())).unwrap();
    assert_eq!(message.arguments(), None);
    let Kind::Request(request) = message.kind else {
        panic!()
    };
    assert_eq!((request.name, request.version), (None, None));
}

#[test]
fn answers_are_told_from_requests_of_the_server() {
    assert_eq!(
        read(br#"{"id":"x","result":{}}"#),
        Some(Incoming::Response(Some("\"x\"")))
    );
    assert_eq!(
        read(br#"{"id":null,"error":{}}"#),
        Some(Incoming::Response(None))
    );
    assert_eq!(read(br#"{"id":1,"method":"ping"}"#), Some(Incoming::Other));
    assert_eq!(
        read(br#" [{"id":1,"result":{}}]"#),
        Some(Incoming::Batch(vec![r#"{"id":1,"result":{}}"#]))
    );
    for noise in [&b"<html>"[..], b"[]", b"[1]", b"{}", b"", b"\xff"] {
        assert_eq!(read(noise), None);
    }
}

#[test]
fn an_answer_gets_the_id_that_was_asked_under() {
    let renamed = |bytes: &[u8]| String::from_utf8(with_id(bytes, "7").unwrap().to_vec()).unwrap();
    assert_eq!(
        renamed(br#"{"id": 1e0 ,"result":{"id":2}}"#),
        r#"{"id": 7 ,"result":{"id":2}}"#
    );
    assert_eq!(
        renamed(br#"{"result":{},"id":null}"#),
        r#"{"result":{},"id":7}"#
    );
    assert_eq!(renamed(br#"{"result":{}}"#), r#"{"id":7,"result":{}}"#);
}

#[test]
fn ids_that_a_server_wrote_anew_are_recognised() {
    assert!(is_same_id("9223372036854775808", "9223372036854776000"));
    assert!(is_same_id("1", "1.0"));
    assert!(is_same_id(r#""\u0061""#, r#""a""#));
    assert!(!is_same_id("0", "\"0\""));
    assert!(!is_same_id("1", "2"));
}
