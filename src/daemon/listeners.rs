//! The sockets the daemon listens on, and how they change on reload: new ones open before old ones close.

use std::sync::Arc;

use slog::{Logger, debug, info, warn};
use tokio::task::JoinHandle;

use crate::admin::Admin;
use crate::config::{Config, Limits, ListenAddress};
use crate::harden;
use crate::listen::{Bound, Inherited, ListenError, Peer, Stream};
use crate::proxy::Proxy;
use crate::serve::{self, Arrival, Connection, Most, Timeouts, TooMany, Workers};
use crate::snapshot::listener_key;
use crate::state::Description;

/// Whom a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Clients,
    Admin,
}

pub struct Listeners {
    open: Vec<Open>,
    proxy: Arc<Proxy>,
    workers: Arc<Workers>,
    admin: Arc<Admin>,
    log: Logger,
}

struct Open {
    bound: Arc<Bound>,
    role: Role,
    accepting: JoinHandle<()>,
}

/// Listeners of a coming configuration that are bound but not yet served.
pub struct Opened(Vec<(Bound, Role)>);

impl Listeners {
    pub fn new(proxy: Arc<Proxy>, workers: Arc<Workers>, admin: Arc<Admin>, log: Logger) -> Self {
        Self {
            open: Vec::new(),
            proxy,
            workers,
            admin,
            log,
        }
    }

    /// Serves sockets that were handed over: those named `admin` as admin sockets, all others to clients.
    ///
    /// # Errors
    /// One cannot be served, or would let the network in unknown; see [`admit`].
    pub fn inherit(
        &mut self,
        inherited: Vec<Inherited>,
        config: &Config,
    ) -> Result<(), ListenError> {
        for handed in inherited {
            let role = if handed.name == "admin" {
                Role::Admin
            } else {
                Role::Clients
            };
            let bound = Bound::inherit(handed)?;
            admit(&bound, role, config)?;
            self.start(bound, role);
        }
        Ok(())
    }

    /// Binds what `config` wants and is not there yet. Changes nothing that is served.
    ///
    /// # Errors
    /// The first address that cannot be had, or a socket that was handed over and would lose its
    /// protection; nothing stays open then.
    pub fn open(&self, config: &Config) -> Result<Opened, ListenError> {
        for open in self.open.iter().filter(|open| open.bound.inherited()) {
            admit(&open.bound, open.role, config)?;
        }
        let mut opened = Vec::new();
        for (address, role) in self.wanted(config) {
            if !self
                .open
                .iter()
                .any(|open| open.role == role && open.bound.serves(&address))
            {
                opened.push((Bound::bind(&address)?, role));
            }
        }
        Ok(Opened(opened))
    }

    /// Serves `opened`, and closes what `config` no longer wants.
    pub async fn switch(&mut self, config: &Config, opened: Opened) {
        for (bound, role) in opened.0 {
            self.start(bound, role);
        }
        let wanted = self.wanted(config);
        let is_wanted = |open: &Open| {
            open.bound.inherited()
                || wanted
                    .iter()
                    .any(|(address, role)| open.role == *role && open.bound.serves(address))
        };
        let (keep, close) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(is_wanted);
        self.open = keep;
        self.apply_permissions(&wanted);
        for open in close {
            self.retire(open).await;
        }
    }

    /// Stops accepting everywhere; what the kernel accepted for us is still served.
    pub async fn close_all(&mut self) {
        for open in std::mem::take(&mut self.open) {
            let Open { bound, role, .. } = stopped(open).await;
            // A socket that was handed over keeps its queue for whoever comes after us.
            if !bound.inherited() {
                bound.withdraw();
                if role == Role::Clients {
                    self.take_pending(&bound);
                }
            }
        }
    }

    pub fn describe(&self) -> Vec<Description> {
        let snapshot = self.proxy.snapshot();
        let speaks_tls = |open: &Open| {
            let entrance = snapshot.entrance(listener_key(open.bound.address()));
            let listener = entrance.and_then(|entrance| entrance.listener);
            open.role == Role::Clients && listener.is_some_and(|listener| listener.tls.is_some())
        };
        self.open
            .iter()
            .map(|open| Description {
                tls: speaks_tls(open),
                address: open.bound.to_string(),
                role: match open.role {
                    Role::Clients => "clients",
                    Role::Admin => "admin",
                },
                inherited: open.bound.inherited(),
            })
            .collect()
    }

    /// Sockets that were handed over stand in for default listeners; chosen ones are all wanted.
    fn wanted(&self, config: &Config) -> Vec<(ListenAddress, Role)> {
        let inherits = |role| {
            self.open
                .iter()
                .any(|open| open.role == role && open.bound.inherited())
        };
        let mut wanted = Vec::new();
        if !(config.listeners_are_default && inherits(Role::Clients)) {
            wanted.extend(
                config
                    .listeners
                    .iter()
                    .map(|l| (l.address.clone(), Role::Clients)),
            );
        }
        if let Some(unix) = &config.admin.unix
            && !inherits(Role::Admin)
        {
            wanted.push((ListenAddress::Unix(unix.clone()), Role::Admin));
        }
        wanted.extend(
            config
                .admin
                .tcp
                .map(|address| (ListenAddress::Tcp(address), Role::Admin)),
        );
        wanted
    }

    fn apply_permissions(&self, wanted: &[(ListenAddress, Role)]) {
        for (address, _) in wanted {
            let ListenAddress::Unix(unix) = address else {
                continue;
            };
            for open in self.open.iter().filter(|open| open.bound.serves(address)) {
                if let Err(error) = open.bound.set_permissions(unix) {
                    warn!(self.log, "the socket keeps its permissions"; "reason" => %error);
                }
            }
        }
    }

    fn start(&mut self, bound: Bound, role: Role) {
        let bound = Arc::new(bound);
        let (listener, log) = (Arc::clone(&bound), self.log.clone());
        let accepting = match role {
            Role::Clients => {
                let intake = self.intake(&bound);
                tokio::spawn(async move {
                    serve::accept(&listener, &log, |stream| intake.take(stream)).await;
                })
            }
            Role::Admin => {
                let admin = Arc::clone(&self.admin);
                tokio::spawn(async move {
                    serve::accept(&listener, &log, |stream| admin.serve(stream, &log)).await;
                })
            }
        };
        self.open.push(Open {
            bound,
            role,
            accepting,
        });
    }

    async fn retire(&self, open: Open) {
        info!(self.log, "no longer listening"; "on" => %open.bound);
        let Open { bound, role, .. } = stopped(open).await;
        bound.withdraw();
        if role == Role::Clients {
            self.take_pending(&bound);
            let key = listener_key(bound.address());
            self.workers
                .registry()
                .close(|connection| connection.listener == key);
        }
    }

    fn take_pending(&self, bound: &Bound) {
        let intake = self.intake(bound);
        while let Ok(Some(stream)) = bound.try_accept() {
            intake.take(stream);
        }
    }

    fn intake(&self, bound: &Bound) -> Intake {
        Intake {
            listener: listener_key(bound.address()),
            proxy: Arc::clone(&self.proxy),
            workers: Arc::clone(&self.workers),
            log: self.log.clone(),
        }
    }
}

/// Whoever can connect to a socket that was handed over is signed for: the network may not come
/// in unknown there either, and never to the admin pages.
fn admit(bound: &Bound, role: Role, config: &Config) -> Result<(), ListenError> {
    let Some(address) = bound.local_addr() else {
        return Ok(());
    };
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let mut listeners = config.listeners.iter();
    let is_guarded = listeners.any(|listener| {
        bound.serves(&listener.address) && listener.tls.is_some() && listener.asks_who()
    });
    let problem = match role {
        Role::Clients if is_guarded => return Ok(()),
        Role::Clients => {
            "is open to the network, and whoever can connect is signed for; \
             add a [[listener]] for this address with tls and with tokens or tls.client_ca, \
             or write ListenStream=127.0.0.1:PORT"
        }
        Role::Admin => {
            "would put the admin pages on the network; write a path, or ListenStream=127.0.0.1:PORT"
        }
    };
    Err(ListenError::Inherited {
        what: format!("the socket at {address}"),
        problem: problem.to_owned(),
    })
}

/// A listener that accepts no more. Its task must be gone, or the socket would outlive the
/// emptying of its queue, and whoever connects in between would be reset.
async fn stopped(mut open: Open) -> Open {
    open.accepting.abort();
    let _ = (&mut open.accepting).await;
    open
}

/// Gives accepted connections to the workers.
struct Intake {
    listener: u64,
    proxy: Arc<Proxy>,
    workers: Arc<Workers>,
    log: Logger,
}

impl Intake {
    fn take(&self, stream: Stream) {
        let peer = match stream.peer() {
            Ok(peer) => peer,
            // Who cannot be identified is not served.
            Err(error) => {
                debug!(self.log, "connection closed: its peer is unknown"; "reason" => %error);
                return;
            }
        };
        let snapshot = self.proxy.snapshot();
        let most = most(&snapshot.config.limits);
        let counted = match self.workers.crowd().join(self.listener, &peer, most) {
            Ok(counted) => counted,
            Err(too_many) => return self.refuse(&stream, &peer, too_many),
        };
        let timeouts = Timeouts::of(&snapshot.config.server);
        let connection = Connection::new(peer, self.listener);
        let connection = Arc::new(connection.identify(&stream, snapshot.asks_for_programs));
        self.workers.dispatch(Arrival {
            stream,
            connection,
            timeouts,
            tls: snapshot
                .entrance(self.listener)
                .and_then(|entrance| entrance.listener?.tls.clone()),
            counted,
        });
    }

    /// Fast and without a task: whoever opens too many shall cost nothing.
    fn refuse(&self, stream: &Stream, peer: &Peer, too_many: TooMany) {
        stream.try_write(serve::TOO_MANY);
        self.proxy.metrics.connection_refused();
        let limit = match too_many {
            TooMany::AtListener => "max_connections",
            TooMany::OfPeer => "max_connections_per_peer",
        };
        debug!(self.log, "connection refused: there are too many"; "peer" => %peer, "limit" => limit);
    }
}

fn most(limits: &Limits) -> Most {
    let at_listener = limits
        .max_connections
        .unwrap_or_else(|| (harden::descriptors() / 2).max(1));
    Most {
        at_listener,
        of_peer: limits
            .max_connections_per_peer
            .unwrap_or_else(|| (at_listener / 2).max(1)),
    }
}
