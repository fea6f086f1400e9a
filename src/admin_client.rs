//! One question to the running daemon, over its admin socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use hyperlocal::UnixConnector;

use crate::cli::AdminArgs;
use crate::config::{Config, Sources};
use crate::listen::connect_within;
use crate::paths;

const PATIENCE: Duration = Duration::from_secs(5);
/// A reload reads files for at most 30 s, and runs programs as long as they may take.
const RELOAD_PATIENCE: Duration = Duration::from_secs(65);
const MAX_PAGE: usize = 16 * 1024 * 1024;

/// Why there is no answer.
pub enum Unanswered {
    NoDaemon(Vec<PathBuf>),
    Forbidden(PathBuf),
    Failed(PathBuf, String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDaemon(looked) if looked.is_empty() => f.write_str(
                "the configuration has no admin socket; set admin.unix, or name the socket with --admin-socket",
            ),
            Self::NoDaemon(looked) => {
                let looked: Vec<_> = looked
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                write!(
                    f,
                    "no daemon answers at {}; start one with `mcp-auth-proxy serve`, or name its socket with --admin-socket",
                    looked.join(" or ")
                )
            }
            Self::Forbidden(path) => write!(
                f,
                "{} is not yours to use; run this as the daemon's user or as root",
                path.display()
            ),
            Self::Failed(path, reason) => write!(
                f,
                "the daemon at {} did not answer: {reason}",
                path.display()
            ),
        }
    }
}

/// What the daemon answers at the socket that is named, or at the first place where one listens.
///
/// # Errors
/// Nobody could be asked, or no answer came.
pub fn ask(
    sources: &Sources,
    args: AdminArgs,
    method: Method,
    page: &str,
) -> Result<(StatusCode, String), Unanswered> {
    let candidates = match args.admin_socket {
        Some(socket) => vec![socket],
        None => candidates(sources),
    };
    let patience = match method {
        Method::POST => RELOAD_PATIENCE + Config::command_time(sources),
        _ => PATIENCE,
    };
    for socket in &candidates {
        match connect_within(socket, PATIENCE).map(drop) {
            Ok(()) => return ask_at(socket, method, page, patience),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(Unanswered::Failed(socket.clone(), error.to_string()));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Unanswered::Forbidden(socket.clone()));
            }
            Err(_) => {}
        }
    }
    Err(Unanswered::NoDaemon(candidates))
}

/// The admin socket that somebody listens at, if there is one.
pub fn socket(sources: &Sources, args: &AdminArgs) -> Option<PathBuf> {
    let mut all = match &args.admin_socket {
        Some(socket) => vec![socket.clone()],
        None => candidates(sources),
    }
    .into_iter();
    all.find(|path| connect_within(path, PATIENCE).is_ok())
}

/// Where the configuration puts it. Where nobody named one, the default places count too:
/// a named one must not lead to another daemon.
fn candidates(sources: &Sources) -> Vec<PathBuf> {
    let is_named = sources.file.is_some()
        || ["MCP_CONFIG", "MCP_SOCKET"]
            .iter()
            .any(|name| sources.env.get(name).is_some());
    let mut found: Vec<_> = Config::admin_socket(sources).into_iter().collect();
    if !is_named {
        for path in paths::admin_socket_candidates(&sources.env) {
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}

fn ask_at(
    socket: &Path,
    method: Method,
    page: &str,
    patience: Duration,
) -> Result<(StatusCode, String), Unanswered> {
    let failed = |reason: String| Unanswered::Failed(socket.to_owned(), reason);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        match tokio::time::timeout(patience, exchange(socket, method, page)).await {
            Ok(answer) => answer.map_err(|error| failed(error.to_string())),
            Err(_) => Err(failed(format!("nothing came within {patience:?}"))),
        }
    })
}

async fn exchange(
    socket: &Path,
    method: Method,
    page: &str,
) -> Result<(StatusCode, String), Box<dyn std::error::Error + Send + Sync>> {
    let uri: http::Uri = hyperlocal::Uri::new(socket, page).into();
    let mut request = Request::new(Full::<Bytes>::default());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    // The URI's own authority is the socket's path in hex, which no guard lets in.
    request
        .headers_mut()
        .insert(header::HOST, HeaderValue::from_static("localhost"));
    let client = Client::builder(TokioExecutor::new()).build(UnixConnector);
    let response = client.request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_PAGE)
        .collect()
        .await?
        .to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
