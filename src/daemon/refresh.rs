//! Runs the programs again that print secrets, and puts what they print into force.
//!
//! One that fails costs nothing yet: the last good value goes on, and the pause grows.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use slog::{Logger, info, warn};
use tokio::time::{Instant, sleep_until};

use crate::client::ProxyVariables;
use crate::config::{Credential, Env, Refreshed};
use crate::proxy::Proxy;
use crate::secret::Secret;

/// The first and the longest pause after failures, unless the interval itself is shorter.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Nothing is due: a new configuration wakes us sooner.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Refresher {
    pub proxy: Arc<Proxy>,
    pub proxies: ProxyVariables,
    pub env: Env,
    pub log: Logger,
}

/// When a secret is due again.
struct Due {
    of: Refreshed,
    at: Instant,
}

impl Refresher {
    /// Never ends. Follows the configuration as reloads change it.
    pub async fn run(self) {
        let mut schedule: Vec<Due> = Vec::new();
        let mut replaced = self.proxy.replacements();
        loop {
            self.follow(&mut schedule);
            let next = schedule.iter().map(|due| due.at).min();
            let next = next.unwrap_or_else(|| Instant::now() + LONG);
            // A reload may change everything meanwhile.
            tokio::select! {
                () = sleep_until(next) => {}
                _ = replaced.changed() => continue,
            }
            let now = Instant::now();
            let ready = schedule.iter().filter(|due| due.at <= now);
            let done = join_all(ready.map(|due| self.refresh(&due.of))).await;
            let mut done = done.into_iter();
            for due in schedule.iter_mut().filter(|due| due.at <= now) {
                if let Some((secret, pause)) = done.next() {
                    due.of.secret = secret;
                    due.at = Instant::now() + pause;
                }
            }
        }
    }

    /// What is in force decides; a secret that a reload has read again has its whole interval.
    fn follow(&self, schedule: &mut Vec<Due>) {
        let snapshot = self.proxy.snapshot();
        let wanted = &snapshot.config.refreshed;
        schedule.retain(|due| wanted.iter().any(|it| it.secret.is(&due.of.secret)));
        for refreshed in wanted {
            if !schedule
                .iter()
                .any(|due| due.of.secret.is(&refreshed.secret))
            {
                // A reload has run it: what went wrong before is over.
                settle(&snapshot.refreshes, refreshed);
                schedule.push(Due {
                    of: refreshed.clone(),
                    at: Instant::now() + refreshed.every.mul_f64(0.9 + fastrand::f64() / 10.0),
                });
            }
        }
        let is_used = |place: &str| wanted.iter().any(|it| it.places.iter().any(|p| p == place));
        snapshot.refreshes.keep(is_used);
    }

    /// Gives the secret that is in force afterwards, and when to run the program again.
    async fn refresh(&self, refreshed: &Refreshed) -> (Secret, Duration) {
        let (command, env) = (refreshed.command.clone(), self.env.clone());
        let printed = tokio::task::spawn_blocking(move || command.run(&env)).await;
        let outcome = match printed {
            Ok(Ok(secret)) if secret == refreshed.secret => Ok(refreshed.secret.clone()),
            Ok(Ok(secret)) => self.put_into_force(refreshed, &secret).map(|()| secret),
            Ok(Err(error)) => Err(error.to_string()),
            Err(panic) => Err(panic.to_string()),
        };
        let snapshot = self.proxy.snapshot();
        for name in credentials(refreshed, &snapshot.config.credentials) {
            self.proxy.metrics.credential(name).fetched(outcome.is_ok());
        }
        match outcome {
            Ok(secret) => {
                if settle(&snapshot.refreshes, refreshed) {
                    info!(self.log, "the secret can be had again"; "secret" => &refreshed.places[0]);
                }
                (secret, refreshed.every)
            }
            Err(reason) => (refreshed.secret.clone(), self.failed(refreshed, reason)),
        }
    }

    /// No await from the look at what is in force to its replacement: a reload cannot come between.
    fn put_into_force(&self, refreshed: &Refreshed, new: &Secret) -> Result<(), String> {
        let snapshot = self.proxy.snapshot();
        let next = snapshot.with_secret(
            &refreshed.secret,
            new,
            &self.proxies,
            &self.proxy.metrics,
            &self.log,
        )?;
        self.proxy.replace(next);
        info!(self.log, "secret replaced"; "secret" => &refreshed.places[0]);
        Ok(())
    }

    fn failed(&self, refreshed: &Refreshed, reason: String) -> Duration {
        let snapshot = self.proxy.snapshot();
        let mut in_a_row = 1;
        for place in &refreshed.places {
            let now = std::time::Instant::now();
            let trouble = snapshot.refreshes.failed(place, reason.clone(), now);
            in_a_row = trouble.in_a_row;
        }
        warn!(self.log, "the secret could not be had anew; its last good value goes on";
            "secret" => &refreshed.places[0], "reason" => &reason);
        pause(refreshed.every, in_a_row)
    }
}

/// Soon after the first failure, twice as long after each further one, and never later than its
/// turn would be.
fn pause(every: Duration, in_a_row: u32) -> Duration {
    let doublings = in_a_row.saturating_sub(1).min(16);
    let doubled = FIRST_PAUSE.min(every).saturating_mul(1 << doublings);
    let longest = LONGEST_PAUSE.min(every);
    doubled.min(longest).mul_f64(0.75 + fastrand::f64() / 4.0)
}

/// Whether anything had been wrong.
fn settle(refreshes: &crate::snapshot::Refreshes, refreshed: &Refreshed) -> bool {
    let places = refreshed.places.iter();
    places
        .filter(|place| refreshes.succeeded(place).is_some())
        .count()
        > 0
}

/// The credentials that a secret is part of, by their names.
fn credentials<'a>(
    refreshed: &'a Refreshed,
    credentials: &'a [Credential],
) -> impl Iterator<Item = &'a str> {
    let places = refreshed.places.iter();
    let places = places.filter_map(|place| place.strip_prefix("credential."));
    places.filter_map(|place| {
        let names = credentials
            .iter()
            .map(|credential| credential.name.as_str());
        // A name may have dots, and may go on as another's scheme begins.
        let its = names.filter(|name| {
            let rest = place
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('.'));
            let scheme = rest.and_then(|rest| rest.split('.').next());
            scheme.is_some_and(|scheme| SCHEMES.contains(&scheme))
        });
        its.max_by_key(|name| name.len())
    })
}

const SCHEMES: [&str; 6] = [
    "auth-gateway",
    "headers",
    "bearer",
    "oauth-client-credentials",
    "http-signature",
    "aws-sigv4",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_with_failures_and_has_an_end() {
        let second = Duration::from_secs(1);
        let about = |pause: Duration, longest: Duration| {
            assert!(
                pause <= longest && pause >= longest.mul_f64(0.75),
                "{pause:?}"
            );
        };
        let hour = 3600 * second;
        for (in_a_row, longest) in [(1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (40, 600)] {
            about(pause(hour, in_a_row), longest * second);
        }
        for in_a_row in [1, 2, 40] {
            about(pause(second, in_a_row), second);
        }
        about(pause(60 * second, 40), 60 * second);
    }

    #[test]
    fn a_fetch_is_counted_for_the_credential_whose_it_is() {
        let credential = |name: &str| Credential {
            name: name.to_owned(),
            scheme: crate::config::CredentialScheme::Headers(Vec::new()),
        };
        let all = ["x", "x.bearer-keys", "y"].map(credential);
        for (place, name) in [
            ("credential.x.bearer.token", Some("x")),
            (
                "credential.x.bearer-keys.bearer.token",
                Some("x.bearer-keys"),
            ),
            ("credential.y.headers.x-key", Some("y")),
            ("upstream.x.session.value", None),
        ] {
            let refreshed = Refreshed {
                places: vec![place.to_owned()],
                command: crate::secret::Command {
                    run_as: None,
                    arguments: vec!["true".to_owned()],
                    timeout: Duration::ZERO,
                    refresh: None,
                    pass_env: Vec::new(),
                },
                every: Duration::ZERO,
                secret: Secret::new(Vec::new()),
            };
            let found: Vec<_> = credentials(&refreshed, &all).collect();
            assert_eq!(found, Vec::from_iter(name), "{place}");
        }
    }
}
