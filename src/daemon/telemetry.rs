//! Telemetry from start to end: set up once, told from time to time, and the last of it sent.

use std::sync::Arc;

use slog::{Logger, warn};
use tokio::runtime::Handle;

use crate::client::ProxyVariables;
use crate::proxy::Proxy;
use crate::state::State;
use crate::telemetry::{FAREWELL, Metering, Surroundings, Tracing};

/// Begins with traces, and gives what sends metrics, as far as either is wanted.
pub fn start(
    proxy: &Proxy,
    env: &impl Fn(&str) -> Option<String>,
    proxies: &ProxyVariables,
    runtime: &Handle,
    log: &Logger,
) -> Option<Arc<Metering>> {
    let snapshot = proxy.snapshot();
    let config = snapshot.config.telemetry.as_ref()?;
    let around = Surroundings {
        env,
        proxies,
        runtime: runtime.clone(),
        metrics: &proxy.metrics,
        log,
    };
    match Tracing::start(config, &around) {
        Ok(Some(tracing)) => drop(proxy.tracing.set(tracing)),
        Ok(None) => {}
        Err(reason) => warn!(log, "no traces are sent"; "reason" => %reason),
    }
    Metering::start(config, &around).map(Arc::new)
}

/// Sends the numbers of `/metrics` again and again.
pub async fn tell(metering: Arc<Metering>, state: Arc<State>) {
    loop {
        tokio::time::sleep(metering.interval).await;
        send(&metering, &state).await;
    }
}

/// Lets the last spans and numbers leave.
pub async fn say_farewell(metering: Option<Arc<Metering>>, state: Arc<State>) {
    if let Some(metering) = metering {
        let _ = tokio::time::timeout(FAREWELL, send(&metering, &state)).await;
    }
    if state.proxy.tracing.get().is_some() {
        let sending = move || state.proxy.tracing.get().map(Tracing::flush);
        let _ = tokio::task::spawn_blocking(sending).await;
    }
}

async fn send(metering: &Metering, state: &State) {
    if let Ok(page) = state.metrics_page() {
        metering.send(&page).await;
    }
}
