//! What a peer may call: judged by the request's body, before anything is signed.
//!
//! Where a policy applies, a request must be readable in one way only: whatever
//! could carry a call past it is refused.

mod listing;

pub use listing::filter;

use std::borrow::Cow;

use http::header::{self, HeaderMap};
use slog::info;

use super::error::{Code, Error};
use super::{Call, Proxy};
use crate::config::{Policy, Route, Rules, Who};
use crate::mcp::strict::{self, Message, Unclear};
use crate::path;

/// Which policy of `route` whoever sent this is under; `None` if the route has none at all.
///
/// # Errors
/// The route has policies, and none of them is for this peer.
pub fn of_peer(route: &Route, call: &Call<'_>) -> Result<Option<usize>, Error> {
    if route.policies.is_empty() {
        return Ok(None);
    }
    let peer = &call.connection.peer;
    let advice = "this route is not for you; whoever runs the proxy can add a [[route.policy]] for your user";
    first_for(&route.policies, &call.who()).map_err(|maybe| {
        let reason = match maybe {
            Some(policy) => format!(
                "whether the policy at {} is for {peer} cannot be known, and it stands before all others that may be",
                policy.place
            ),
            None => format!("no [[route.policy]] of {}/ is for {peer}", route.path),
        };
        Error::new(Code::PolicyForbidden, advice).because(reason)
    }).map(Some)
}

/// The first policy that is for `who`.
///
/// # Errors
/// There is none, or one before it may be, for all that is known: whoever hides what it is must
/// not get past a strict policy to a mild one.
fn first_for<'a>(policies: &'a [Policy], who: &Who<'_>) -> Result<usize, Option<&'a Policy>> {
    for (index, policy) in policies.iter().enumerate() {
        if policy.peers.include(who) {
            return Ok(index);
        }
        if policy.peers.may_include(who) {
            return Err(Some(policy));
        }
    }
    Err(None)
}

impl Proxy {
    /// Refuses what `policy` does not permit, or only notes it in a dry run.
    pub(super) fn judge(&self, policy: &Policy, call: &Call<'_>) -> Result<(), Error> {
        let Err(error) = judge(policy, call) else {
            return Ok(());
        };
        let error = error.because(format!("policy at {}", policy.place));
        if !policy.dry_run {
            return Err(error);
        }
        info!(self.log, "the policy's dry run would refuse this"; "policy" => &policy.place,
            "reason" => &error.message, "peer" => %call.connection.peer);
        Ok(())
    }
}

fn judge(policy: &Policy, call: &Call<'_>) -> Result<(), Error> {
    let Some(body) = &call.message else {
        return if call.has_body {
            Err(unreadable(
                "it is no JSON-RPC by its method and Content-Type",
            ))
        } else {
            Ok(())
        };
    };
    check_encoding(&call.head.headers)?;
    for message in strict::read(body)? {
        judge_message(policy, &message)?;
    }
    Ok(())
}

/// Bytes are judged as they are: what an upstream would decode first could say something else.
fn check_encoding(headers: &HeaderMap) -> Result<(), Error> {
    let is_encoded = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| value != "identity");
    if is_encoded {
        return Err(unreadable("it has a Content-Encoding"));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let first = types.next().and_then(|value| value.to_str().ok());
    let charset = first.and_then(|value| {
        value
            .to_ascii_lowercase()
            .split_once("charset")
            .map(|(_, rest)| rest.to_owned())
    });
    let is_utf8 = charset.is_none_or(|rest| {
        matches!(
            rest.trim_start_matches([' ', '='])
                .trim_matches(['"', ' ', ';']),
            "utf-8" | "utf8"
        )
    });
    if types.next().is_some() || !is_utf8 {
        return Err(unreadable("its Content-Type is not plain UTF-8 JSON"));
    }
    Ok(())
}

fn judge_message(policy: &Policy, message: &Message<'_>) -> Result<(), Error> {
    let Some(method) = &message.method else {
        return Ok(());
    };
    check_spelling(method)?;
    match &**method {
        "tools/call" => permit(&policy.tools, "tool", message.name.as_deref()),
        "prompts/get" => permit(&policy.prompts, "prompt", message.name.as_deref()),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            permit_uri(&policy.resources, message.uri.as_deref())
        }
        "completion/complete" => match &message.reference {
            Some(reference) if reference.uri.is_some() => {
                permit_uri(&policy.resources, reference.uri.as_deref())?;
                reference
                    .name
                    .as_deref()
                    .map_or(Ok(()), |name| permit(&policy.prompts, "prompt", Some(name)))
            }
            reference => permit(
                &policy.prompts,
                "prompt",
                reference.as_ref().and_then(|r| r.name.as_deref()),
            ),
        },
        _ => Ok(()),
    }
}

const GOVERNED: [&str; 6] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "completion/complete",
];

/// A method that is almost one of ours could be that one to the upstream.
fn check_spelling(method: &str) -> Result<(), Error> {
    let folded: String = method
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .flat_map(char::to_lowercase)
        .collect();
    if folded != method && GOVERNED.contains(&folded.trim_matches('/')) {
        return Err(unreadable("its method is almost one that has rules"));
    }
    Ok(())
}

fn permit(rules: &Rules, kind: &str, name: Option<&str>) -> Result<(), Error> {
    if !rules.restrict() {
        return Ok(());
    }
    match name {
        Some(name) if rules.permit(name) => Ok(()),
        Some(name) => Err(denied(kind, name)),
        None => Err(unreadable("it does not name what it asks for")),
    }
}

/// One resource has many spellings: each must be permitted, and those that climb are refused.
fn permit_uri(rules: &Rules, uri: Option<&str>) -> Result<(), Error> {
    if !rules.restrict() {
        return Ok(());
    }
    let Some(uri) = uri else {
        return Err(unreadable("it does not name what it asks for"));
    };
    let decoded = path::decode_lossy(uri);
    if climbs(uri) || climbs(&decoded) || path::decode_lossy(&decoded) != decoded {
        return Err(denied("resource", uri));
    }
    if rules.permit(uri) && rules.permit(&decoded) {
        Ok(())
    } else {
        Err(denied("resource", uri))
    }
}

fn climbs(uri: &str) -> bool {
    uri.split(['/', '\\'])
        .any(|segment| segment == ".." || segment == ".")
}

fn denied(kind: &str, name: &str) -> Error {
    let shown: Cow<'_, str> = if name.len() > 200 {
        "(a long name)".into()
    } else {
        name.into()
    };
    Error::new(
        Code::PolicyForbidden,
        format!(
            "the {kind} {shown:?} is not permitted here by the proxy's policy; whoever runs the proxy can allow it"
        ),
    )
}

fn unreadable(why: &str) -> Error {
    Error::new(
        Code::Ambiguous,
        format!(
            "this request cannot be judged by the proxy's policy: {why}; send plain JSON-RPC in UTF-8"
        ),
    )
}

impl From<Unclear> for Error {
    fn from(Unclear(why): Unclear) -> Self {
        unreadable(&why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Known, Peers};

    fn policy(peers: Peers) -> Policy {
        Policy {
            peers,
            tools: Rules::default(),
            prompts: Rules::default(),
            resources: Rules::default(),
            dry_run: false,
            place: "here".to_owned(),
        }
    }

    fn with_user(user: Known<u32>) -> Who<'static> {
        Who {
            user,
            groups: Known::Unknown,
            program: Known::Unknown,
            client: None,
        }
    }

    #[test]
    fn whoever_hides_what_it_is_does_not_get_past_a_strict_policy_to_a_mild_one() {
        let policies = [policy(Peers::of_user(1000)), policy(Peers::default())];
        let first = |user| first_for(&policies, &with_user(user)).map_err(|maybe| maybe.is_some());
        assert_eq!(first(Known::Is(1000)), Ok(0));
        assert_eq!(first(Known::Is(1)), Ok(1));
        assert_eq!(first(Known::IsNot), Ok(1));
        assert_eq!(first(Known::Unknown), Err(true));
        // Behind the one that fits it changes nothing.
        let policies = [policy(Peers::default()), policy(Peers::of_user(1000))];
        assert_eq!(
            first_for(&policies, &with_user(Known::Unknown)).ok(),
            Some(0)
        );
        let one = [policy(Peers::of_user(1000))];
        assert!(first_for(&one, &with_user(Known::Is(1))).is_err_and(|maybe| maybe.is_none()));
    }
}
