//! Paths that are answered here, on every listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use slog::Logger;

use super::Call;
use super::answer;
use super::error::Error;
use super::reach;
use super::source::Source;
use crate::snapshot::{Site, Snapshot, Upstream};

const OAUTH_DISCOVERY: [&str; 2] = [
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource",
];

/// How long a refused credential makes an upstream unready; a request that succeeds ends it at once.
const REFUSAL_COUNTS: Duration = Duration::from_secs(60);

/// Whether the path is answered to whoever can connect: it tells nothing, and a probe and a
/// client that looks for a login must hear it.
pub fn is_for_everybody(path: &str) -> bool {
    path == "/healthz" || is_oauth_discovery(path)
}

/// The answer, if the path is one of ours.
pub async fn reply(call: &Call<'_>, log: &Logger) -> Option<Result<Response<Source>, Error>> {
    match call.head.uri.path() {
        "/healthz" => Some(Ok(healthz())),
        "/readyz" => {
            let (ready, report) = readiness(call.snapshot, log).await;
            Some(Ok(readyz(ready, &report)))
        }
        path if is_oauth_discovery(path) => Some(Err(answer::not_offered())),
        _ => None,
    }
}

/// With or without a suffix (RFC 8414, section 3.1; RFC 9728, section 3.1).
fn is_oauth_discovery(path: &str) -> bool {
    OAUTH_DISCOVERY.iter().any(|discovery| {
        path.strip_prefix(discovery)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn healthz() -> Response<Source> {
    answer::of_type(
        StatusCode::OK,
        "application/json",
        r#"{"status":"ok"}"#.to_owned(),
    )
}

fn readyz(ready: bool, report: &Value) -> Response<Source> {
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer::of_type(status, "application/json", report.to_string())
}

/// Whether all is well, and one entry for each thing that has to be.
pub async fn readiness(snapshot: &Snapshot, log: &Logger) -> (bool, Value) {
    let mut ready = true;
    let mut upstreams = Map::new();
    let looks = snapshot
        .upstreams
        .iter()
        .map(|upstream| upstream_entry(upstream, log));
    for (upstream, (ok, entry)) in snapshot.upstreams.iter().zip(join_all(looks).await) {
        ready &= ok;
        upstreams.insert(upstream.config.name.clone(), entry);
    }
    let age = snapshot.loaded_at.elapsed().unwrap_or_default().as_secs();
    let report = json!({
        "status": if ready { "ready" } else { "not_ready" },
        // There is no snapshot without a valid configuration and all its secrets.
        "configuration": { "ok": true, "age_seconds": age },
        "secrets": secrets_entry(snapshot, age),
        "upstreams": upstreams,
    });
    (ready, report)
}

/// A secret that could not be had anew still has its last good value: that makes nothing unready.
fn secrets_entry(snapshot: &Snapshot, age: u64) -> Value {
    let mut entry = json!({ "ok": true, "age_seconds": age });
    let troubles = snapshot.refreshes.troubles();
    if !troubles.is_empty() {
        entry["failing"] = troubles
            .into_iter()
            .map(|(place, trouble)| json!({ "secret": place, "error": trouble.reason }))
            .collect();
    }
    entry
}

/// One of several URLs is enough.
async fn upstream_entry(upstream: &Arc<Upstream>, log: &Logger) -> (bool, Value) {
    if upstream.site.is_none() {
        return site_entry(upstream, log).await;
    }
    let looks = upstream.sites().map(|site| site_entry(site, log));
    let mut urls = join_all(looks).await;
    for ((_, entry), site) in urls.iter_mut().zip(upstream.sites()) {
        if let Some(Site { label, .. }) = &site.site {
            entry["url"] = (**label).into();
        }
    }
    // What is said of the whole is what is said of the first that is ready.
    let best = urls.iter().position(|(ok, _)| *ok).unwrap_or(0);
    let (ok, mut entry) = urls[best].clone();
    entry["urls"] = urls.into_iter().map(|(_, entry)| entry).collect();
    (ok, entry)
}

async fn site_entry(upstream: &Upstream, log: &Logger) -> (bool, Value) {
    reach::probe(upstream, log).await;
    let now = Instant::now();
    let Some(verdict) = upstream.health.verdict() else {
        return (false, json!({ "ok": false }));
    };
    let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
    let mut entry = json!({ "ok": verdict.outcome.is_ok(), "age_seconds": seconds(verdict.at) });
    let mut ok = verdict.outcome.is_ok();
    if let Err(reason) = verdict.outcome {
        entry["error"] = reason.into();
    }
    if let Some((words, since)) = upstream.health.credential_refusal() {
        // Whoever sends no requests to what is not ready would never learn that it is mended.
        if now.saturating_duration_since(since) < REFUSAL_COUNTS {
            ok = false;
            entry["ok"] = false.into();
        }
        entry["credential"] = json!({ "ok": false, "error": words, "age_seconds": seconds(since) });
    }
    if let Some(auth) = &upstream.auth
        && let Some(error) = auth.standing(now).error
    {
        let is_usable = auth.standing(now).is_usable;
        ok &= is_usable;
        entry["ok"] = ok.into();
        entry["credential"] = json!({ "ok": is_usable, "error": error });
    }
    (ok, entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_is_recognised_with_and_without_suffix() {
        for path in [
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/mcp",
            "/.well-known/oauth-authorization-server/a/b",
        ] {
            assert!(is_oauth_discovery(path), "{path}");
        }
        for path in [
            "/.well-known/oauth-protected-resources",
            "/.well-known/openid-configuration",
            "/mcp",
        ] {
            assert!(!is_oauth_discovery(path), "{path}");
        }
    }
}
