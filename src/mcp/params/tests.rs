use super::*;

fn listing(schema: &str) -> String {
    format!(r#"{{"id":1,"result":{{"tools":[{{"name":"t","inputSchema":{schema}}}]}}}}"#)
}

fn headers(schema: &str, arguments: &str) -> Vec<(String, String)> {
    let mut catalog = Catalog::default();
    let learned = catalog.learn(listing(schema).as_bytes());
    assert_eq!(learned, Learned::default());
    let mut list: Vec<_> = catalog
        .headers("t", arguments)
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    list.sort();
    list
}

const SCHEMA: &str = r#"{"type":"object","properties":{
    "region":{"type":"string","x-mcp-header":"Region"},
    "query":{"type":"string"},
    "where":{"type":"object","properties":{"row":{"type":"integer","x-mcp-header":"Row"}}},
    "dry":{"type":"boolean","x-mcp-header":"Dry"}}}"#;

#[test]
fn annotated_arguments_are_mirrored_wherever_properties_lead() {
    let arguments = r#"{"region":"us-west1","query":"x","where":{"row":42.0},"dry":true}"#;
    let expected = [("dry", "true"), ("region", "us-west1"), ("row", "42")]
        .map(|(name, value)| (format!("mcp-param-{name}"), value.to_owned()));
    assert_eq!(headers(SCHEMA, arguments), expected);
}

#[test]
fn a_listing_without_names_teaches_nothing() {
    let schema = r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}"#;
    for answer in [
        format!(r#"[[[{{"name":"t","inputSchema":{schema}}}],null]]"#),
        format!(r#"{{"result":[[{{"name":"t","inputSchema":{schema}}}],"c"]}}"#),
        format!(r#"{{"result":{{"tools":[["t",{schema}]]}}}}"#),
    ] {
        let mut catalog = Catalog::default();
        assert_eq!(catalog.learn(answer.as_bytes()), Learned::default());
        assert!(catalog.headers("t", r#"{"a":"b"}"#).is_empty(), "{answer}");
    }
}

#[test]
fn null_and_absent_arguments_have_no_header() {
    assert_eq!(headers(SCHEMA, r#"{"region":null,"where":7}"#), []);
}

#[test]
fn broken_annotations_make_a_definition_invalid() {
    for schema in [
        r#"{"x-mcp-header":"Root","type":"string"}"#,
        r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#,
        r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
        r#"{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}"#,
        r#"{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}"#,
        r#"{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#,
        r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
    ] {
        let mut catalog = Catalog::default();
        let learned = catalog.learn(listing(schema).as_bytes());
        assert_eq!(learned.invalid.len(), 1, "{schema}");
        assert!(catalog.headers("t", r#"{"a":"x"}"#).is_empty(), "{schema}");
    }
}

#[test]
fn a_later_listing_replaces_what_an_earlier_one_said() {
    let mut catalog = Catalog::default();
    catalog.learn(listing(SCHEMA).as_bytes());
    catalog.learn(listing(r#"{"type":"object"}"#).as_bytes());
    assert!(catalog.headers("t", r#"{"region":"x"}"#).is_empty());
}

#[test]
fn what_names_and_paths_hold_is_bounded() {
    let mut catalog = Catalog::default();
    for index in 0..20 {
        let tool = format!("{index}{}", "x".repeat(MAX_BYTES / 10));
        catalog.learn(
            listing(SCHEMA)
                .replace(r#""t""#, &format!("{tool:?}"))
                .as_bytes(),
        );
        assert_eq!(
            catalog.headers(&tool, r#"{"region":"x"}"#).is_empty(),
            index >= 9,
            "{index}"
        );
    }
    assert!(catalog.bytes <= MAX_BYTES);
    for index in 0..9 {
        catalog.forget(&format!("{index}{}", "x".repeat(MAX_BYTES / 10)));
    }
    assert_eq!(catalog.bytes, 0);
}

#[test]
fn big_integers_keep_their_digits() {
    assert_eq!(decimal("9223372036854775808"), "9223372036854775808");
    assert_eq!(decimal("-7"), "-7");
    assert_eq!(decimal("4.2e1"), "42");
    assert_eq!(decimal("1.5"), "1.5");
}
