use super::*;

fn expect(answers: &Answers, ids: &[&str]) -> Call {
    let requests: Vec<_> = ids
        .iter()
        .map(|id| (Id::from(*id), "ping".into()))
        .collect();
    answers.expect(&requests, 10, false, ids.len() > 1).unwrap()
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_first_answer_passes_and_a_second_does_not() {
    let answers = Answers::default();
    let call = expect(&answers, &["1"]);
    let answer = Bytes::from_static(br#"{"id":1,"result":{}}"#);
    let passed = answers.admit(answer.clone(), Some(&call), false).unwrap();
    assert_eq!(
        (&passed.bytes, passed.answers.as_deref()),
        (&answer, Some("ping"))
    );
    assert_eq!(answers.admit(answer, Some(&call), true), None);
    assert_eq!(answers.fail(&call, &Problem::new("x", "y")), None);
}

#[test]
fn an_answer_that_lost_its_id_gets_it_back_from_its_own_stream() {
    let answers = Answers::default();
    let call = expect(&answers, &["9223372036854775808"]);
    let rounded = Bytes::from_static(br#"{"id":9223372036854776000,"result":{}}"#);
    assert_eq!(answers.admit(rounded.clone(), None, false), None);
    let passed = answers.admit(rounded, Some(&call), false).unwrap();
    assert_eq!(
        text(&passed.bytes),
        r#"{"id":9223372036854775808,"result":{}}"#
    );
}

#[test]
fn another_requests_answer_is_not_taken_for_this_ones() {
    let answers = Answers::default();
    let (one, two) = (expect(&answers, &["1"]), expect(&answers, &["2"]));
    let answer = Bytes::from_static(br#"{"id":2,"result":{}}"#);
    assert!(answers.admit(answer.clone(), Some(&one), true).is_some());
    assert_eq!(answers.admit(answer, Some(&one), false), None);
    assert_eq!(answers.left(&one).len(), 1);
    assert_eq!(answers.left(&two).len(), 0);
}

#[test]
fn what_is_left_of_a_batch_fails_as_a_batch() {
    let answers = Answers::default();
    let call = expect(&answers, &["1", "2", "3"]);
    let some = Bytes::from_static(br#"[{"id":2,"result":{}},{"id":9,"result":{}}]"#);
    let passed = answers.admit(some, Some(&call), false).unwrap();
    assert_eq!(text(&passed.bytes), r#"[{"id":2,"result":{}}]"#);
    let failed = answers.fail(&call, &Problem::new("x", "y")).unwrap();
    let failed: serde_json::Value = serde_json::from_slice(&failed).unwrap();
    assert_eq!(
        (failed[0]["id"].as_u64(), failed[1]["id"].as_u64()),
        (Some(1), Some(3))
    );
}

#[test]
fn nobody_is_told_of_the_failure_of_what_they_cancelled() {
    let answers = Answers::default();
    let call = expect(&answers, &["1"]);
    assert_eq!(answers.cancel("1"), Cancelled::Legacy);
    assert_eq!(answers.cancel("2"), Cancelled::Unknown);
    assert_eq!(answers.fail(&call, &Problem::new("x", "y")), None);
}

#[test]
fn an_id_in_flight_is_not_given_twice() {
    let answers = Answers::default();
    let call = expect(&answers, &["1"]);
    let again = [("1".into(), "ping".into())];
    assert!(answers.expect(&again, 1, false, false).is_err());
    answers.end(&call);
    assert!(answers.expect(&again, 1, false, false).is_ok());
}

#[test]
fn too_much_in_flight_is_refused_until_some_of_it_ends() {
    let answers = Answers::default();
    let big = [("1".into(), "ping".into())];
    let call = answers.expect(&big, MAX_BYTES, false, false).unwrap();
    let small = [("2".into(), "ping".into())];
    assert!(answers.expect(&small, 1, false, false).is_err());
    answers.end(&call);
    assert!(answers.expect(&small, 1, false, false).is_ok());
}
