//! Whether an upstream can be reached: looked at beside the requests, and noted for each of its URLs.

use std::sync::Arc;
use std::time::Instant;

use slog::{Logger, info, warn};

use crate::config::Breaker;
use crate::snapshot::{Site, Upstream};

/// Looks at the upstream, unless something fresh is known of it.
pub async fn probe(upstream: &Upstream, log: &Logger) {
    let is_fresh = || {
        upstream
            .health
            .verdict()
            .is_some_and(|verdict| verdict.is_fresh(Instant::now()))
    };
    if is_fresh() {
        return;
    }
    // Several may ask at once, on several workers: the others take the first one's verdict.
    let Ok(_turn) = upstream.health.probing.acquire().await else {
        return;
    };
    if is_fresh() {
        return;
    }
    look(upstream, log).await;
}

/// Opens a connection, and notes what comes of it.
async fn look(upstream: &Upstream, log: &Logger) {
    match upstream.client.probe().await {
        Ok(()) => {
            upstream.health.reached(Instant::now());
            reached(upstream, log);
        }
        Err(failure) => {
            lost(upstream, &failure.cause, Instant::now(), log);
            upstream.health.failed(failure.cause, Instant::now());
        }
    }
}

/// Notes that a connection was there.
pub fn reached(upstream: &Upstream, log: &Logger) {
    let Some(Site { reach, label, .. }) = &upstream.site else {
        return;
    };
    if reach.found() {
        show(upstream);
        info!(log, "a URL of an upstream can be reached again";
            "upstream" => &upstream.config.name, "url" => &**label);
    }
}

/// Notes that no connection could be made.
pub fn lost(upstream: &Upstream, cause: &str, now: Instant, log: &Logger) {
    let Some(Site { reach, label, .. }) = &upstream.site else {
        return;
    };
    if reach.lost(now) {
        show(upstream);
        warn!(log, "a URL of an upstream cannot be reached; requests go to the next that is up";
            "upstream" => &upstream.config.name, "url" => &**label, "reason" => cause);
    }
}

/// Brings the metric up to date.
pub fn show(upstream: &Upstream) {
    if let Some(site) = &upstream.site {
        upstream.metrics.url_down(&site.label, !upstream.is_up());
    }
}

/// Looks beside the requests whether a URL that was lost is back.
pub fn look_again(upstream: &Arc<Upstream>, now: Instant, log: &Logger) {
    let settings = upstream.config.breaker.as_ref();
    let interval =
        settings.map_or_else(|| Breaker::default().probe_interval, |it| it.probe_interval);
    let site = upstream.site.as_ref().filter(|site| site.reach.is_lost());
    if !site.is_some_and(|site| site.reach.is_due(interval, now)) {
        return;
    }
    let (upstream, log) = (Arc::clone(upstream), log.clone());
    tokio::spawn(async move { look(&upstream, &log).await });
}
