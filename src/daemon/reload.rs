//! Reload: read everything again, open what is new, swap at once, or change nothing and say why.

use std::time::{Duration, SystemTime};

use slog::{Logger, error, info, warn};

use super::Daemon;
use crate::audit::Sink;
use crate::config::{Config, TargetPath};
use crate::memory;
use crate::sandbox;
use crate::snapshot::Snapshot;
use crate::state::Reloaded;

/// Files on a network file system may never come; the daemon goes on without them.
const PATIENCE: Duration = Duration::from_secs(30);

impl Daemon {
    /// Never fails the daemon: the outcome is reported everywhere it is looked for.
    pub(super) async fn reload(&mut self) -> Reloaded {
        self.lifecycle.reloading();
        self.lifecycle.extend(PATIENCE);
        let outcome = self.load_and_switch().await;
        self.state
            .proxy
            .metrics
            .reloaded(outcome.is_ok(), SystemTime::now());
        match &outcome {
            Ok(()) => info!(self.log, "configuration reloaded"),
            Err(reasons) => {
                for reason in reasons {
                    error!(self.log, "reload refused, the configuration before it goes on"; "reason" => reason);
                }
            }
        }
        let reloaded = Reloaded {
            at: SystemTime::now(),
            outcome,
        };
        self.state.set_last_reload(reloaded.clone());
        self.lifecycle.ready(&self.state.summary());
        // What the configuration before this one took, and the reading of this one.
        memory::trim();
        reloaded
    }

    async fn load_and_switch(&mut self) -> Result<(), Vec<String>> {
        let config = self.load().await?;
        let out_of_reach = sandbox::out_of_reach(&config);
        if !out_of_reach.is_empty() {
            return Err(out_of_reach);
        }
        let previous = self.state.proxy.snapshot();
        let snapshot = Snapshot::new(
            config,
            Some(&previous),
            &self.proxies,
            &self.state.proxy.metrics,
            &self.log,
        )
        .map_err(|reason| vec![reason])?;
        let config = &snapshot.config;
        let opened = self
            .listeners
            .open(config)
            .map_err(|error| vec![error.to_string()])?;
        // Opened anew each time, so that a file can be renamed before.
        let audit = config.audit.clone();
        let sink = audit.as_ref().map(|audit| Sink::open(&audit.target));
        let sink = sink.transpose().map_err(|message| vec![message])?;
        for warning in &config.warnings {
            warn!(self.log, "configuration"; "warning" => warning);
        }
        if config.server.workers != self.workers.count() {
            warn!(self.log, "a change of server.workers needs a restart");
        }
        if config.server.sandbox != self.state.proxy.snapshot().config.server.sandbox {
            warn!(self.log, "a change of server.sandbox needs a restart");
        }
        self.log_control.set_level(config.log.level);
        self.log_control.set_format(config.log.format);
        let switched = self.state.proxy.audit.switch(sink, audit.as_ref());
        if let Err(error) = switched {
            error!(self.log, "no audit: the system gives no thread for it"; "reason" => %error);
        }
        self.state.proxy.replace(snapshot);
        let snapshot = self.state.proxy.snapshot();
        self.listeners.switch(&snapshot.config, opened).await;
        self.state.set_listeners(self.listeners.describe());
        log_routes(&self.log, &snapshot);
        self.warm_up();
        Ok(())
    }

    /// Reads the sources on a thread where waiting for a disk holds nobody up.
    async fn load(&self) -> Result<Config, Vec<String>> {
        let sources = self.sources.clone();
        let loading = tokio::task::spawn_blocking(move || Config::load(&sources));
        match tokio::time::timeout(PATIENCE, loading).await {
            Ok(Ok(Ok(config))) => Ok(config),
            Ok(Ok(Err(problems))) => Err(problems.lines().collect()),
            Ok(Err(panic)) => Err(vec![format!("reading the configuration failed: {panic}")]),
            Err(_) => Err(vec![format!(
                "the configuration could not be read within {PATIENCE:?}; is its file system there?"
            )]),
        }
    }
}

/// Where each request goes.
pub fn log_routes(log: &Logger, snapshot: &Snapshot) {
    for (index, route) in snapshot.config.routes.iter().enumerate() {
        let listener = snapshot.config.listener_of(index);
        let upstream = &snapshot.config.upstreams[route.upstream];
        let target = &upstream.target;
        let (from, to) = match &target.path {
            TargetPath::Endpoint(endpoint) => (route.path.clone(), endpoint.to_string()),
            TargetPath::Base(base) if route.strip_prefix => {
                (format!("{}/*", route.path), format!("{base}/*"))
            }
            TargetPath::Base(base) => (
                format!("{}/*", route.path),
                format!("{base}{}/*", route.path),
            ),
        };
        let credential = upstream
            .credential
            .map_or("none", |index| &snapshot.config.credentials[index].name);
        info!(log, "route"; "from" => from, "to" => format!("{target}{to}"), "upstream" => &upstream.name,
            "credential" => credential, "listener" => listener.map(|listener| listener.address.to_string()));
    }
}
