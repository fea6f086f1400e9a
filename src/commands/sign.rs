//! `sign`: the headers of one request.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::configuration_error;
use crate::auth::{Added, Auth, Surroundings, Unavailable, Unsigned};
use crate::cli::SignArgs;
use crate::client::ProxyVariables;
use crate::config::{Config, Credential, Sources, Target};
use crate::metrics::Metrics;
use crate::{exit, file, path};

/// How long a token may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there are no headers to print.
enum Refused {
    Usage(String),
    Unavailable(String),
}

/// Prints one `name: value` a line: what `curl -H @-` reads.
pub fn sign(sources: &Sources, args: &SignArgs) -> ExitCode {
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(problems) => return configuration_error(&problems),
    };
    let (message, exit) = match signed(&config, sources, args) {
        Ok(headers) => {
            for (name, value) in headers.iter() {
                println!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
            }
            return exit::OK.into();
        }
        Err(Refused::Usage(message)) => (message, exit::USAGE),
        Err(Refused::Unavailable(message)) => (message, exit::UNAVAILABLE),
    };
    eprintln!("mcp-auth-proxy: {message}");
    exit.into()
}

fn signed(config: &Config, sources: &Sources, args: &SignArgs) -> Result<Added, Refused> {
    let usage = |message: String| Refused::Usage(message);
    path::check(args.url.path(), true).map_err(|refused| usage(refused.reason().to_owned()))?;
    let credential = chosen(config, args.credential.as_deref()).map_err(usage)?;
    let body = body(args, config.limits.max_body).map_err(usage)?;
    let headers = headers(&args.headers).map_err(usage)?;
    let env = |name: &str| sources.env.get(name).map(str::to_owned);
    let around = Surroundings {
        proxies: &ProxyVariables::new(env),
        metrics: Metrics::default().credential(&credential.name),
        log: &slog::Logger::root(slog::Discard, slog::o!()),
    };
    let auth = Auth::new(credential, &around).map_err(usage)?;
    let target = target(args).map_err(usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Refused::Unavailable(error.to_string()))?;
    let ticket =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, auth.ready(body.as_ref())).await });
    let ticket = match ticket {
        Ok(ticket) => ticket.map_err(|Unavailable(reason)| Refused::Unavailable(reason))?,
        Err(_) => {
            let message = "no token came from the issuer in time";
            return Err(Refused::Unavailable(message.to_owned()));
        }
    };
    let request = Unsigned {
        method: &args.method,
        uri: &args.url,
        headers: &headers,
        target: &target,
    };
    Ok(auth.sign(&ticket, &request, SystemTime::now()))
}

fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Credential, String> {
    let named = |name: &str| config.credentials.iter().find(|it| it.name == name);
    match (name, &config.credentials[..]) {
        (Some(name), _) => {
            named(name).ok_or_else(|| format!("there is no credential {name}; see [credential.*]"))
        }
        (None, [only]) => Ok(only),
        (None, []) => Err("no credential is configured; see [credential.*]".to_owned()),
        (None, _) => {
            Err("there are several credentials; say which with --credential NAME".to_owned())
        }
    }
}

/// Where the request goes. A path alone will do for schemes that do not sign the host.
fn target(args: &SignArgs) -> Result<Target, String> {
    match (args.url.scheme_str(), args.url.authority()) {
        (Some(scheme @ ("http" | "https")), Some(authority)) => {
            Target::endpoint(&format!("{scheme}://{authority}/"))
        }
        _ => Target::endpoint("https://localhost/"),
    }
}

fn body(args: &SignArgs, limit: u64) -> Result<Option<Bytes>, String> {
    let read = |path: &Path| {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX - 1);
        match file::read(path, limit) {
            Ok(contents) => Ok(Bytes::copy_from_slice(&contents.bytes)),
            Err(error) => Err(format!("{} {error}", path.display())),
        }
    };
    match (&args.data, &args.data_file) {
        (Some(text), _) => Ok(Some(Bytes::from(text.clone()))),
        (None, Some(path)) => read(path).map(Some),
        (None, None) => Ok(None),
    }
}

fn headers(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parts = line.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let (name, value) =
            parts.ok_or_else(|| format!("{line:?} is no header; write \"Name: value\""))?;
        headers.append(name, value);
    }
    Ok(headers)
}
