//! What the daemon knows of itself: read by `status`, `/metrics` and the service manager.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use crate::lifecycle::Lifecycle;
use crate::log::LogControl;
use crate::metrics::{CredentialGauges, Gauges, UpstreamGauges};
use crate::proxy::Proxy;
use crate::sandbox;
use crate::serve::Workers;

pub struct State {
    pub proxy: Arc<Proxy>,
    pub workers: Arc<Workers>,
    pub lifecycle: Arc<Lifecycle>,
    pub log_control: Arc<LogControl>,
    /// Not by the clock, which may jump.
    pub started_at: Instant,
    pub sandbox: sandbox::Report,
    listeners: Mutex<Vec<Description>>,
    last_reload: Mutex<Option<Reloaded>>,
    reload: mpsc::Sender<oneshot::Sender<Reloaded>>,
}

/// A listener in words.
#[derive(Debug, Clone)]
pub struct Description {
    pub address: String,
    pub role: &'static str,
    pub inherited: bool,
    /// Whether clients have to speak TLS.
    pub tls: bool,
}

/// How a reload went.
#[derive(Debug, Clone)]
pub struct Reloaded {
    pub at: SystemTime,
    /// `Err`: every reason, one a line; the configuration before it goes on.
    pub outcome: Result<(), Vec<String>>,
}

impl State {
    pub fn new(
        proxy: Arc<Proxy>,
        workers: Arc<Workers>,
        lifecycle: Arc<Lifecycle>,
        log_control: Arc<LogControl>,
        sandbox: sandbox::Report,
        reload: mpsc::Sender<oneshot::Sender<Reloaded>>,
    ) -> Self {
        Self {
            proxy,
            workers,
            lifecycle,
            log_control,
            started_at: Instant::now(),
            sandbox,
            listeners: Mutex::default(),
            last_reload: Mutex::default(),
            reload,
        }
    }

    /// Asks the daemon's loop to reload, and waits for the outcome. `None` while it stops.
    pub async fn reload(&self) -> Option<Reloaded> {
        let (reply, outcome) = oneshot::channel();
        self.reload.send(reply).await.ok()?;
        outcome.await.ok()
    }

    /// The page of `/metrics`, in OpenMetrics text.
    ///
    /// # Errors
    /// None that is known of.
    pub fn metrics_page(&self) -> Result<String, fmt::Error> {
        let registry = self.workers.registry();
        let (in_flight, event_streams) = registry.requests();
        let snapshot = self.proxy.snapshot();
        let upstreams = snapshot.upstreams.iter().map(|upstream| UpstreamGauges {
            name: &upstream.config.name,
            certificate_expiry: upstream.client.certificate_expiry(),
            credential: upstream.config.credential.map(|index| CredentialGauges {
                name: &snapshot.config.credentials[index].name,
                since: upstream.credential_since,
                expiry: upstream.token_expiry(Instant::now(), SystemTime::now()),
            }),
        });
        let gauges = Gauges {
            upstreams: upstreams.collect(),
            in_flight,
            connections: registry.len(),
            sessions: self.proxy.sessions.count(Instant::now()),
            event_streams,
            log_dropped: self.log_control.dropped(),
            audit_lost: self.proxy.audit.lost(),
            audit_failing: self.proxy.audit.is_failing(),
            cache_bytes: self.proxy.cache.bytes(),
            cache_entries: self.proxy.cache.entries(),
        };
        let mut page = String::new();
        self.proxy.metrics.write(&mut page, &gauges)?;
        Ok(page)
    }

    pub fn listeners(&self) -> Vec<Description> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn last_reload(&self) -> Option<Reloaded> {
        self.last_reload
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set_listeners(&self, listeners: Vec<Description>) {
        *self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = listeners;
    }

    pub fn set_last_reload(&self, reloaded: Reloaded) {
        *self
            .last_reload
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(reloaded);
    }

    /// One line for `systemctl status`.
    pub fn summary(&self) -> String {
        let snapshot = self.proxy.snapshot();
        let listeners = self.listeners();
        let data: Vec<_> = listeners
            .iter()
            .filter(|l| l.role == "clients")
            .map(|l| l.address.as_str())
            .collect();
        let upstreams: Vec<_> = snapshot
            .config
            .upstreams
            .iter()
            .map(|u| u.name.as_str())
            .collect();
        let loaded = humantime::format_rfc3339_seconds(snapshot.loaded_at);
        let mut summary = format!(
            "Serving {} on {}; configuration of {loaded}",
            upstreams.join(", "),
            data.join(" and ")
        );
        if let Some(Reloaded {
            outcome: Err(reasons),
            ..
        }) = self.last_reload()
        {
            summary.push_str("; the last reload was refused: ");
            summary.push_str(reasons.first().map_or("", String::as_str));
        }
        summary
    }
}
