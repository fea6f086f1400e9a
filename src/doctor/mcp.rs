//! The MCP handshake in both eras: `server/discover` (2026-07-28) and `initialize` (before it).

use http::uri::PathAndQuery;
use http::{Method, StatusCode, header};
use serde_json::Value;

use super::ask::{Answer, Peer, Trouble};
use super::era::{Session, discover, initialize};
use super::refusal::{self, Skew};
use super::{Code, Finding, Findings, stream};
use crate::mcp::SESSION_ID;

/// Where an endpoint may be.
pub struct Place {
    /// As clients of the daemon ask for it.
    pub asked: String,
    pub upstream: PathAndQuery,
}

/// What a server said in a handshake.
#[derive(Default)]
struct Heard {
    /// Revisions, newest first.
    versions: Vec<String>,
    session: Option<Session>,
    is_modern: bool,
}

/// One answer that is no JSON-RPC: either a finding, or this place is not the one.
enum Other {
    NotHere(StatusCode),
    Found(Finding),
}

/// Finds the endpoint and speaks with it.
///
/// # Errors
/// The first exchange without an answer.
pub async fn speak(
    peer: &Peer<'_>,
    places: &[Place],
    findings: &mut Findings,
) -> Result<(), Trouble> {
    let (mut missing, mut is_first) = (Vec::new(), true);
    for place in places {
        let mut heard = Heard::default();
        for handshake in [true, false] {
            let answer = match handshake {
                true => discover(peer, &place.upstream).await?,
                false => initialize(peer, &place.upstream).await?,
            };
            if std::mem::take(&mut is_first) {
                first_answer(&answer, findings);
            }
            match listen(answer, peer, &mut heard).await {
                Ok(()) => {}
                Err(Other::NotHere(status)) => {
                    missing.push(format!("{}: {status}", place.upstream))
                }
                Err(Other::Found(finding)) => {
                    // A clock that is named as the reason need not be named twice.
                    findings.0.retain(|before| before.code != finding.code);
                    findings.add(finding);
                    return Ok(());
                }
            }
        }
        if !heard.versions.is_empty() {
            return conclude(peer, place, heard, findings).await;
        }
    }
    missing.dedup();
    findings.add(nowhere(peer, places, missing));
    Ok(())
}

/// Says of the clock and the protocol what the first answer shows.
fn first_answer(answer: &Answer, findings: &mut Findings) {
    let message = format!(
        "{:?} answers in {} ms",
        answer.version,
        answer.took.as_millis()
    );
    findings.add(Finding::new(Code::HttpOk, message));
    if let Some(skew) = answer.skew {
        findings.add(refusal::clock(skew));
    }
}

async fn listen(answer: Answer, peer: &Peer<'_>, heard: &mut Heard) -> Result<(), Other> {
    let (status, skew) = (answer.status, answer.skew);
    if matches!(status.as_u16(), 401 | 403 | 429 | 300..=399 | 500..) || answer.is("text/html") {
        return Err(Other::Found(refused(answer, status, skew, peer).await));
    }
    let session = answer
        .headers
        .get(SESSION_ID)
        .and_then(|id| id.to_str().ok());
    let session = session.map(str::to_owned);
    let Some(message) = answer.message().await else {
        return Err(Other::NotHere(status));
    };
    let result = &message["result"];
    for list in [
        &result["supportedVersions"],
        &message["error"]["data"]["supported"],
    ] {
        let versions = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        heard.versions.extend(versions.map(short));
    }
    heard.is_modern |= result["supportedVersions"].is_array();
    if let Some(version) = result["protocolVersion"].as_str() {
        heard.versions.push(short(version));
        heard.session = Some(Session {
            id: session,
            version: version.to_owned(),
        });
    }
    Ok(())
}

/// It goes to a terminal.
fn short(version: &str) -> String {
    version
        .chars()
        .filter(|c| !c.is_control())
        .take(20)
        .collect()
}

/// An answer that is not the MCP server's.
async fn refused(answer: Answer, status: StatusCode, skew: Skew, peer: &Peer<'_>) -> Finding {
    let is_page = answer.is("text/html");
    let header = |name| {
        let value = answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        short_text(value.unwrap_or("?"))
    };
    let (location, retry_after) = (header(header::LOCATION), header(header::RETRY_AFTER));
    let words = answer.words().await;
    match status.as_u16() {
        401 if peer.upstream.auth.is_none() => Finding::new(Code::CredentialWanted, format!("the upstream wants a credential: {words}"))
            .next("write a [credential.NAME.auth-gateway], and credential = \"NAME\" into the upstream"),
        401 => refusal::judge(&words, skew),
        403 => Finding::new(Code::Forbidden, format!("the upstream knows the credential and refuses with a 403: {words}"))
            .next("ask its operator what this key may do"),
        429 => Finding::new(Code::RateLimited, format!("the upstream has had enough requests for now (429, Retry-After {retry_after}): {words}"))
            .next("wait and try again; [[limits.rate]] keeps the agents below the limit"),
        300..=399 => Finding::new(Code::Redirected, format!("{status} to {location}, which the proxy never follows"))
            .next("write the address where it leads into the upstream's url"),
        500.. => Finding::new(Code::UpstreamFails, format!("the upstream answers {status}: {words}"))
            .next("its operator has to look; the request had a good signature or none was asked for"),
        _ if is_page => Finding::new(Code::WebPage, format!("a web page answers ({status}), no MCP server: {words}"))
            .next("is the url right? a portal or a corporate proxy may stand between"),
        _ => Finding::new(Code::NotMcp, format!("{status}: {words}")).next("is the url right?"),
    }
}

fn short_text(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

async fn conclude(
    peer: &Peer<'_>,
    place: &Place,
    mut heard: Heard,
    findings: &mut Findings,
) -> Result<(), Trouble> {
    if peer.upstream.auth.is_some() {
        findings.add(Finding::new(
            Code::SignatureOk,
            "the upstream takes the credential",
        ));
    }
    heard.versions.sort_by(|a, b| b.cmp(a));
    heard.versions.dedup();
    let message = format!(
        "an MCP server answers clients that ask for {}: revisions {}",
        place.asked,
        heard.versions.join(", ")
    );
    findings.add(Finding::new(Code::McpOk, message));
    let mut found = None;
    if heard.is_modern {
        found = stream::modern(peer, &place.upstream).await;
    }
    // A server of both eras may have a stream in the older one alone.
    let has_stream = |finding: &Finding| finding.code != Code::NoStream;
    if let Some(session) = &heard.session
        && !found.as_ref().is_some_and(has_stream)
    {
        found = stream::legacy(peer, &place.upstream, session)
            .await
            .or(found);
    }
    findings.0.extend(found);
    if let Some(session) = heard.session.filter(|session| session.id.is_some()) {
        let patience = peer.upstream.config.request_timeout;
        // A server need not let a session be ended (405).
        let _ = peer
            .bare(
                Method::DELETE,
                &place.upstream,
                &session.headers(),
                patience,
            )
            .await;
    }
    Ok(())
}

/// Nothing that was tried is an endpoint.
fn nowhere(peer: &Peer<'_>, places: &[Place], missing: Vec<String>) -> Finding {
    let target = &peer.upstream.config.target;
    let tried: Vec<_> = places
        .iter()
        .map(|place| format!("{target}{}", place.upstream))
        .collect();
    let message = format!("no MCP server answers at {}", tried.join(" or "));
    let is_missing = missing
        .iter()
        .any(|line| line.contains(": 404") || line.contains(": 405"));
    let code = if is_missing {
        Code::WrongPath
    } else {
        Code::NotMcp
    };
    Finding::new(code, message).details(missing).next(
        "compare the upstream's url with what its operator gave you, or name the path with --route",
    )
}
