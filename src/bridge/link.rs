//! The way to the MCP endpoint: the daemon's socket, a URL, or an upstream that the bridge signs for itself.

mod patience;
mod reason;
mod standalone;

pub use standalone::standalone;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use slog::{Logger, warn};

use super::problem::Problem;
use crate::auth::{Added, Ticket, Unavailable};
use crate::client::{Body, Client, Failure, Kind, ProxyVariables};
use crate::config::{Target, TargetPath, Upstream};
use crate::message::{RequestBody, is_media_type};
use crate::snapshot;

use self::patience::Patience;

/// A daemon knows its upstreams' own deadlines and keeps them; this one is for when nothing else does.
const HEAD_PATIENCE: Duration = Duration::from_secs(3600);

/// How long a token may take to come.
const TICKET_PATIENCE: Duration = Duration::from_secs(15);

/// The time between two looks for a daemon that starts: short at first, as most are almost there.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_millis(250);

pub struct Link {
    ways: Vec<Way>,
    /// The way that worked last.
    preferred: AtomicUsize,
    /// The MCP endpoint's path, as it goes out.
    pub endpoint: PathAndQuery,
    /// What it takes for the endpoint's own host and port.
    pub authority: String,
    signer: Option<Arc<snapshot::Upstream>>,
    /// How long an answer's head may take.
    head_patience: Duration,
    patience: Patience,
    log: Logger,
}

/// A response, and the credential that its request carried, if the bridge is the one that signs.
pub type Answered = (Response<Body>, Added);

struct Way {
    client: Arc<Client>,
    place: Place,
}

/// What is at the other end, for those who have to look after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Socket(PathBuf),
    Url(String),
}

impl Link {
    /// To a daemon at the first of these sockets where one answers.
    ///
    /// # Errors
    /// A sentence about a path that cannot be a socket's.
    pub fn to_daemon(
        sockets: Vec<PathBuf>,
        endpoint: PathAndQuery,
        log: Logger,
    ) -> Result<Self, String> {
        let no_proxy = ProxyVariables::new(|_| None);
        let ways = sockets.into_iter().map(|socket| {
            let upstream = Upstream::unsigned("daemon", Target::socket(&socket)?);
            Ok(Way {
                client: Arc::new(Client::new(&upstream, &no_proxy)),
                place: Place::Socket(socket),
            })
        });
        let ways = ways.collect::<Result<_, String>>()?;
        Ok(Self::new(ways, endpoint, "localhost".to_owned(), None, log))
    }

    /// To any URL.
    ///
    /// # Errors
    /// A sentence about what is wrong with the URL.
    pub fn to_url(url: &str, proxies: &ProxyVariables, log: Logger) -> Result<Self, String> {
        let target = Target::endpoint(url)?;
        let endpoint = match &target.path {
            TargetPath::Endpoint(path) => path.clone(),
            TargetPath::Base(_) => PathAndQuery::from_static("/"),
        };
        let place = Place::Url(format!("{}://{}", target.scheme, target.authority));
        let authority = target.authority.to_string();
        let upstream = Upstream::unsigned("url", target);
        let client = Arc::new(Client::new(&upstream, proxies));
        Ok(Self::new(
            vec![Way { client, place }],
            endpoint,
            authority,
            None,
            log,
        ))
    }

    fn new(
        ways: Vec<Way>,
        endpoint: PathAndQuery,
        authority: String,
        signer: Option<Arc<snapshot::Upstream>>,
        log: Logger,
    ) -> Self {
        Self {
            ways,
            preferred: AtomicUsize::new(0),
            endpoint,
            authority,
            signer,
            head_patience: HEAD_PATIENCE,
            patience: Patience::default(),
            log,
        }
    }

    /// Sends a request and waits for the response's head; waits, too, for a daemon that is starting.
    ///
    /// Returns the response, and what must be taken out of its words before anybody reads them.
    ///
    /// # Errors
    /// The sentence for whoever waits for the answer.
    pub async fn send(
        &self,
        method: Method,
        path: &PathAndQuery,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answered, Problem> {
        let ticket = self.ticket(&body).await?;
        let mut request = Request::new(RequestBody::full(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(path.clone());
        *request.headers_mut() = headers;
        let mut pause = SHORTEST_LOOK;
        loop {
            let (failure, way) = match self.try_ways(&mut request, ticket.as_ref()).await? {
                Ok(answered) => return Ok(answered),
                Err(failed) => failed,
            };
            let problem = self.problem(&failure, way);
            if !failure.unsent || !may_be_starting(failure.kind) {
                return Err(problem);
            }
            if !self.patience.lasts(Instant::now()) {
                if self.patience.tell() {
                    warn!(self.log, "{}", problem.message);
                }
                return Err(problem);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// One attempt on each way until one leads somewhere; the last failure otherwise.
    async fn try_ways(
        &self,
        request: &mut Request<RequestBody>,
        ticket: Option<&Ticket>,
    ) -> Result<Result<Answered, (Failure, usize)>, Problem> {
        let first = self.preferred.load(Ordering::Relaxed);
        for turn in 0.. {
            let index = (first + turn) % self.ways.len();
            let mut signed = Added::default();
            let sending = self.ways[index]
                .client
                .send(request, |request| signed = self.sign(request, ticket));
            let Ok(sent) = tokio::time::timeout(self.head_patience, sending).await else {
                return Err(self.too_late());
            };
            let failure = match sent {
                Ok(response) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    if self.patience.reached() {
                        warn!(self.log, "{} answers again", self.ways[index].place);
                    }
                    return Ok(Ok((self.watched(response), signed)));
                }
                Err(failure) => *failure,
            };
            let is_last = turn + 1 == self.ways.len();
            if !failure.unsent || failure.kind != Kind::Unreachable || is_last {
                return Ok(Err((failure, index)));
            }
        }
        unreachable!("the loop has no end")
    }

    /// Without a daemon nobody else sees to it that an answer goes on once it has begun. A stream
    /// of events may be silent for as long as there are none.
    fn watched(&self, response: Response<Body>) -> Response<Body> {
        let kind = response.headers().get(CONTENT_TYPE);
        match &self.signer {
            Some(upstream) if !is_media_type(kind, "text/event-stream") => {
                response.map(|body| body.within(upstream.config.response_idle_timeout))
            }
            _ => response,
        }
    }

    fn too_late(&self) -> Problem {
        let limit = humantime::format_duration(self.head_patience);
        Problem::new("timeout", format!("no answer began within {limit}"))
    }

    /// What a request is signed with, if the bridge is the one that signs.
    async fn ticket(&self, body: &Bytes) -> Result<Option<Ticket>, Problem> {
        let auth = self
            .signer
            .as_ref()
            .and_then(|upstream| upstream.auth.as_ref());
        let Some(auth) = auth else { return Ok(None) };
        let ticket = tokio::time::timeout(TICKET_PATIENCE, auth.ready(Some(body))).await;
        match ticket {
            Ok(Ok(ticket)) => Ok(Some(ticket)),
            Ok(Err(Unavailable(reason))) => Err(Problem::new("credential_unavailable", reason)),
            Err(_) => Err(Problem::new(
                "credential_unavailable",
                "no token came from the issuer in time",
            )),
        }
    }

    fn sign(&self, request: &mut Request<RequestBody>, ticket: Option<&Ticket>) -> Added {
        let Some(upstream) = &self.signer else {
            return Added::default();
        };
        if let (Some(config), Some(value)) = (&upstream.config.session, &upstream.session) {
            request
                .headers_mut()
                .insert(config.name.clone(), value.clone());
        }
        upstream.sign(ticket, request)
    }

    fn problem(&self, failure: &Failure, way: usize) -> Problem {
        let places: Vec<&Place> = match failure.kind {
            Kind::Unreachable => self.ways.iter().map(|way| &way.place).collect(),
            _ => vec![&self.ways[way].place],
        };
        reason::of_failure(failure, &places)
    }

    /// Whether the bridge is the one that signs.
    pub fn signs(&self) -> bool {
        self.signer.is_some()
    }
}

/// Nobody listens yet, or somebody who is about to go let the connection fall unused.
fn may_be_starting(kind: Kind) -> bool {
    matches!(kind, Kind::Unreachable | Kind::Reset)
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Url(url) => f.write_str(url),
        }
    }
}
