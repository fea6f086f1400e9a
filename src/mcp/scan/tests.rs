use proptest::prelude::*;

use super::*;
use crate::fuzz::json_rpc::scanned;

/// An object's members as they stand.
fn members(json: &str) -> Option<Vec<(&str, &str)>> {
    let mut members = Vec::new();
    let mut scanner = Scanner::new(json);
    scanner.object(|key, scanner| {
        members.push((key.inside, scanner.value()?));
        Some(())
    })?;
    scanner.end()?;
    Some(members)
}

fn is_value(json: &str) -> bool {
    let object = format!("{{\"a\":{json}}}");
    let is_value = members(&object).is_some_and(|members| members == [("a", json)]);
    let parsed = serde_json::from_str::<serde::de::IgnoredAny>(json);
    assert_eq!(is_value, parsed.is_ok(), "{json}");
    is_value
}

#[test]
fn members_are_found_as_they_stand() {
    let json = "\t{ \"a\" : [1, {\"}\": \"]\\\"\" }]\n,\"\\u0062\":-0.5e+7 , \"c\":\"\"}\r\n";
    let found = [
        ("a", r#"[1, {"}": "]\"" }]"#),
        (r"\u0062", "-0.5e+7"),
        ("c", r#""""#),
    ];
    assert_eq!(members(json).unwrap(), found);
    assert_eq!(members("{ }").unwrap(), []);
}

#[test]
fn only_one_whole_object_is_one() {
    for json in [
        "",
        "{",
        "}",
        "{}x",
        "{}{}",
        "[]",
        "\"a\"",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":1]",
        "{\"a\":1",
        "{\"a",
        "{'a':1}",
        "{1:2}",
        "\u{feff}{}",
        "\u{a0}{}",
        "{\"a\":1}\0",
        "{/**/}",
        "{\"a\":\u{b}1}",
    ] {
        assert_eq!(members(json), None, "{json}");
        assert!(serde_json::from_str::<std::collections::HashMap<String, u8>>(json).is_err());
    }
}

#[test]
fn values_are_those_of_the_grammar() {
    for json in [
        "0",
        "-0",
        "10.01",
        "1e5",
        "1E-05",
        "-1.5e+10",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        "[[],{}]",
        "[ 1 , 2 ]",
        "{\"a\":[{}],\"a\":2}",
        r#""\"\\\/\b\f\n\r\t\u00aF""#,
        "\"\u{7f}é\"",
        r#""\ud800""#,
    ] {
        assert!(is_value(json), "{json}");
    }
    for json in [
        "",
        "-",
        "01",
        "-01",
        "1.",
        ".5",
        "1.e5",
        "1e",
        "1e+",
        "+1",
        "- 1",
        "0x1",
        "1_0",
        "Infinity",
        "NaN",
        "tru",
        "truee",
        "True",
        "nul",
        "[",
        "[1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "{\"a\"}",
        "{\"a\":1,}",
        "\"",
        "\"\\",
        "\"\\\"",
        r#""\x41""#,
        r#""\u12""#,
        r#""\u12g4""#,
        "\"\n\"",
        "\"\0\"",
        "\"12345678\t\"",
        "1,2",
    ] {
        assert!(!is_value(json), "{json}");
    }
}

#[test]
fn a_string_ends_at_any_place_of_a_word() {
    for length in 0..40 {
        let text = "é".repeat(length / 2) + &"a".repeat(length % 2);
        assert!(is_value(&format!("\"{text}\"")));
        for (inside, is_valid) in [
            ("\\\"", true),
            ("\u{1f}", false),
            ("\\", false),
            ("\u{80}", true),
        ] {
            let json = format!("\"{text}{inside}\"");
            assert_eq!(is_value(&json), is_valid, "{json}");
        }
    }
}

#[test]
fn what_nests_is_passed_however_deep_it_is() {
    for depth in [0, 1, 2, 3, 63, 64, 65, 66, 127, 128, 129, 130, 194, 10_000] {
        let opened: String = (0..depth).map(|at| ["[", "{\"a\":"][at % 3 % 2]).collect();
        let closed: String = (0..depth).rev().map(|at| ["]", "}"][at % 3 % 2]).collect();
        let json = format!("{{\"a\":{opened}1{closed}}}");
        assert!(members(&json).is_some(), "{depth}");
        let wrong = ["}", "]"];
        for level in (0..depth).take(200) {
            let mut closed = closed.clone();
            let at = closed.len() - 1 - level;
            closed.replace_range(at..=at, wrong[level % 3 % 2]);
            let json = format!("{{\"a\":{opened}1{closed}}}");
            assert_eq!(members(&json), None, "{depth} {level}");
        }
    }
}

/// A string's inside, a key or none.
const TEXT: &str =
    "([a-zé{}\\[\\],: ]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|\\\\ud83d\\\\ude00){0,12}";
const KEY: &str = "method|params|name|uri|_meta|Method|NAME|param\u{17f}|m\\\\u0065thod|p\\\\u0061rams|na\\\\u006De";
const METHOD: &str = "tools/call|prompts/get|resources/read|ping|tools\\\\/call";

fn text() -> impl Strategy<Value = String> {
    prop_oneof![TEXT, KEY, METHOD].prop_map(|text| format!("\"{text}\""))
}

fn json() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,3})([.][0-9]{1,2})?([eE][+-]?[0-9]{1,2})?";
    let leaf = prop_oneof![text(), number, "true|false|null"];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let member = (text(), "[ \n]?", inner.clone())
            .prop_map(|(key, blank, value)| format!("{key}{blank}:{blank}{value}"));
        let enclosed = |open: char, close: char| {
            move |parts: Vec<String>| format!("{open}{}{close}", parts.join(","))
        };
        prop_oneof![
            2 => prop::collection::vec(member, 0..6).prop_map(enclosed('{', '}')),
            1 => prop::collection::vec(inner, 0..4).prop_map(enclosed('[', ']')),
        ]
    })
}

/// What the whole is about, so that most of it is looked at.
fn message() -> impl Strategy<Value = String> {
    let method = METHOD.prop_map(|method| format!("\"method\":\"{method}\""));
    let params =
        ("params|p\\\\u0061rams", json()).prop_map(|(key, params)| format!("\"{key}\":{params}"));
    (method, params, text(), json(), any::<bool>()).prop_map(
        |(method, params, key, other, turned)| match turned {
            true => format!("{{{params},{key}:{other},{method}}}"),
            false => format!("{{{method} , {params}\t, {key}:{other}}}"),
        },
    )
}

/// A grammar takes more cases than most; an interpreter of the tests asks for fewer of all.
fn many() -> ProptestConfig {
    let cases = ProptestConfig::default().cases;
    ProptestConfig::with_cases(cases.saturating_mul(8))
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn serde_json_finds_the_same(message in message(), places in prop::collection::vec((0usize..600, ".?|[{}\\[\\]\",:\\\\ \t\n0-9eE.+-]"), 0..3)) {
        let mut message = message;
        scanned(message.as_bytes());
        for (at, piece) in places {
            let start = message.floor_char_boundary(at % (message.len() + 1));
            let end = message.ceil_char_boundary(start + 1).min(message.len());
            message.replace_range(start..end, &piece);
            scanned(message.as_bytes());
        }
    }

    #[test]
    fn serde_json_finds_the_same_in_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        scanned(&bytes);
    }
}
