//! Wiring: listeners, workers, and one loop for everything that happens to the daemon as a whole.

mod listeners;
mod refresh;
mod reload;
mod signals;
mod telemetry;
mod watch;

use std::ops::ControlFlow;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, info, warn};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::admin::Admin;
use crate::audit::Sink;
use crate::client::ProxyVariables;
use crate::config::{Config, SandboxMode, Sources};
use crate::lifecycle::{Lifecycle, Notifier};
use crate::listen::{Inherited, ListenError};
use crate::log::{self, LogControl};
use crate::metrics::Metrics;
use crate::privilege::Departure;
use crate::proxy::{self, Proxy};
use crate::serve::Workers;
use crate::snapshot::{Snapshot, Upstream};
use crate::state::{Reloaded, State};
use crate::worker;
use crate::{client, exit, file, harden, memory, privilege, sandbox};

use self::listeners::Listeners;
use self::refresh::Refresher;
use self::signals::{Signal, Signals};

/// How long after the start, and after a crowd of connections has left, memory is given back.
const SETTLING: Duration = Duration::from_millis(100);
/// What drained connections get beyond `graceful_shutdown` to notice that they are cut.
const LAST_MOMENT: Duration = Duration::from_millis(200);
/// What is not ready by then is left to the requests, which have deadlines of their own.
const WARM_UP: Duration = Duration::from_secs(60);

/// Control over a running daemon from inside its own process.
pub struct Handle {
    pub state: Arc<State>,
    stop: oneshot::Sender<()>,
}

impl Handle {
    /// As SIGTERM does.
    pub fn stop(self) {
        let _ = self.stop.send(());
    }
}

/// Why the daemon could not start or go on.
pub struct Failure {
    pub message: String,
    pub exit: ExitCode,
}

impl Failure {
    fn not_permitted(message: String) -> Self {
        Self {
            message,
            exit: exit::NO_PERMISSION.into(),
        }
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        let exit = if error.is_permission() {
            exit::NO_PERMISSION
        } else {
            exit::UNAVAILABLE
        };
        Self {
            message: error.to_string(),
            exit: exit.into(),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self {
            message: format!("the system refuses what the daemon needs: {error}"),
            exit: exit::UNAVAILABLE.into(),
        }
    }
}

/// Runs the daemon in the foreground until it is told to stop. `ready` is called once it serves.
///
/// Must be called before any other thread is started: it takes secrets out of the environment.
///
/// # Errors
/// When it cannot start.
pub fn run(sources: Sources, config: Config, ready: impl FnOnce(Handle)) -> Result<(), Failure> {
    // SAFETY: no other thread runs yet, so nobody reads the environment meanwhile.
    unsafe { crate::env::scrub(&config.secret_variables) };
    harden::apply();
    privilege::check(config.server.run_as.as_ref()).map_err(Failure::not_permitted)?;
    privilege::shed(config.server.run_as.as_ref());
    let env = |name: &str| sources.env.get(name).map(str::to_owned);
    // What was handed over is closed on exec from here on.
    let inherited = Inherited::take(&env)?;
    // The system's roots are read when they are first wanted, behind the walls.
    let sandbox =
        sandbox::enter(&config, client::trust_directories()).map_err(|message| Failure {
            message,
            exit: exit::UNAVAILABLE.into(),
        })?;
    let (log, log_control, _flush) = log::start(config.log);
    let lifecycle = Arc::new(Lifecycle::new(Notifier::from_env(&env, log.clone())));
    let proxies = ProxyVariables::new(env);
    worker::set_count(config.server.workers);
    let metrics = Metrics::default();
    let snapshot =
        Snapshot::new(config, None, &proxies, &metrics, &log).map_err(|message| Failure {
            message,
            exit: exit::CONFIG.into(),
        })?;
    metrics.reloaded(true, snapshot.loaded_at);
    let proxy = Arc::new(Proxy::new(snapshot, metrics, log.clone()));
    let audited = Arc::clone(&proxy);
    let workers = Arc::new(Workers::start(worker::count(), &proxy, &log)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()?;
    let metering = telemetry::start(&proxy, &env, &proxies, runtime.handle(), &log);
    let result = runtime.block_on(async {
        let daemon = Daemon::start(
            sources,
            proxies,
            inherited,
            proxy,
            Arc::clone(&workers),
            lifecycle,
            log,
            log_control,
            sandbox,
        )
        .await?;
        let state = Arc::clone(&daemon.state);
        if let Some(metering) = &metering {
            tokio::spawn(telemetry::tell(Arc::clone(metering), Arc::clone(&state)));
        }
        daemon.serve(ready).await;
        telemetry::say_farewell(metering, state).await;
        Ok(())
    });
    workers.stop();
    audited.audit.close();
    runtime.shutdown_background();
    result
}

struct Daemon {
    sources: Sources,
    proxies: ProxyVariables,
    state: Arc<State>,
    workers: Arc<Workers>,
    lifecycle: Arc<Lifecycle>,
    listeners: Listeners,
    signals: Signals,
    reload_requests: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    log: Logger,
    log_control: Arc<LogControl>,
}

impl Daemon {
    #[expect(
        clippy::too_many_arguments,
        reason = "the one place where everything meets"
    )]
    async fn start(
        sources: Sources,
        proxies: ProxyVariables,
        inherited: Vec<Inherited>,
        proxy: Arc<Proxy>,
        workers: Arc<Workers>,
        lifecycle: Arc<Lifecycle>,
        log: Logger,
        log_control: Arc<LogControl>,
        sandbox: sandbox::Report,
    ) -> Result<Self, Failure> {
        // First of all, or a signal in the next moments would end the process.
        let signals = Signals::listen()?;
        let (ask, reload_requests) = mpsc::channel(1);
        let state = Arc::new(State::new(
            Arc::clone(&proxy),
            Arc::clone(&workers),
            Arc::clone(&lifecycle),
            Arc::clone(&log_control),
            sandbox,
            ask,
        ));
        let admin = Arc::new(Admin::new(Arc::clone(&state)));
        let mut listeners = Listeners::new(proxy, Arc::clone(&workers), admin, log.clone());
        let snapshot = state.proxy.snapshot();
        listeners.inherit(inherited, &snapshot.config)?;
        let departure = Departure::of(
            snapshot.config.server.run_as.as_ref(),
            snapshot.config.sockets(),
        );
        let opened = listeners.open(&snapshot.config)?;
        let leaves = departure.is_some();
        departure
            .map_or(Ok(()), Departure::leave)
            .map_err(Failure::not_permitted)?;
        if leaves {
            warn_of_unreadable(&log);
        }
        // As the user who will open it again at each reload.
        let audit = snapshot.config.audit.as_ref();
        let sink = audit.map(|audit| Sink::open(&audit.target)).transpose();
        let sink = sink.map_err(|message| Failure {
            message,
            exit: exit::UNAVAILABLE.into(),
        })?;
        state.proxy.audit.switch(sink, audit)?;
        listeners.switch(&snapshot.config, opened).await;
        state.set_listeners(listeners.describe());
        Ok(Self {
            sources,
            proxies,
            state,
            workers,
            lifecycle,
            listeners,
            signals,
            reload_requests,
            log,
            log_control,
        })
    }

    async fn serve(mut self, ready: impl FnOnce(Handle)) {
        let (stop, stopped) = oneshot::channel();
        self.announce();
        self.lifecycle.ready(&self.state.summary());
        self.watch_event_loops();
        self.warm_up();
        self.keep_secrets_fresh();
        self.give_memory_back();
        ready(Handle {
            state: Arc::clone(&self.state),
            stop,
        });
        self.signals.also(stopped);
        self.run_until_stopped().await;
        self.drain().await;
    }

    /// The one loop: it ends when the daemon shall stop.
    async fn run_until_stopped(&mut self) {
        loop {
            let reply = tokio::select! {
                signal = self.signals.next() => match signal {
                    Signal::Stop(name) => return self.say_stopping(name),
                    Signal::Reload => None,
                    Signal::MoreLog => { self.log_level(self.log_control.more()); continue }
                    Signal::LessLog => { self.log_level(self.log_control.less()); continue }
                },
                Some(reply) = self.reload_requests.recv() => Some(reply),
            };
            if self.reload_for(reply).await.is_break() {
                return;
            }
        }
    }

    /// Reloads, and once more if that was asked for meanwhile. Breaks when the daemon shall stop:
    /// whoever wants that does not wait for a vault that hangs.
    async fn reload_for(
        &mut self,
        mut reply: Option<oneshot::Sender<Reloaded>>,
    ) -> ControlFlow<()> {
        let mut again = true;
        while std::mem::take(&mut again) {
            let mut loading = pin!(self.begin_reload());
            let loaded = loop {
                tokio::select! {
                    loaded = &mut loading => break loaded,
                    signal = self.signals.next() => match signal {
                        Signal::Stop(name) => {
                            self.say_stopping(name);
                            return ControlFlow::Break(());
                        }
                        Signal::Reload => again = true,
                        Signal::MoreLog => self.log_level(self.log_control.more()),
                        Signal::LessLog => self.log_level(self.log_control.less()),
                    },
                }
            };
            let outcome = self.finish_reload(loaded).await;
            if let Some(reply) = reply.take() {
                let _ = reply.send(outcome);
            }
        }
        ControlFlow::Continue(())
    }

    fn say_stopping(&self, signal: Option<&'static str>) {
        if let Some(name) = signal {
            info!(self.log, "stopping"; "signal" => name);
        }
    }

    fn log_level(&self, level: slog::Level) {
        info!(self.log, "log level changed"; "to" => level.as_str().to_lowercase());
    }

    /// Says once what is served and where it goes.
    fn announce(&self) {
        let snapshot = self.state.proxy.snapshot();
        for warning in &snapshot.config.warnings {
            warn!(self.log, "configuration"; "warning" => warning);
        }
        for listener in self.listeners.describe() {
            info!(self.log, "listening"; "on" => listener.address, "for" => listener.role, "inherited" => listener.inherited);
        }
        reload::log_routes(&self.log, &snapshot);
        reload::warn_of_descriptors(&self.log, &snapshot.config);
        for (what, outcome) in self.state.sandbox.walls() {
            if let Err(why) = outcome
                && snapshot.config.server.sandbox != SandboxMode::Off
            {
                warn!(self.log, "not restricted by the daemon itself"; "what" => what, "reason" => why);
            }
        }
        info!(self.log, "ready"; "version" => env!("CARGO_PKG_VERSION"), "workers" => self.workers.count());
    }

    /// Feeds the watchdog from the loops themselves: one that hangs starves it.
    fn watch_event_loops(&self) {
        let Some(interval) = self.lifecycle.watchdog_interval() else {
            return;
        };
        let (workers, lifecycle) = (Arc::clone(&self.workers), Arc::clone(&self.lifecycle));
        tokio::spawn(async move {
            loop {
                workers.turn().await;
                lifecycle.watchdog();
                tokio::time::sleep(interval).await;
            }
        });
    }

    /// What only the start needed is given back, and what a crowd of connections took once it has left.
    fn give_memory_back(&self) {
        let registry = Arc::clone(self.workers.registry());
        tokio::spawn(async move {
            loop {
                // The start, or the last of them, is still being put away.
                tokio::time::sleep(SETTLING).await;
                // Others may have come: they would need it at once.
                if !registry.is_crowded() {
                    let giving_back = tokio::task::spawn_blocking(|| {
                        memory::trim();
                        memory::forget_code();
                    });
                    let _ = giving_back.await;
                }
                registry.crowd_left().await;
            }
        });
    }

    /// Runs programs again that print secrets, and looks after watched files.
    fn keep_secrets_fresh(&self) {
        let refresher = Refresher {
            proxy: Arc::clone(&self.state.proxy),
            proxies: self.proxies.clone(),
            env: self.sources.env.clone(),
            log: self.log.clone(),
        };
        tokio::spawn(refresher.run());
        tokio::spawn(watch::run(Arc::clone(&self.state)));
    }

    /// What the first request would otherwise wait for: trust roots, and a first look at each upstream.
    fn warm_up(&self) {
        let snapshot = self.state.proxy.snapshot();
        for credential in &snapshot.credentials {
            let auth = Arc::clone(&credential.auth);
            tokio::spawn(async move { timeout(WARM_UP, auth.warm_up()).await });
        }
        let log = self.log.clone();
        tokio::spawn(async move {
            for site in snapshot.upstreams.iter().flat_map(Upstream::sites) {
                let _ = site.client.warm_up().await;
                proxy::probe(site, &log).await;
            }
        });
    }

    /// Stops accepting, lets requests in flight finish, ends event streams, cuts what is left.
    async fn drain(mut self) {
        let grace = self.state.proxy.snapshot().config.server.graceful_shutdown;
        self.lifecycle.stopping();
        self.lifecycle.extend(grace + Duration::from_secs(5));
        let deadline = Instant::now() + grace;
        self.listeners.close_all().await;
        self.state.proxy.draining.cancel();
        let registry = Arc::clone(self.workers.registry());
        registry.close(|_| true);
        let cut = tokio::select! {
            () = registry.emptied() => None,
            () = tokio::time::sleep_until(deadline - LAST_MOMENT.min(grace / 2)) => {
                Some("graceful_shutdown was too short for them")
            }
            () = self.second_stop() => Some("a second signal asked not to wait"),
        };
        let Some(reason) = cut else {
            info!(self.log, "stopped; every request was answered");
            return;
        };
        let (requests, streams) = registry.requests();
        warn!(self.log, "stopped before every request was answered";
            "reason" => reason, "requests" => requests, "event_streams" => streams);
        registry.abort();
        let _ = tokio::time::timeout_at(deadline, registry.emptied()).await;
    }

    /// Whoever asks twice does not want to wait.
    async fn second_stop(&mut self) {
        loop {
            if let Signal::Stop(_) = self.signals.next().await {
                return;
            }
        }
    }
}

/// What root could read and the daemon no longer can: the next reload would fail, so it is said now.
fn warn_of_unreadable(log: &Logger) {
    for (path, error) in file::no_longer_readable() {
        warn!(log, "a reload will be refused"; "reason" => format!("{} {error}", path.display()));
    }
}
