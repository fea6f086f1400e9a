//! A result that is kept, and for how long it is good.

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;

/// However long a server says that its result is good.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Who may be given a result (2026-07-28, "Cache Scope Field").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Private,
    Public,
}

/// What an answer says about itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Cacheable {
    result: Box<[u8]>,
    /// Where in `result` the number of `ttlMs` stands.
    ttl_at: Option<Range<usize>>,
    pub ttl: Duration,
    pub scope: Scope,
}

/// A message, seen by whoever waits for the answer to one request.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not the answer: a notification, or a request of the server's.
    Other,
    /// The answer, which may not be kept.
    Unfit,
    Cacheable(Cacheable),
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Hints<'a> {
    #[serde(borrow, rename = "resultType")]
    result_type: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "ttlMs")]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, rename = "cacheScope")]
    scope: Option<Cow<'a, str>>,
}

/// Reads a message of the answer to the request `id`.
///
/// `ttl_without_hint` is how long a result is good that does not say so itself.
pub fn read(message: &[u8], id: &str, ttl_without_hint: Option<Duration>) -> Seen {
    let Ok(answer) = json::object::<Answer<'_>>(message) else {
        // No message of ours, or one with a key twice: whoever gets it may make of it what it will.
        return Seen::Unfit;
    };
    if answer.method.is_some() {
        return Seen::Other;
    }
    match (answer.id, answer.result, answer.error) {
        (Some(its), Some(result), None) if is_same_id(its.get(), id) => {
            cacheable(result.get(), ttl_without_hint).map_or(Seen::Unfit, Seen::Cacheable)
        }
        _ => Seen::Unfit,
    }
}

/// Ids are compared as what they say: a server may write `"\u0061"` as `"a"`.
fn is_same_id(one: &str, other: &str) -> bool {
    let text = |json: &str| serde_json::from_str::<String>(json).ok();
    one == other || text(one).is_some_and(|one| Some(one) == text(other))
}

fn cacheable(result: &str, ttl_without_hint: Option<Duration>) -> Option<Cacheable> {
    let hints: Hints<'_> = json::object(result.as_bytes()).ok()?;
    // Absent before 2026-07-28; another one is a partial result or one we do not know.
    if hints.result_type.is_some_and(|kind| kind != "complete") {
        return None;
    }
    let scope = match hints.scope.as_deref() {
        Some("public") => Scope::Public,
        // What nobody called public is the asker's own.
        Some("private") | None => Scope::Private,
        Some(_) => return None,
    };
    let ttl = match hints.ttl_ms {
        Some(milliseconds) => milliseconds.get().parse().ok().map(Duration::from_millis),
        None => ttl_without_hint,
    };
    let ttl = ttl?.min(MAX_TTL);
    let ttl_at = hints.ttl_ms.map(|number| {
        let start = number.get().as_ptr().addr() - result.as_ptr().addr();
        start..start + number.get().len()
    });
    (!ttl.is_zero()).then(|| Cacheable {
        result: result.as_bytes().into(),
        ttl_at,
        ttl,
        scope,
    })
}

/// A result in the store.
#[derive(Debug)]
pub struct Kept {
    pub cacheable: Cacheable,
    pub fresh_until: Instant,
    /// Until then it may stand in for an upstream that fails.
    pub stale_until: Instant,
    /// Of its partition, when it was asked for.
    pub generation: u64,
    /// The private partition of whoever asked for it.
    pub asker: u64,
}

impl Kept {
    pub fn is_fresh(&self, now: Instant) -> bool {
        now < self.fresh_until
    }

    pub fn may_stand_in(&self, now: Instant) -> bool {
        now < self.stale_until
    }

    pub fn scope(&self) -> Scope {
        self.cacheable.scope
    }

    pub fn size(&self) -> usize {
        self.cacheable.result.len()
    }

    /// The answer to the request `id`, with what is left of its time: a client that
    /// counted the whole of it again would keep the result for too long.
    pub fn answer(&self, id: &str, now: Instant) -> Vec<u8> {
        let result = &self.cacheable.result;
        let mut out = Vec::with_capacity(result.len() + id.len() + 48);
        out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(br#","result":"#);
        match &self.cacheable.ttl_at {
            None => out.extend_from_slice(result),
            Some(at) => {
                let left = self.fresh_until.saturating_duration_since(now).as_millis();
                out.extend_from_slice(&result[..at.start]);
                out.extend_from_slice(left.to_string().as_bytes());
                out.extend_from_slice(&result[at.end..]);
            }
        }
        out.push(b'}');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn seen(result: &str) -> Seen {
        seen_with(result, None)
    }

    fn seen_with(result: &str, ttl: Option<Duration>) -> Seen {
        let message = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{result}}}"#);
        read(message.as_bytes(), "7", ttl)
    }

    fn kept(result: &str) -> Cacheable {
        match seen(result) {
            Seen::Cacheable(cacheable) => cacheable,
            other => panic!("{result}: {other:?}"),
        }
    }

    #[test]
    fn a_result_says_for_how_long_and_for_whom() {
        let public =
            kept(r#"{"resultType":"complete","ttlMs":1500,"cacheScope":"public","tools":[]}"#);
        assert_eq!(
            (public.ttl.as_millis(), public.scope),
            (1500, Scope::Public)
        );
        assert_eq!(
            kept(r#"{"ttlMs":1,"cacheScope":"private"}"#).scope,
            Scope::Private
        );
        assert_eq!(kept(r#"{"ttlMs":1}"#).scope, Scope::Private);
        assert_eq!(kept(r#"{"ttlMs":18446744073709551615}"#).ttl, MAX_TTL);
    }

    #[test]
    fn what_may_not_be_kept_is_not() {
        for result in [
            r#"{"tools":[]}"#,
            r#"{"ttlMs":0,"cacheScope":"public"}"#,
            r#"{"ttlMs":-5}"#,
            r#"{"ttlMs":1.5}"#,
            r#"{"ttlMs":"60000"}"#,
            r#"{"ttlMs":18446744073709551616}"#,
            r#"{"ttlMs":60000,"resultType":"input_required"}"#,
            r#"{"ttlMs":60000,"resultType":"partial"}"#,
            r#"{"ttlMs":60000,"resultType":7}"#,
            r#"{"ttlMs":60000,"cacheScope":"shared"}"#,
            r#"{"ttlMs":60000,"cacheScope":7}"#,
            r#"{"ttlMs":0,"ttlMs":60000}"#,
            r#"["complete",60000,"public"]"#,
            "[]",
            "7",
        ] {
            assert_eq!(seen(result), Seen::Unfit, "{result}");
        }
        let values = br#"[7,null,{"ttlMs":60000},null]"#;
        assert_eq!(read(values, "7", None), Seen::Unfit);
        // The operator's word is for results that say nothing; a server that says 0 means it.
        assert!(matches!(
            seen_with(r#"{"tools":[]}"#, Some(MINUTE)),
            Seen::Cacheable(_)
        ));
        assert_eq!(seen_with(r#"{"ttlMs":0}"#, Some(MINUTE)), Seen::Unfit);
        assert_eq!(
            seen_with(r#"{"resultType":"input_required"}"#, Some(MINUTE)),
            Seen::Unfit
        );
    }

    #[test]
    fn only_the_answer_to_the_request_counts() {
        let good = r#""result":{"ttlMs":60000}"#;
        for (message, seen) in [
            (
                r#"{"method":"notifications/progress","params":{}}"#.to_owned(),
                Seen::Other,
            ),
            (
                r#"{"id":7,"method":"sampling/createMessage"}"#.to_owned(),
                Seen::Other,
            ),
            (
                r#"{"id":7,"error":{"code":-32603,"message":"no"}}"#.to_owned(),
                Seen::Unfit,
            ),
            (format!(r#"{{"id":8,{good}}}"#), Seen::Unfit),
            (format!(r#"{{"id":"7",{good}}}"#), Seen::Unfit),
            (format!(r#"{{"id":7,{good},"error":{{}}}}"#), Seen::Unfit),
            (format!(r#"{{"id":7,{good},{good}}}"#), Seen::Unfit),
            ("nonsense".to_owned(), Seen::Unfit),
        ] {
            assert_eq!(read(message.as_bytes(), "7", None), seen, "{message}");
        }
        let message = format!(r#"{{"id":"a",{good}}}"#);
        assert!(matches!(
            read(message.as_bytes(), r#""\u0061""#, None),
            Seen::Cacheable(_)
        ));
    }

    #[test]
    fn an_answer_has_the_askers_id_and_what_is_left_of_the_time() {
        let received = Instant::now();
        let result = r#"{ "ttlMs" : 60000 , "tools":[1]}"#;
        let kept = Kept {
            cacheable: kept(result),
            fresh_until: received + MINUTE,
            stale_until: received + 2 * MINUTE,
            generation: 0,
            asker: 0,
        };
        let at = |seconds| received + Duration::from_secs(seconds);
        assert_eq!(
            kept.answer("9223372036854775808", at(45)),
            br#"{"jsonrpc":"2.0","id":9223372036854775808,"result":{ "ttlMs" : 15000 , "tools":[1]}}"#
        );
        assert_eq!(
            kept.answer("\"s\"", at(90)),
            br#"{"jsonrpc":"2.0","id":"s","result":{ "ttlMs" : 0 , "tools":[1]}}"#
        );
        assert!(kept.is_fresh(at(59)) && !kept.is_fresh(at(60)));
        assert!(kept.may_stand_in(at(119)) && !kept.may_stand_in(at(120)));
    }
}
