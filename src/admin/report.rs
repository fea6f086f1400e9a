//! `/status`: what the daemon serves and how it fares, without a secret in it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use crate::snapshot::{Snapshot, Upstream};
use crate::state::{Reloaded, State};

pub fn status(state: &State) -> String {
    let snapshot = state.proxy.snapshot();
    let registry = state.workers.registry();
    let (requests, streams) = registry.requests();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": format!("{:?}", state.lifecycle.state()).to_lowercase(),
        "pid": std::process::id(),
        "uid": geteuid().as_raw(),
        "gid": getegid().as_raw(),
        "uptime_seconds": since(state.started_at),
        "workers": state.workers.count(),
        "log_level": state.log_control.level().as_str().to_lowercase(),
        "configuration": {
            "files": snapshot.config.files,
            "age_seconds": age(snapshot.loaded_at),
            "warnings": snapshot.config.warnings,
        },
        "listeners": state.listeners().into_iter().map(|listener| json!({
            "address": listener.address,
            "for": listener.role,
            "inherited": listener.inherited,
            "tls": listener.tls,
        })).collect::<Vec<_>>(),
        "upstreams": snapshot.upstreams.iter().map(|upstream| upstream_entry(&snapshot, upstream)).collect::<Vec<_>>(),
        "routes": snapshot.config.routes.iter().enumerate().map(|(index, route)| json!({
            "path": if route.path.is_empty() { "/" } else { &route.path },
            "upstream": snapshot.config.upstreams[route.upstream].name,
            "listener": snapshot.config.listener_of(index).map(|listener| listener.address.to_string()),
        })).collect::<Vec<_>>(),
        "sandbox": {
            "files": wall(&state.sandbox.files),
            "system_calls": wall(&state.sandbox.system_calls),
            "privileges": wall(&state.sandbox.privileges),
            "secret_commands": if state.sandbox.commands_outside { "outside" } else { "as the daemon" },
        },
        "failing_secrets": refresh_entries(&snapshot),
        "connections": registry.len(),
        "requests_in_flight": requests,
        "event_streams": streams,
        "sessions": state.proxy.sessions.count(Instant::now()),
        "errors": state.proxy.recent.all().into_iter().map(|trouble| json!({
            "code": trouble.code.as_str(),
            "message": trouble.message,
            "count": trouble.count,
            "seconds_ago": age(trouble.at),
        })).collect::<Vec<_>>(),
        "cache": {
            "entries": state.proxy.cache.entries(),
            "bytes": state.proxy.cache.bytes(),
            "limit": snapshot.config.limits.cache,
        },
        "last_reload": state.last_reload().map(|reloaded| reload_entry(&reloaded)),
    })
    .to_string()
}

/// Of several URLs, what is said of the whole is what is said of the one that requests go to.
fn upstream_entry(snapshot: &Snapshot, upstream: &Arc<Upstream>) -> Value {
    let in_use = upstream.sites().find(|site| site.is_up());
    let mut entry = site_entry(in_use.unwrap_or(upstream));
    entry["name"] = upstream.config.name.as_str().into();
    if upstream.site.is_some() {
        entry["urls"] = upstream.sites().map(|site| site_entry(site)).collect();
    }
    if let Some(index) = upstream.config.credential {
        entry["credential"] = credential_entry(snapshot, index);
        if let Some((words, at)) = upstream.health.credential_refusal() {
            entry["credential"]["refused"] = words.into();
            entry["credential"]["refused_seconds_ago"] = since(at).into();
        }
    }
    entry
}

fn site_entry(upstream: &Upstream) -> Value {
    let url = upstream.site.as_ref().map(|site| site.label.to_string());
    let mut entry = json!({
        "url": url.unwrap_or_else(|| upstream.config.target.to_string()),
        "health": "unknown",
    });
    if upstream.site.is_some() {
        entry["up"] = upstream.is_up().into();
    }
    if let Some(verdict) = upstream.health.verdict() {
        entry["health"] = if verdict.outcome.is_ok() {
            "reachable".into()
        } else {
            "unreachable".into()
        };
        entry["seen_seconds_ago"] = since(verdict.at).into();
        if let Err(reason) = verdict.outcome {
            entry["error"] = reason.into();
        }
    }
    if let Some(skew) = upstream.clock.skew() {
        entry["clock_skew_seconds"] = skew.into();
    }
    if let Some(breaker) = &upstream.breaker {
        entry["requests"] = breaker.access().as_str().into();
    }
    entry
}

fn credential_entry(snapshot: &Snapshot, index: usize) -> Value {
    let name = &snapshot.config.credentials[index].name;
    let credential = &snapshot.credentials[index];
    let standing = credential.auth.standing(Instant::now());
    let mut entry = json!({
        "name": name,
        "scheme": credential.auth.scheme(),
        "age_seconds": age(credential.since),
    });
    let numbers = [
        ("token_expires_in_seconds", standing.token_expires_in),
        ("token_refresh_in_seconds", standing.token_refresh_in),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            entry[key] = number.into();
        }
    }
    if let Some(due) = snapshot.refreshes.due(name) {
        let left = due.saturating_duration_since(Instant::now());
        entry["refresh_in_seconds"] = left.as_secs().into();
    }
    if let Some(error) = standing.error {
        entry["error"] = error.into();
    }
    if standing.previous_in_use {
        entry["previous_in_use"] = true.into();
    }
    if let Some(until) = standing.previous_until {
        entry["previous_until"] = until
            .map_or_else(
                || "removed".to_owned(),
                |until| humantime::format_rfc3339_seconds(until).to_string(),
            )
            .into();
    }
    entry
}

/// Secrets that could not be had anew, by their places in the configuration.
fn refresh_entries(snapshot: &Snapshot) -> Vec<Value> {
    let troubles = snapshot.refreshes.troubles().into_iter();
    troubles
        .map(|(place, trouble)| {
            json!({
                "secret": place,
                "error": trouble.reason,
                "failures": trouble.in_a_row,
                "since_seconds": since(trouble.since),
            })
        })
        .collect()
}

fn reload_entry(reloaded: &Reloaded) -> Value {
    let mut entry = json!({
        "at": humantime::format_rfc3339_seconds(reloaded.at).to_string(),
        "outcome": if reloaded.outcome.is_ok() { "reloaded" } else { "refused" },
    });
    if let Err(reasons) = &reloaded.outcome {
        entry["reasons"] = reasons.as_slice().into();
    }
    entry
}

fn age(since: SystemTime) -> u64 {
    since.elapsed().unwrap_or_default().as_secs()
}

fn since(at: Instant) -> u64 {
    at.elapsed().as_secs()
}

/// `in force`, or why it is not.
fn wall(outcome: &Result<(), String>) -> &str {
    outcome
        .as_ref()
        .map_or_else(String::as_str, |()| "in force")
}
