//! `[upstream.NAME.cache]`.

use std::time::Duration;

use super::Cache;
use super::decode::Section;

impl Default for Cache {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: None,
            across_sessions: false,
            stale_if_error: Duration::ZERO,
        }
    }
}

pub fn decode_cache(upstream: &mut Section<'_>) -> Cache {
    let mut cache = Cache::default();
    let Some(mut s) = upstream.field("cache").and_then(|field| field.section()) else {
        return cache;
    };
    if let Some(enabled) = s.field("enabled").and_then(|field| field.boolean()) {
        cache.enabled = enabled;
    }
    cache.ttl = s.field("ttl").and_then(|field| field.duration());
    if let Some(field) = s.field("across_sessions") {
        cache.across_sessions = field.boolean().unwrap_or_default();
        if cache.across_sessions && cache.ttl.is_none() {
            field.problem("nothing that belongs to a session is kept without a ttl; set ttl too");
        }
    }
    let stale_if_error = s.field("stale_if_error").and_then(|f| f.duration());
    cache.stale_if_error = stale_if_error.unwrap_or_default();
    s.finish();
    cache
}
