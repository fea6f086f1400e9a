//! What the daemon was told to do: validated, complete, immutable.
//!
//! A [`Config`] exists only if every part of it is usable: names are resolved
//! to indices, secrets are read, certificates are parsed, durations are in
//! range. Whoever holds one never has to ask "is this set?" again.
//!
//! Sources, lowest precedence first: defaults, the file, the fragments of
//! `conf.d/` beside it in name order, the `MCP_*` environment, the flags.

mod access;
mod admin;
mod audit;
mod browser;
mod cache;
mod commands;
mod credential;
mod decode;
pub mod env;
mod error;
mod excerpt;
mod field;
mod files;
mod ids;
mod limits;
mod listener;
mod load;
mod overlay;
pub(crate) mod parse;
mod peers;
mod policy;
mod report;
mod retry;
mod root;
mod route;
mod run_as;
mod scheme;
mod secret;
mod server;
mod server_tls;
mod suggest;
mod target;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
pub(crate) mod tree;
mod upstream;
mod url_path;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::uri::{Authority, PathAndQuery, Scheme};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::file::Print;
use crate::privilege::RunAs;
use crate::secret::{Command, Secret};

pub use access::Access;
pub use audit::{Audit, AuditTarget, OnFailure};
pub use env::Env;
pub use error::{Problem, Problems};
pub use peers::{Known, Peers, Who};
pub use policy::{Policy, Rules};
pub use scheme::{
    AuthGateway, AwsKeys, AwsProcess, AwsSigv4, ClientProof, Component, CredentialScheme,
    GatewayHeaders, GatewayKey, HttpSignature, Oauth, PreviousKey, Text, TokenIssuer, aws_process,
};
pub use server_tls::ServerTls;
pub use telemetry::{Otlp, OtlpProtocol, Telemetry};
pub use tokens::Tokens;

/// Everything one generation of the daemon works from.
#[derive(Debug, Clone)]
pub struct Config {
    pub upstreams: Vec<Upstream>,
    pub credentials: Vec<Credential>,
    /// The shared ones first, in the order written, then those of listeners. The longest
    /// matching path wins, not the first.
    pub routes: Vec<Route>,
    /// How many of [`Config::routes`] are for every listener that has none of its own.
    pub shared_routes: usize,
    pub listeners: Vec<Listener>,
    /// Whether nobody chose [`Config::listeners`]: sockets that are handed over replace them then.
    pub listeners_are_default: bool,
    pub admin: Admin,
    /// `None`: no records are kept.
    pub audit: Option<Audit>,
    /// `None`: nothing goes to a collector. A restart changes it.
    pub telemetry: Option<Telemetry>,
    pub log: Log,
    pub limits: Limits,
    pub server: Server,
    /// The files that were read, in the order they were merged.
    pub files: Vec<PathBuf>,
    /// What is accepted but should be changed; logged at start and by `check`.
    pub warnings: Vec<String>,
    /// The environment variables that hold secrets, for [`crate::env::scrub`].
    pub secret_variables: Vec<String>,
    /// The programs that printed secrets.
    pub commands: Vec<Command>,
    /// The secrets that programs printed and print anew from time to time.
    pub refreshed: Vec<Refreshed>,
    /// The files whose change is a reason to reload.
    pub watched: Vec<(PathBuf, Print)>,
}

/// A secret that a program printed.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// Where it stands, such as `credential.acme.auth-gateway.secret`; several places may share one.
    pub places: Vec<String>,
    pub command: Command,
    pub every: Duration,
    pub secret: Secret,
}

/// Where the configuration comes from; kept for reloads.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `--config`. Without it, `MCP_CONFIG` or the default places are looked at.
    pub file: Option<PathBuf>,
    pub env: Env,
    pub flags: Flags,
}

/// Flags that configure, as they were typed: the same words as in the environment.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub upstream_url: Option<String>,
    pub listen: Option<String>,
    pub socket: Option<String>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
}

impl Sources {
    /// Whether anybody configured anything: a file is named or found, or an upstream is given.
    pub fn is_configured(&self) -> bool {
        self.gives_upstream() || !matches!(self.main_file(), Ok(None))
    }
}

impl Config {
    /// Reads every source, and every secret and certificate they name.
    ///
    /// # Errors
    /// All problems found, in the order of the files. Blocks on file access, never on a
    /// file that is none.
    pub fn load(sources: &Sources) -> Result<Config, Problems> {
        load::load(sources, |_| ())
    }

    /// As [`Config::load`]; `begins` is told how long the programs that print secrets may take,
    /// before they are run, if there are any.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_telling(
        sources: &Sources,
        begins: impl FnOnce(Duration),
    ) -> Result<Config, Problems> {
        load::load(sources, begins)
    }

    /// How long the programs may take that print the secrets of these sources.
    pub fn command_time(sources: &Sources) -> Duration {
        load::command_time(sources)
    }

    /// What was refreshed between `before` and `now`, while this was being read, instead of what
    /// the same programs printed for this.
    #[must_use]
    pub fn carry_over(self, before: &Config, now: &Config) -> Config {
        let mut config = self;
        for fresh in &now.refreshed {
            let is_same = |it: &&Refreshed| it.command == fresh.command;
            let stale = before.refreshed.iter().find(is_same);
            let own = config.refreshed.iter().find(is_same);
            let (Some(stale), Some(own)) = (stale, own) else {
                continue;
            };
            if stale.secret.is(&fresh.secret) || own.secret == fresh.secret {
                continue;
            }
            // Where it is unfit, what the program printed for this goes on until its next turn.
            if let Ok(next) = config.with_secret(&own.secret, &fresh.secret) {
                config = next;
            }
        }
        config
    }

    /// Whether a rule asks which program a client is.
    pub fn asks_for_programs(&self) -> bool {
        let listeners = self.listeners.iter().map(|listener| &listener.access);
        let mut accesses = listeners.chain(self.routes.iter().map(|route| &route.access));
        let mut policies = self.routes.iter().flat_map(|route| &route.policies);
        accesses.any(Access::asks_for_program)
            || policies.any(|policy| policy.peers.ask_for_program())
    }

    /// Where Unix sockets are to be.
    pub fn sockets(&self) -> impl Iterator<Item = &Path> {
        let of_clients = self.listeners.iter().filter_map(|it| match &it.address {
            ListenAddress::Unix(unix) => Some(unix),
            ListenAddress::Tcp(_) => None,
        });
        let all = of_clients.chain(&self.admin.unix);
        all.map(|unix| unix.path.as_path())
    }

    /// The listener that a route belongs to alone.
    pub fn listener_of(&self, route: usize) -> Option<&Listener> {
        self.listeners.iter().find(|listener| {
            listener
                .routes
                .as_ref()
                .is_some_and(|own| own.contains(&route))
        })
    }

    /// The same configuration with another value wherever `old` itself stands.
    ///
    /// # Errors
    /// A sentence: the value is unfit, or `old` stands nowhere, so that it would be in force for ever.
    pub fn with_secret(&self, old: &Secret, new: &Secret) -> Result<Config, String> {
        let mut config = self.clone();
        let mut replaced = 0;
        for listener in &mut config.listeners {
            replaced += listener.tokens.replace(old, new)?;
        }
        let schemes = config.credentials.iter_mut();
        let in_schemes = schemes.flat_map(|credential| credential.scheme.secrets_mut());
        let sessions = config.upstreams.iter_mut().flat_map(|it| &mut it.session);
        for secret in in_schemes
            .chain(sessions.map(|session| &mut session.value))
            .filter(|secret| secret.is(old))
        {
            *secret = new.clone();
            replaced += 1;
        }
        if replaced == 0 {
            return Err("nothing takes the new value; reload".to_owned());
        }
        for refreshed in &mut config.refreshed {
            if refreshed.secret.is(old) {
                refreshed.secret = new.clone();
            }
        }
        Ok(config)
    }

    /// Where the daemon of these sources has its admin socket, as far as they can be read:
    /// secrets are not needed, and a file at fault counts as far as it goes.
    pub fn admin_socket(sources: &Sources) -> Option<PathBuf> {
        load::admin_socket(sources)
    }

    /// How clients reach the daemon of these sources, as far as they can be read. Like
    /// [`Config::admin_socket`] it needs no secrets.
    pub fn outline(sources: &Sources) -> Outline {
        load::outline(sources)
    }
}

/// What a client has to know of a daemon.
#[derive(Debug)]
pub struct Outline {
    pub listeners: Vec<Entry>,
    /// The paths of the routes as they are written; none if every path is taken.
    pub routes: Vec<String>,
}

/// Where clients come in.
#[derive(Debug)]
pub struct Entry {
    pub address: ListenAddress,
    /// Whether somebody chose this address.
    pub is_chosen: bool,
    pub tls: bool,
}

/// A place requests are sent to.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    pub name: String,
    pub target: Target,
    /// Where its requests go instead while `target` is down, in this order.
    pub others: Vec<Target>,
    /// Index into [`Config::credentials`]; `None` sends requests unsigned.
    pub credential: Option<usize>,
    /// A fixed header added to every request.
    pub session: Option<SessionHeader>,
    /// Until the response's head has arrived, retries included.
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    /// The longest silence in the middle of a response that is no event stream.
    pub response_idle_timeout: Duration,
    /// For how long a connection takes further requests.
    pub max_connection_age: Duration,
    pub clock: ClockSource,
    pub tls: Arc<Tls>,
    pub http_version: HttpVersion,
    /// Lets `%2F`, `%5C`, `%3F` and `%23` through; they are signed decoded.
    pub allow_encoded_slash: bool,
    pub upstream_401: Upstream401,
    pub sse_fallback: SseFallback,
    pub session_recovery: SessionRecovery,
    /// Opens a client's GET stream again when the upstream ends it.
    pub stream_recovery: bool,
    /// Passes the client's `Authorization` and `Cookie` on.
    pub forward_authorization: bool,
    /// Adds the mirrored headers of 2026-07-28 that a client left out.
    pub mirror_headers: bool,
    /// `None` where no attempt follows the first.
    pub retry: Option<Retry>,
    /// `None` where every request is sent, whatever became of those before it.
    pub breaker: Option<Breaker>,
    /// `None` where it takes any number at a time.
    pub concurrency: Option<Concurrency>,
    pub cache: Cache,
}

/// What an upstream takes at a time: requests whose answer has not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    pub requests: usize,
    /// How many more may wait for their turn, and for how long.
    pub queue: usize,
    pub wait: Duration,
}

/// How often, and how soon, a request is sent again where that is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts that may have reached the upstream, the first included; at least 1.
    pub attempts: u32,
    /// After this, one that only reads is given up for another; `None`: its time is the request's.
    pub attempt_timeout: Option<Duration>,
    pub tools_call: ToolsCall,
    /// Retries as a share of the recent requests.
    pub budget_percent: u32,
    /// How long it is tried to connect, if nothing else fails.
    pub connect_patience: Duration,
    pub min_backoff: Duration,
    pub max_backoff: Duration,
    /// A longer Retry-After is left to the client.
    pub max_retry_after: Duration,
}

/// Whether a call of a tool may be one that only reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolsCall {
    #[default]
    Never,
    /// Where the tool's own annotations say so.
    Annotated,
}

/// When an upstream counts as down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// That many failures in a row, or
    pub failures: u32,
    /// this share of failures, either for
    pub failure_percent: u32,
    /// this long.
    pub patience: Duration,
    /// How often one request is let through to see whether it is back.
    pub probe_interval: Duration,
}

/// What is kept of an upstream's cacheable results, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    pub enabled: bool,
    /// For results that say nothing about it themselves: those of revisions before
    /// 2026-07-28. `None` does not keep them.
    pub ttl: Option<Duration>,
    /// Gives results without a hint to every session, not only to the one that asked.
    pub across_sessions: bool,
    /// For how long beyond its time a result stands in for an upstream that fails.
    pub stale_if_error: Duration,
}

/// Where exactly an upstream's requests go.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub scheme: Scheme,
    /// Host and port as they appear in `Host` / `:authority`.
    pub authority: Authority,
    /// Set for `unix:` upstreams: the socket to connect to instead of `authority`.
    pub unix: Option<PathBuf>,
    pub path: TargetPath,
}

/// For people: the socket, or scheme and authority.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unix {
            Some(path) => write!(f, "unix:{}", path.display()),
            None => write!(f, "{}://{}", self.scheme, self.authority),
        }
    }
}

/// How a request's path becomes the upstream's.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetPath {
    /// `url`: the request's path is appended to this base ("" or "/base", no trailing slash).
    Base(String),
    /// `endpoint`: the route's own path maps to exactly this.
    Endpoint(PathAndQuery),
}

#[derive(Debug, Clone, PartialEq)]
pub struct SessionHeader {
    pub name: HeaderName,
    pub value: Secret,
}

/// Verification of the upstream and identification of ourselves.
#[derive(Debug, Default, PartialEq)]
pub struct Tls {
    /// Trusted beside the system's roots.
    pub extra_roots: Vec<CertificateDer<'static>>,
    pub client_identity: Option<ClientIdentity>,
    pub insecure_skip_verify: bool,
}

#[derive(Debug, PartialEq)]
pub struct ClientIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// Whatever ALPN negotiates; HTTP/1.1 in clear.
    #[default]
    Auto,
    Http1,
    Http2,
}

/// Whose time signatures are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockSource {
    /// This machine's.
    #[default]
    Local,
    /// The upstream's, as the `Date` of its answers tells.
    Upstream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Upstream401 {
    /// A 401 to our own credential becomes a 503 `upstream_rejected_credential`.
    #[default]
    Translate,
    Pass,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SseFallback {
    #[default]
    Auto,
    Always,
    Never,
}

/// What becomes of a session that the upstream has forgotten (a 404 to its id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionRecovery {
    /// The client learns of it. The default: what was set up in the session, a subscription
    /// or a log level, is lost with it, and only the client could set it up again.
    #[default]
    Off,
    /// The client's own `initialize` is sent again and its requests go on in the new session.
    Replay,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    pub name: String,
    pub scheme: CredentialScheme,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Percent-decoded prefix without its trailing slash: "" for `/`, "/acme" for `/acme/`.
    pub path: String,
    pub strip_prefix: bool,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    pub access: Access,
    /// Which a client may name instead of its upstream's: into [`Config::credentials`].
    pub credentials: Vec<usize>,
    /// In place of the upstream's own.
    pub request_timeout: Option<Duration>,
    /// The first that is for a peer applies to it. Empty: everybody may ask for everything.
    pub policies: Vec<Policy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub address: ListenAddress,
    /// `Host` names accepted beside the loopback ones; lower case, without port.
    pub allowed_hosts: Vec<String>,
    /// `Origin` values accepted; lower case, as browsers send them.
    pub allowed_origins: Vec<String>,
    /// Its own routes, which replace the shared ones: a range of [`Config::routes`].
    pub routes: Option<Range<usize>>,
    pub access: Access,
    /// By which clients prove who they are; none: they need not.
    pub tokens: Tokens,
    pub tls: Option<ServerTls>,
    /// Whether `tls` is there, be it unread; see [`Config::outline`].
    pub wants_tls: bool,
}

impl Listener {
    /// Whether it serves clients otherwise than one without a word about it would.
    pub fn has_rules(&self) -> bool {
        self.routes.is_some() || !self.access.is_open() || self.tls.is_some() || self.asks_who()
    }

    /// Whether a client has to prove who it is.
    pub fn asks_who(&self) -> bool {
        let certificates = self.tls.as_ref().map(|tls| &tls.client_roots);
        !self.tokens.is_empty() || certificates.is_some_and(|roots| !roots.is_empty())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Unix(UnixAddress),
    Tcp(SocketAddr),
}

impl ListenAddress {
    fn unix_mut(&mut self) -> Option<&mut UnixAddress> {
        match self {
            Self::Unix(unix) => Some(unix),
            Self::Tcp(_) => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(unix) => write!(f, "{}", unix.path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

impl Route {
    /// Whether it asks for users or groups of this host, or their programs.
    pub fn asks_for_owner(&self) -> bool {
        let mut policies = self.policies.iter();
        self.access.asks_for_owner() || policies.any(|policy| policy.peers.ask_for_owner())
    }
}

/// A Unix socket and who may connect to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixAddress {
    pub path: PathBuf,
    /// Permission bits, e.g. 0o660.
    pub mode: u32,
    /// Resolved at load.
    pub owner: Option<u32>,
    pub group: Option<u32>,
}

impl UnixAddress {
    /// As if that user had made it, where nobody says otherwise.
    fn belong_to(&mut self, run_as: &RunAs) {
        self.owner.get_or_insert(run_as.uid);
        self.group.get_or_insert(run_as.gid);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `None` when switched off.
    pub unix: Option<UnixAddress>,
    pub tcp: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    pub level: slog::Level,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body accepted, in bytes.
    pub max_body: u64,
    /// Largest request body kept for inspection and replay, in bytes.
    pub replay_buffer: usize,
    /// What all cached results together may take, in bytes. 0: none are kept.
    pub cache: usize,
    /// Of clients, at each listener; `None`: half of the descriptors.
    pub max_connections: Option<usize>,
    /// Of one user at the Unix sockets, of one address at the ports; `None`: half of all.
    pub max_connections_per_peer: Option<usize>,
    /// A request must be within each of them.
    pub rate: Vec<RateLimit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// At least 1.
    pub requests: u32,
    pub per: Duration,
    /// How many may come at once after a rest; at least 1.
    pub burst: u32,
    pub by: By,
}

/// Whose requests are counted together: those that are alike in all of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct By {
    pub route: bool,
    pub credential: bool,
    pub peer: bool,
    /// Only calls of tools are counted then.
    pub tool: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// A request's head must be complete, and its body must make progress, within this.
    pub read_timeout: Duration,
    /// A response that is not an event stream must make progress within this.
    pub write_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long requests in flight may go on after SIGTERM.
    pub graceful_shutdown: Duration,
    /// Event-loop threads; a restart changes it.
    pub workers: usize,
    /// Put up at start; a restart changes it.
    pub sandbox: SandboxMode,
    /// Whom a daemon becomes that root started, once its sockets are open; a restart changes it.
    pub run_as: Option<RunAs>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxMode {
    /// As much as the kernel can.
    Auto,
    /// All of it, or the daemon does not start.
    Require,
    Off,
}
