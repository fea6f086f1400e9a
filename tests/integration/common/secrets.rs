//! What must never be seen outside: every secret of these tests carries a mark, and signatures
//! have a shape that nothing else has.

pub const KEY_ID: &str = "550e8400-e29b-41d4-a716-446655440000";
pub const SECRET: &str = "hush-aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789";
/// A second one that a test may rotate to.
pub const NEXT_SECRET: &str = "hush-ZyXwVuTsRqPoNmLkJiHgFeDcBa9876543210";

/// Every secret, token and cookie of these tests contains it.
const MARK: &str = "hush";

/// Request ids and trace ids have 32 hex digits; a signature has 64, and its longer half is one too.
const MAX_HEX: usize = 32;

/// Panics if `text` holds a secret, or a signature or most of one.
#[track_caller]
pub fn assert_none(place: &str, text: &str) {
    if let Some(found) = find(text) {
        panic!("{place} shows {found}: {text}");
    }
}

pub fn find(text: &str) -> Option<String> {
    if let Some(at) = text.find(MARK) {
        let secret: String = text[at..].chars().take(16).collect();
        return Some(format!("a secret ({secret}…)"));
    }
    text.split(|c: char| !c.is_ascii_hexdigit())
        .find(|run| run.len() > MAX_HEX)
        .map(|run| format!("a signature ({run})"))
}
