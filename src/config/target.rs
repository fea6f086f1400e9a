//! From the text of `url` and `endpoint` to where requests go.

use std::path::{Path, PathBuf};

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::url_path;
use super::{Target, TargetPath};

/// The longest path a Unix socket's address can hold, in bytes (`sun_path` less its NUL).
pub const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An origin with a base path that requests' paths are appended to.
    Url,
    /// The whole URL of one endpoint.
    Endpoint,
}

/// Parses `http://`, `https://` and `unix:/path.sock[:/base]`.
///
/// # Errors
/// A sentence for the operator. It never repeats the URL, which may hold a password.
pub fn parse(text: &str, kind: Kind) -> Result<Target, String> {
    if text.contains('#') {
        return Err("a fragment (\"#…\") is never sent; leave it out".into());
    }
    match text.strip_prefix("unix:") {
        Some(rest) => over_unix(rest, kind),
        None => over_tcp(text, kind),
    }
}

fn over_unix(rest: &str, kind: Kind) -> Result<Target, String> {
    let rest = rest
        .strip_prefix("//")
        .filter(|path| path.starts_with('/'))
        .unwrap_or(rest);
    let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
    let socket = socket_path(Path::new(socket))?;
    let path: PathAndQuery = path
        .parse()
        .map_err(|_| "the path after the socket is malformed; write unix:/path/to.sock:/base")?;
    Ok(Target {
        scheme: Scheme::HTTP,
        authority: Authority::from_static("localhost"),
        unix: Some(socket),
        path: target_path(&path, kind)?,
    })
}

/// Checks that a path can be a Unix socket's address.
/// Bytes of `/.xxxx/s`, where a socket is made ready before it gets its name.
const STAGING_NAME: usize = 8;

pub fn socket_path(path: &Path) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err("a socket's path must begin with \"/\"; write the whole path".into());
    }
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(format!(
            "the socket's path has {length} bytes, and the kernel allows {MAX_SOCKET_PATH}; choose a shorter one"
        ));
    }
    Ok(path.to_path_buf())
}

/// As [`socket_path`], for a socket that is to be opened: it is made in a directory beside
/// its place first, which must have a path too.
pub fn listening_path(path: &Path) -> Result<PathBuf, String> {
    let directory = path.parent().map_or(0, |parent| parent.as_os_str().len());
    let length = directory + STAGING_NAME;
    if length > MAX_SOCKET_PATH {
        return Err(format!(
            "the socket's directory leaves no room for its name: the kernel allows paths of {MAX_SOCKET_PATH} bytes; choose a shorter one"
        ));
    }
    socket_path(path)
}

fn over_tcp(text: &str, kind: Kind) -> Result<Target, String> {
    let example = "write it as in https://mcp.example.com/";
    if !text.is_ascii() {
        return Err(
            "a URL is ASCII; write the host's name in its xn-- form and escape the path".into(),
        );
    }
    let uri: Uri = text
        .parse()
        .map_err(|error| format!("not a URL ({error}); {example}"))?;
    let parts = uri.into_parts();
    let scheme = match parts.scheme {
        Some(scheme) if scheme == Scheme::HTTP || scheme == Scheme::HTTPS => scheme,
        Some(other) => {
            return Err(format!(
                "{:?} is no scheme for an upstream; write https://, http:// or unix:/",
                other.as_str()
            ));
        }
        None => return Err(format!("not an absolute URL; {example}")),
    };
    let authority = parts
        .authority
        .ok_or_else(|| format!("the URL has no host; {example}"))?;
    let path = parts
        .path_and_query
        .unwrap_or(PathAndQuery::from_static("/"));
    Ok(Target {
        authority: normal_authority(&authority, &scheme)?,
        scheme,
        unix: None,
        path: target_path(&path, kind)?,
    })
}

/// Lower case and without the scheme's own port, as every HTTP client sends it.
fn normal_authority(authority: &Authority, scheme: &Scheme) -> Result<Authority, String> {
    if authority.as_str().contains('@') {
        return Err(
            "a user name or password in the URL is never sent; leave it out and use a credential"
                .into(),
        );
    }
    let host = authority.host();
    if host.is_empty() {
        return Err("the URL has no host; write it as in https://mcp.example.com/".into());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if *scheme == Scheme::HTTPS && rustls::pki_types::ServerName::try_from(bare).is_err() {
        return Err(format!("{host:?} can be no host's name; correct it"));
    }
    let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let has_port = authority.as_str().len() > host.len();
    let port = authority.port_u16().filter(|port| *port != 0);
    if has_port && port.is_none() {
        return Err("the port is no number from 1 to 65535; correct it or leave it out".into());
    }
    let text = match port {
        Some(port) if port != default_port => format!("{host}:{port}"),
        _ => host.to_owned(),
    };
    text.to_ascii_lowercase()
        .parse()
        .map_err(|_| "the host is malformed; correct it".into())
}

fn target_path(path: &PathAndQuery, kind: Kind) -> Result<TargetPath, String> {
    url_path::decode(path.path())?;
    match kind {
        Kind::Endpoint => Ok(TargetPath::Endpoint(path.clone())),
        Kind::Url if path.query().is_some() => Err(
            "a base URL has no query; leave it out, or write the whole URL as \"endpoint\"".into(),
        ),
        Kind::Url => Ok(TargetPath::Base(
            path.path().trim_end_matches('/').to_owned(),
        )),
    }
}

impl Target {
    /// The whole URL of one endpoint.
    ///
    /// # Errors
    /// A sentence for whoever wrote it.
    pub fn endpoint(url: &str) -> Result<Self, String> {
        parse(url, Kind::Endpoint)
    }

    /// A Unix socket of this host.
    ///
    /// # Errors
    /// A sentence about a path that cannot be a socket's.
    pub fn socket(path: &Path) -> Result<Self, String> {
        Ok(Self {
            scheme: Scheme::HTTP,
            authority: Authority::from_static("localhost"),
            unix: Some(socket_path(path)?),
            path: TargetPath::Base(String::new()),
        })
    }

    /// What tells it from an upstream's other targets: all of it but a query, which may hold what
    /// is nobody's business.
    pub fn label(&self) -> String {
        let path = match &self.path {
            TargetPath::Base(base) => base.as_str(),
            TargetPath::Endpoint(endpoint) => endpoint.path(),
        };
        match path {
            "" | "/" => self.to_string(),
            path if self.unix.is_some() => format!("{self}:{path}"),
            path => format!("{self}{path}"),
        }
    }

    /// Whether what is sent stays on this host.
    pub fn is_local(&self) -> bool {
        let host = self.authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        self.unix.is_some()
            || host == "localhost"
            || host.ends_with(".localhost")
            || bare
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }
}
