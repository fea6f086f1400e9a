//! What an entry points at: this program, and the daemon's socket or port.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use http::uri::{Authority, PathAndQuery};

use crate::cli::{ClientConfigArgs, Transport};
use crate::config::{Config, ListenAddress, Outline, Sources};
use crate::env::Env;
use crate::{exit, paths};

use super::Failure;
use super::clients::Spec;
use super::entry::Entry;

/// The name of an entry whose route says nothing better.
const NAME: &str = env!("CARGO_PKG_NAME");

/// What the clients shall be told, from the command line and the daemon's configuration.
pub struct Server<'a> {
    args: &'a ClientConfigArgs,
    sources: &'a Sources,
    daemon: Outline,
}

impl<'a> Server<'a> {
    pub fn new(sources: &'a Sources, args: &'a ClientConfigArgs) -> Server<'a> {
        Server {
            args,
            sources,
            daemon: Config::outline(sources),
        }
    }

    /// Each entry's name, and the path it asks for; `None` with `--url`.
    ///
    /// # Errors
    /// One name for several entries.
    pub fn names(&self) -> Result<Vec<(String, Option<&'a PathAndQuery>)>, Failure> {
        if self.args.url.is_some() {
            let name = self.args.name.clone().unwrap_or_else(|| NAME.to_owned());
            return Ok(vec![(name, None)]);
        }
        let mut names: Vec<(String, Option<&PathAndQuery>)> = Vec::new();
        for route in &self.args.route {
            let name = self.args.name.clone().unwrap_or_else(|| name_of(route));
            if names.iter().any(|(other, _)| *other == name) {
                let message = format!(
                    "two entries would have the name {name}; name each in a command of its own with --name"
                );
                return Err(Failure::new(exit::USAGE, message));
            }
            names.push((name, Some(route)));
        }
        Ok(names)
    }

    pub fn entry(
        &self,
        spec: &Spec,
        name: &str,
        route: Option<&PathAndQuery>,
    ) -> Result<Entry, Failure> {
        match self.args.transport {
            Transport::Stdio => self.stdio(spec, name, route),
            Transport::Http => {
                // Said first: a client without URLs needs no port.
                let entry = spec.http(String::new());
                entry.map_err(|message| Failure::new(exit::USAGE, message))?;
                let entry = spec.http(self.url(route)?);
                entry.map_err(|message| Failure::new(exit::USAGE, message))
            }
        }
    }

    fn stdio(
        &self,
        spec: &Spec,
        name: &str,
        route: Option<&PathAndQuery>,
    ) -> Result<Entry, Failure> {
        let mut args = vec!["stdio".to_owned()];
        let mut option = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        match &self.args.url {
            Some(url) => option("--url", url.to_string()),
            None => option("--socket", utf8(self.socket()?)?),
        }
        if let Some(route) = route.filter(|route| *route != "/mcp") {
            option("--route", route.to_string());
        }
        if name != NAME {
            option("--name", name.to_owned());
        }
        let command =
            binary(&self.sources.env).map_err(|error| Failure::new(exit::UNAVAILABLE, error))?;
        Ok(spec.stdio(utf8(command)?, args))
    }

    /// The one asked for, the one configured, the one that is there, the one that would be.
    pub fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.args.socket {
            let absolute = std::path::absolute(socket);
            return absolute.map_err(|e| Failure::new(exit::USAGE, format!("--socket: {e}")));
        }
        let configured = self.daemon.listeners.iter().find_map(|listener| {
            let unix = match &listener.address {
                ListenAddress::Unix(unix) if listener.is_chosen => unix,
                _ => return None,
            };
            Some(unix.path.clone())
        });
        if let Some(path) = configured {
            return Ok(path);
        }
        let candidates = paths::proxy_socket_candidates(&self.sources.env);
        let there = candidates.iter().find(|path| is_socket(path)).cloned();
        let first = || candidates.into_iter().next();
        there.or_else(first).ok_or_else(|| {
            let message = "no place for a socket is known; name the daemon's with --socket";
            Failure::new(exit::USAGE, message)
        })
    }

    fn url(&self, route: Option<&PathAndQuery>) -> Result<String, Failure> {
        if let Some(url) = &self.args.url {
            return match url.scheme_str() {
                Some("http" | "https") => Ok(url.to_string()),
                _ => Err(Failure::new(
                    exit::USAGE,
                    "--url: with --transport http it begins with http:// or https://",
                )),
            };
        }
        let port = self.port().ok_or_else(|| {
            let message = "the daemon's configuration has no TCP listener; add one ([[listener]] with \
                           tcp = \"127.0.0.1:8080\"), name the URL with --url, or use --transport stdio";
            Failure::new(exit::CONFIG, message)
        })?;
        let route = route.map_or("/mcp", PathAndQuery::as_str);
        Ok(format!("http://{port}{route}"))
    }

    fn port(&self) -> Option<String> {
        self.daemon
            .listeners
            .iter()
            .find_map(|listener| match &listener.address {
                ListenAddress::Tcp(tcp) => Some(tcp.to_string()),
                ListenAddress::Unix(_) => None,
            })
    }

    /// Where an entry with a URL is taken for this program's.
    pub fn authorities(&self) -> Vec<Authority> {
        let url = self.args.url.as_ref().and_then(|url| url.authority());
        let port = self.port().and_then(|port| port.parse().ok());
        url.cloned().into_iter().chain(port).collect()
    }

    /// What will keep the new entries from working, as far as can be seen from here.
    pub fn warnings(&self) -> Vec<String> {
        if self.args.url.is_some() {
            return Vec::new();
        }
        let routes = &self.daemon.routes;
        let astray = self.args.route.iter().filter(|path| {
            !routes.is_empty() && !routes.iter().any(|route| leads(route, path.path()))
        });
        let mut warnings: Vec<String> = astray
            .map(|path| {
                let routes = routes.join(", ");
                format!("the daemon has no route for {path}, only {routes}; name one with --route")
            })
            .collect();
        let socket = match self.args.transport {
            Transport::Stdio => self.socket().ok(),
            Transport::Http => None,
        };
        if let Some(socket) = socket.filter(|socket| !is_socket(socket)) {
            let socket = socket.display();
            warnings.push(format!(
                "no daemon listens at {socket} yet; start one with \"mcp-auth-proxy serve\", \
                 or name its socket with --socket"
            ));
        }
        warnings
    }
}

/// Whether requests for `path` take this route: by whole segments.
fn leads(route: &str, path: &str) -> bool {
    let rest = path.strip_prefix(route.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `acme` for `/acme/mcp`.
fn name_of(route: &PathAndQuery) -> String {
    let first = route.path().split('/').find(|segment| !segment.is_empty());
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match first {
        Some(first) if first != "mcp" && first.len() <= 64 && first.chars().all(plain) => {
            first.to_owned()
        }
        _ => NAME.to_owned(),
    }
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// This program as it was called, if that is found to be this program: what `current_exe` says
/// has links followed, and a link such as Homebrew's outlives the version it leads to.
fn binary(env: &Env) -> Result<PathBuf, String> {
    let real = std::env::current_exe()
        .map_err(|error| format!("where this program is cannot be found out: {error}"))?;
    let called = std::env::args_os().next().unwrap_or_default();
    let candidates = called_as(&called, env.get("PATH").unwrap_or_default());
    let same = |path: &PathBuf| {
        let (Ok(a), Ok(b)) = (fs::metadata(path), fs::metadata(&real)) else {
            return false;
        };
        (a.dev(), a.ino()) == (b.dev(), b.ino())
    };
    Ok(candidates.into_iter().find(same).unwrap_or(real))
}

fn called_as(called: &OsStr, path: &str) -> Vec<PathBuf> {
    if called.as_encoded_bytes().contains(&b'/') {
        return std::path::absolute(called).into_iter().collect();
    }
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(called))
        .collect()
}

fn utf8(path: PathBuf) -> Result<String, Failure> {
    path.into_os_string().into_string().map_err(|path| {
        let message = format!(
            "{} is no UTF-8, which clients' files have to be",
            path.display()
        );
        Failure::new(exit::USAGE, message)
    })
}
