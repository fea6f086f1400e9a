//! `allowed_hosts` and `allowed_origins`: the names a listener answers to.

use http::uri::Authority;

use super::decode::Field;

pub fn decode_hosts(field: &Field<'_>) -> Option<Vec<String>> {
    Some(
        field
            .items()?
            .iter()
            .filter_map(|item| item.parse(host))
            .collect(),
    )
}

pub fn decode_origins(field: &Field<'_>) -> Option<Vec<String>> {
    Some(
        field
            .items()?
            .iter()
            .filter_map(|item| item.parse(origin))
            .collect(),
    )
}

/// A host without its port, as `http::uri::Authority::host` gives it: IPv6 in brackets.
fn host(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "{text:?} is no host name; write it without scheme, port or path, such as \"mcp.internal\""
        )
    };
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(format!("[{}]", text.to_ascii_lowercase()));
    }
    let authority: Authority = text.parse().map_err(|_| wrong())?;
    if authority.host() != text || text.is_empty() || text.contains('*') {
        return Err(wrong());
    }
    Ok(text.to_ascii_lowercase())
}

/// An origin as browsers send it (RFC 6454): lower case, no path, no default port.
fn origin(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "{text:?} is no origin; write scheme://host or scheme://host:port, such as \"https://app.example.com\""
        )
    };
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").ok_or_else(wrong)?;
    let scheme_char = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(scheme_char) {
        return Err(wrong());
    }
    let authority: Authority = rest.parse().map_err(|_| wrong())?;
    let host = authority.host();
    let has_port = rest.len() > host.len();
    if host.is_empty() || rest.contains(['@', '*']) || has_port && authority.port_u16().is_none() {
        return Err(wrong());
    }
    let default_port = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    match authority.port_u16() {
        Some(port) if Some(port) != default_port => Ok(format!("{scheme}://{host}:{port}")),
        _ => Ok(format!("{scheme}://{host}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for (text, sent) in [
            ("https://App.Example.com", "https://app.example.com"),
            ("https://a:443", "https://a"),
            ("http://a:8080", "http://a:8080"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("vscode-webview://abc", "vscode-webview://abc"),
        ] {
            assert_eq!(origin(text).unwrap(), sent);
        }
        for text in [
            "*",
            "null",
            "a.b",
            "https://a/",
            "https://a/x",
            "https://",
            "https://*.a",
            "https://u@a",
            "https://a:x",
            "://a",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_are_lower_case_names_without_a_port() {
        for (text, host_name) in [
            ("MCP.internal", "mcp.internal"),
            ("10.0.0.1", "10.0.0.1"),
            ("::2", "[::2]"),
            ("[::2]", "[::2]"),
        ] {
            assert_eq!(host(text).unwrap(), host_name);
        }
        for text in ["", "a:80", "http://a", "a/b", "*.a", "a b", "u@a"] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
