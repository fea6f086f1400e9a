//! Reload: read everything again, open what is new, swap at once, or change nothing and say why.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use slog::{Logger, error, info, warn};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Daemon;
use crate::audit::Sink;
use crate::config::{Audit, Config, Sources, TargetPath};
use crate::lifecycle::Lifecycle;
use crate::snapshot::Snapshot;
use crate::state::Reloaded;
use crate::{harden, memory, sandbox};

/// Files on a network file system may never come; the daemon goes on without them.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was in force when a reload began, and what it read.
pub(super) struct Loaded {
    before: Arc<Snapshot>,
    config: Result<Config, Vec<String>>,
}

impl Daemon {
    /// Reads the sources on a thread where waiting for a disk holds nobody up.
    pub(super) fn begin_reload(&self) -> impl Future<Output = Loaded> + use<> {
        let (sources, lifecycle) = (self.sources.clone(), Arc::clone(&self.lifecycle));
        let before = self.state.proxy.snapshot();
        async move {
            lifecycle.reloading();
            lifecycle.extend(PATIENCE);
            let config = load(sources, &lifecycle).await;
            Loaded { before, config }
        }
    }

    /// Never fails the daemon: the outcome is reported everywhere it is looked for.
    pub(super) async fn finish_reload(&mut self, loaded: Loaded) -> Reloaded {
        let outcome = self.switch(loaded).await;
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

    async fn switch(&mut self, loaded: Loaded) -> Result<(), Vec<String>> {
        let Loaded { before, config } = loaded;
        let config = config?.carry_over(&before.config, &self.state.proxy.snapshot().config);
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
        // Opened anew each time, so that a file can be renamed before; and before the listeners,
        // whose clients must not meet a daemon that changes its mind.
        let audit = config.audit.clone();
        let sink = match audit.clone() {
            Some(audit) => Some(open_sink(audit).await.map_err(|message| vec![message])?),
            None => None,
        };
        let opened = self
            .listeners
            .open(config)
            .map_err(|error| vec![error.to_string()])?;
        for warning in &config.warnings {
            warn!(self.log, "configuration"; "warning" => warning);
        }
        warn_of_descriptors(&self.log, config);
        if config.server.workers != self.workers.count() {
            warn!(self.log, "a change of server.workers needs a restart");
        }
        let sandbox = &self.state.sandbox;
        let is_walled = sandbox.walls().iter().any(|(_, outcome)| outcome.is_ok());
        if is_walled && !sandbox.commands_outside && !config.commands.is_empty() {
            warn!(
                self.log,
                "programs that print secrets run inside the daemon's sandbox until a restart, \
                 because there were none when it started"
            );
        }
        if config.server.sandbox != self.state.proxy.snapshot().config.server.sandbox {
            warn!(self.log, "a change of server.sandbox needs a restart");
        }
        if config.server.run_as != self.state.proxy.snapshot().config.server.run_as {
            warn!(
                self.log,
                "a change of server.user, its group or its groups needs a restart"
            );
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
}

async fn load(sources: Sources, lifecycle: &Lifecycle) -> Result<Config, Vec<String>> {
    let (tell, told) = oneshot::channel();
    let begins = |programs| {
        let _ = tell.send(programs);
    };
    let loading = tokio::task::spawn_blocking(move || Config::load_telling(&sources, begins));
    let too_long = |patience: Duration| {
        vec![format!(
            "the configuration could not be read within {patience:?}; is its file system there?"
        )]
    };
    let programs = match timeout(PATIENCE, told).await {
        Ok(programs) => programs.unwrap_or_default(),
        Err(_) => return Err(too_long(PATIENCE)),
    };
    let patience = PATIENCE + programs;
    lifecycle.extend(patience);
    match timeout(patience, loading).await {
        Ok(Ok(Ok(config))) => Ok(config),
        Ok(Ok(Err(problems))) => Err(problems.lines().collect()),
        Ok(Err(panic)) => Err(vec![format!("reading the configuration failed: {panic}")]),
        Err(_) => Err(too_long(patience)),
    }
}

async fn open_sink(audit: Audit) -> Result<Sink, String> {
    let opening = tokio::task::spawn_blocking(move || Sink::open(&audit.target));
    match timeout(PATIENCE, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(panic)) => Err(format!("opening the audit failed: {panic}")),
        Err(_) => Err(format!(
            "the audit could not be opened within {PATIENCE:?}; is its file system there?"
        )),
    }
}

pub fn warn_of_descriptors(log: &Logger, config: &Config) {
    if let Some(reason) = harden::too_few_descriptors(config) {
        warn!(log, "too few descriptors"; "reason" => reason);
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
