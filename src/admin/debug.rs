//! `/debug`: closer looks, for as long as somebody is there to read them. On the admin socket alone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slog::{Level, info};

use crate::listen::Peer;
use crate::proxy::{Finished, Watch};
use crate::state::State;

/// Longest order that is read, in bytes.
pub const MAX_ORDER: usize = 1024;
/// How long a closer look at single requests lasts if nobody says.
const DEFAULT: Duration = Duration::from_secs(10 * 60);
const MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What `PUT /debug/log-level` asks for: `debug`, `debug for=10m`, `debug uid=1000 route=/acme`.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    level: Level,
    lasts: Option<Duration>,
    uid: Option<u32>,
    route: Option<String>,
}

impl Order {
    /// # Errors
    /// A sentence about the first word that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let level = words.next().unwrap_or_default();
        let mut order = Self {
            level: level_named(level).ok_or_else(|| {
                format!(
                    "{level:?} is no level: error, warning, info, debug or trace, then for=10m, uid=1000 or route=/path"
                )
            })?,
            lasts: None,
            uid: None,
            route: None,
        };
        for word in words {
            let refused = || format!("{word:?} is none of for=10m, uid=1000 and route=/path");
            let (key, value) = word.split_once('=').ok_or_else(refused)?;
            match key {
                "for" => {
                    let lasts = humantime::parse_duration(value).map_err(|_| refused())?;
                    order.lasts = Some(lasts.min(MAX));
                }
                "uid" => order.uid = Some(value.parse().map_err(|_| refused())?),
                "route" if value.starts_with('/') => order.route = Some(value.to_owned()),
                _ => return Err(refused()),
            }
        }
        if order.is_partial() && order.level != Level::Debug {
            return Err("single requests can be logged at debug alone".to_owned());
        }
        Ok(order)
    }

    /// Whether it is about some requests alone.
    fn is_partial(&self) -> bool {
        self.uid.is_some() || self.route.is_some()
    }

    /// Does it, and says what is in force now. Must be called within a tokio runtime.
    pub fn apply(self, state: &State) -> String {
        let (proxy, control) = (&state.proxy, &state.log_control);
        let level = self.level.as_str().to_lowercase();
        if self.is_partial() {
            let (now, lasts) = (Instant::now(), self.lasts.unwrap_or(DEFAULT));
            info!(proxy.log, "requests are logged at debug for a while"; "for" => ?lasts,
                "uid" => self.uid, "route" => self.route.as_ref());
            let watch = Watch {
                uid: self.uid,
                path: self.route,
                until: now + lasts,
            };
            proxy.watches.add(watch, now);
            return levels(state);
        }
        proxy.watches.clear();
        let before = control.level();
        let change = control.set_level(self.level);
        info!(proxy.log, "log level changed"; "to" => level, "for" => self.lasts.map(|lasts| format!("{lasts:?}")));
        if let Some(lasts) = self.lasts {
            let (control, log) = (std::sync::Arc::clone(control), proxy.log.clone());
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                if control.set_back(before, change) {
                    info!(log, "log level changed"; "to" => before.as_str().to_lowercase());
                }
            });
        }
        levels(state)
    }
}

fn level_named(name: &str) -> Option<Level> {
    match name {
        "error" => Some(Level::Error),
        "warning" | "warn" => Some(Level::Warning),
        "info" => Some(Level::Info),
        "debug" => Some(Level::Debug),
        "trace" => Some(Level::Trace),
        _ => None,
    }
}

/// `GET /debug/log-level`.
pub fn levels(state: &State) -> String {
    let now = Instant::now();
    let watches = state.proxy.watches.all(now).into_iter().map(|watch| {
        json!({
            "uid": watch.uid,
            "route": watch.path,
            "seconds_left": watch.until.saturating_duration_since(now).as_secs(),
        })
    });
    json!({
        "level": state.log_control.level().as_str().to_lowercase(),
        "debug": watches.collect::<Vec<_>>(),
    })
    .to_string()
}

/// `GET /debug/requests`: the last ones, the newest first.
pub fn requests(state: &State) -> String {
    let now = Instant::now();
    Value::from(state.proxy.requests.each(|finished| entry(finished, now))).to_string()
}

fn entry(finished: &Finished, now: Instant) -> Value {
    let milliseconds = |duration: Duration| duration.as_micros() as f64 / 1000.0;
    let ended = finished.at + finished.duration;
    let mut entry = json!({
        "request_id": finished.id.to_str().unwrap_or_default(),
        "seconds_ago": now.saturating_duration_since(ended).as_secs(),
        "peer": match finished.peer {
            Peer::Unix { uid, .. } => json!({ "uid": uid }),
            Peer::Tcp(address) => json!(address.to_string()),
        },
        "method": finished.method.as_str(),
        "path": finished.subject.path(),
        "duration_ms": milliseconds(finished.duration),
        "received": finished.received,
        "bytes": finished.sent,
        "attempts": finished.attempts,
        "outcome": finished.outcome,
    });
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            entry[key] = value;
        }
    };
    put(
        "status",
        (finished.status != 0).then(|| finished.status.into()),
    );
    put(
        "first_byte_ms",
        finished.first_byte.map(|after| milliseconds(after).into()),
    );
    put("mcp_method", finished.subject.method().map(Into::into));
    put("mcp_name", finished.subject.name().map(Into::into));
    put("error_code", finished.code.map(Into::into));
    put(
        "route",
        finished.route.as_ref().map(|route| route.path().into()),
    );
    put(
        "upstream",
        finished.route.as_ref().map(|route| route.upstream().into()),
    );
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_level_and_what_narrows_it() {
        let order = Order::parse(" debug for=10m uid=1000 route=/acme\n").unwrap();
        assert_eq!(
            order,
            Order {
                level: Level::Debug,
                lasts: Some(Duration::from_secs(600)),
                uid: Some(1000),
                route: Some("/acme".to_owned()),
            }
        );
        assert_eq!(Order::parse("warning").unwrap().level, Level::Warning);
        for wrong in [
            "",
            "loud",
            "debug for=x",
            "debug uid=me",
            "debug route=acme",
            "debug now",
            "info uid=1",
        ] {
            assert!(Order::parse(wrong).is_err(), "{wrong}");
        }
    }
}
