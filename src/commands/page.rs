//! The daemon's JSON pages, for people.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use super::latency::Latencies;

/// Why a reload was refused, one reason a line.
pub fn reasons(page: &str) -> String {
    let page: Value = serde_json::from_str(page).unwrap_or_default();
    match page["reasons"].as_array() {
        Some(reasons) => reasons
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join("\n"),
        None => page["detail"]
            .as_str()
            .unwrap_or("the daemon did not say why")
            .to_owned(),
    }
}

/// `ready`, or what stands in the way, one upstream a line.
pub fn readiness(page: &str) -> String {
    let page: Value = serde_json::from_str(page).unwrap_or_default();
    if page["status"] == "ready" {
        return "ready\n".to_owned();
    }
    let mut out = "not ready\n".to_owned();
    for (name, upstream) in page["upstreams"].as_object().into_iter().flatten() {
        let reasons = [&upstream["error"], &upstream["credential"]["error"]];
        for reason in reasons.into_iter().filter_map(Value::as_str) {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {name}: {reason}");
        }
    }
    out
}

pub fn status(page: &str, latencies: &Latencies) -> String {
    let page: Value = serde_json::from_str(page).unwrap_or_default();
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_status(&mut out, &page, latencies);
    out
}

fn write_status(out: &mut String, page: &Value, latencies: &Latencies) -> std::fmt::Result {
    writeln!(
        out,
        "mcp-auth-proxy {} is {} (pid {}, up {})",
        text(&page["version"]),
        text(&page["state"]),
        page["pid"],
        ago(&page["uptime_seconds"])
    )?;
    writeln!(out, "\nListeners")?;
    for listener in list(&page["listeners"]) {
        let inherited = if listener["inherited"] == true {
            ", handed over"
        } else {
            ""
        };
        let tls = if listener["tls"] == true {
            ", by TLS"
        } else {
            ""
        };
        writeln!(
            out,
            "  {}  for {}{tls}{inherited}",
            text(&listener["address"]),
            text(&listener["for"])
        )?;
    }
    writeln!(out, "\nUpstreams")?;
    for upstream in list(&page["upstreams"]) {
        write_upstream(out, upstream)?;
        if let Some(said) = upstream["name"]
            .as_str()
            .and_then(|n| latencies.describe(n))
        {
            writeln!(out, "    {said}")?;
        }
    }
    for secret in list(&page["failing_secrets"]) {
        writeln!(
            out,
            "  {} has its last good value, {} after the first failure: {}",
            text(&secret["secret"]),
            ago(&secret["since_seconds"]),
            text(&secret["error"])
        )?;
    }
    writeln!(out, "\nRoutes")?;
    for route in list(&page["routes"]) {
        writeln!(
            out,
            "  {}  to {}{}",
            text(&route["path"]),
            text(&route["upstream"]),
            route["listener"]
                .as_str()
                .map_or_else(String::new, |listener| format!(", at {listener} alone"))
        )?;
    }
    writeln!(
        out,
        "\n{} connections, {} requests in flight, {} of them event streams",
        page["connections"], page["requests_in_flight"], page["event_streams"]
    )?;
    let cache = &page["cache"];
    writeln!(
        out,
        "{} sessions that could be opened again, {} cached results in {} of {} bytes",
        page["sessions"], cache["entries"], cache["bytes"], cache["limit"]
    )?;
    let sandbox = &page["sandbox"];
    let programs = match sandbox["secret_commands"].as_str() {
        Some("outside") => "; programs that print secrets run outside it",
        _ => "",
    };
    writeln!(
        out,
        "Sandbox: files {}, system calls {}, privileges {}{programs}; uid {}, gid {}",
        text(&sandbox["files"]),
        text(&sandbox["system_calls"]),
        text(&sandbox["privileges"]),
        page["uid"],
        page["gid"],
    )?;
    write_configuration(out, page)?;
    write_errors(out, page)
}

fn write_upstream(out: &mut String, upstream: &Value) -> std::fmt::Result {
    write!(
        out,
        "  {}  {}  {}",
        text(&upstream["name"]),
        text(&upstream["url"]),
        text(&upstream["health"])
    )?;
    if !upstream["seen_seconds_ago"].is_null() {
        write!(out, " (seen {} ago)", ago(&upstream["seen_seconds_ago"]))?;
    }
    writeln!(out)?;
    for url in list(&upstream["urls"]) {
        let state = if url["up"] == true { "up" } else { "down" };
        write!(out, "    {}  {state}", text(&url["url"]))?;
        match url["error"].as_str() {
            Some(error) => writeln!(out, ": {error}")?,
            None => writeln!(out)?,
        }
    }
    if let Some(requests @ ("refusing" | "probing")) = upstream["requests"].as_str() {
        writeln!(
            out,
            "    requests are refused until it answers ({requests})"
        )?;
    }
    if let Some(error) = upstream["error"].as_str() {
        writeln!(out, "    {error}")?;
    }
    match upstream["clock_skew_seconds"].as_i64() {
        Some(ahead @ 60..) => writeln!(out, "    its clock is {ahead} s ahead of ours")?,
        Some(behind @ ..=-60) => writeln!(out, "    its clock is {} s behind ours", -behind)?,
        _ => {}
    }
    let credential = &upstream["credential"];
    if !credential.is_null() {
        write!(
            out,
            "    credential {}, in use for {}",
            text(&credential["name"]),
            ago(&credential["age_seconds"])
        )?;
        if let Some(scheme) = credential["scheme"].as_str() {
            write!(out, " ({scheme})")?;
        }
        if !credential["token_expires_in_seconds"].is_null() {
            write!(
                out,
                ", token valid for {}, fetched anew in {}",
                ago(&credential["token_expires_in_seconds"]),
                ago(&credential["token_refresh_in_seconds"])
            )?;
        }
        if !credential["refresh_in_seconds"].is_null() {
            let left = ago(&credential["refresh_in_seconds"]);
            write!(out, ", its program runs again in {left}")?;
        }
        if let Some(until) = credential["previous_until"].as_str() {
            write!(out, ", its previous key is kept until {until}")?;
        }
        if credential["previous_in_use"] == true {
            write!(out, ", the upstream takes its previous key only")?;
        }
        if let Some(error) = credential["error"].as_str() {
            write!(out, ", no fresh token: {error}")?;
        }
        if let Some(words) = credential["refused"].as_str() {
            write!(
                out,
                ", refused {} ago: {words}",
                ago(&credential["refused_seconds_ago"])
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_configuration(out: &mut String, page: &Value) -> std::fmt::Result {
    let configuration = &page["configuration"];
    let files: Vec<_> = list(&configuration["files"])
        .filter_map(Value::as_str)
        .collect();
    let from = if files.is_empty() {
        "the environment".to_owned()
    } else {
        files.join(", ")
    };
    writeln!(
        out,
        "configuration from {from}, loaded {} ago",
        ago(&configuration["age_seconds"])
    )?;
    for warning in list(&configuration["warnings"]) {
        writeln!(out, "  warning: {}", text(warning))?;
    }
    let reload = &page["last_reload"];
    if !reload.is_null() {
        writeln!(
            out,
            "last reload at {}: {}",
            text(&reload["at"]),
            text(&reload["outcome"])
        )?;
        for reason in list(&reload["reasons"]) {
            writeln!(out, "  {}", text(reason))?;
        }
    }
    Ok(())
}

/// What clients were told of late; the sentences say what to do.
fn write_errors(out: &mut String, page: &Value) -> std::fmt::Result {
    let mut errors = list(&page["errors"]).peekable();
    if errors.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "\nLast errors")?;
    for error in errors {
        writeln!(
            out,
            "  {} ago, {} time(s), {}: {}",
            ago(&error["seconds_ago"]),
            error["count"],
            text(&error["code"]),
            text(&error["message"])
        )?;
    }
    writeln!(out, "  > mcp-auth-proxy doctor")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn ago(seconds: &Value) -> String {
    humantime::format_duration(Duration::from_secs(seconds.as_u64().unwrap_or(0))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_every_upstream_that_stands_in_the_way() {
        let page = r#"{"status":"not_ready","upstreams":{
            "a":{"ok":true},
            "b":{"ok":false,"error":"connection refused"},
            "c":{"ok":false,"credential":{"ok":false,"error":"Invalid Api Key"}}}}"#;
        assert_eq!(
            readiness(page),
            "not ready\n  b: connection refused\n  c: Invalid Api Key\n"
        );
        assert_eq!(readiness(r#"{"status":"ready"}"#), "ready\n");
    }
}
