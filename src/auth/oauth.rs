//! The OAuth 2.0 client credentials grant (RFC 6749, section 4.4): a token that is fetched,
//! shared by every request, and fetched anew before it expires.
//!
//! However many requests wait, one exchange with the issuer is under way, in a task of its own:
//! the request that began it may be cancelled. A request here is small enough to be made by
//! hand; the OAuth crates bring an HTTP client of their own, or a second set of everything.

mod assertion;
mod cache;
mod form;
mod issuer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use slog::{Logger, debug, warn};
use tokio::sync::watch;

use super::{Standing, Surroundings, Unavailable};
use crate::config::Oauth;
use crate::metrics::CredentialMetrics;

pub use self::cache::Token;
use self::cache::{Cache, Step};
use self::issuer::Issuer;

/// The tokens of one credential, one after the other.
pub struct Tokens {
    issuer: Issuer,
    cache: Mutex<Cache>,
    /// Counts the exchanges that came to an end.
    settled: watch::Sender<u64>,
    name: String,
    metrics: Arc<CredentialMetrics>,
    log: Logger,
}

impl Tokens {
    pub fn new(name: &str, config: &Oauth, around: &Surroundings<'_>) -> Result<Self, String> {
        Ok(Self {
            issuer: Issuer::new(config, around.proxies.clone())?,
            cache: Mutex::default(),
            settled: watch::Sender::new(0),
            name: name.to_owned(),
            metrics: Arc::clone(&around.metrics),
            log: around.log.clone(),
        })
    }

    /// A token that is valid now. The caller sets the deadline.
    pub async fn token(self: &Arc<Self>) -> Result<Arc<Token>, Unavailable> {
        if let Step::Use(token) = self.cache().next(Instant::now()) {
            return Ok(token);
        }
        let mut settled = self.settled.subscribe();
        let asked = Instant::now();
        loop {
            // Noted before the look, or an exchange that ends in between would be waited for.
            settled.borrow_and_update();
            let step = self.cache().next_or_begin(Instant::now());
            match step {
                Step::Use(token) => return Ok(token),
                Step::UseAndFetch(token) => {
                    self.fetch();
                    return Ok(token);
                }
                Step::Fetch => self.fetch(),
                Step::Wait => {}
                Step::Fail(reason) => return Err(Unavailable(reason)),
            }
            // The sender is ours: this cannot fail.
            let _ = settled.changed().await;
            // Judged by the clock, one that lasts a moment would be fetched again for ever.
            if let Some(token) = self.cache().fetched_since(asked) {
                return Ok(token);
            }
        }
    }

    /// Whether a request that this token was refused for may fare better with another one.
    pub fn refused(&self, token: &Token, now: Instant) -> bool {
        self.cache().refused(token, now)
    }

    pub fn standing(&self, now: Instant) -> Standing {
        self.cache().standing(now)
    }

    fn fetch(self: &Arc<Self>) {
        let exchange = Exchange {
            tokens: Arc::clone(self),
            is_settled: false,
        };
        tokio::spawn(async move {
            let outcome = exchange.tokens.issuer.fetch().await;
            exchange.settle(outcome);
        });
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exchange under way. Dropped without an outcome it counts as failed, or all would wait for it.
struct Exchange {
    tokens: Arc<Tokens>,
    is_settled: bool,
}

impl Exchange {
    fn settle(mut self, outcome: Result<issuer::Granted, String>) {
        let tokens = &self.tokens;
        tokens.metrics.fetched(outcome.is_ok());
        match outcome {
            Ok(granted) => {
                debug!(tokens.log, "token fetched"; "credential" => &tokens.name);
                tokens.cache().fetched(granted, Instant::now());
            }
            Err(reason) => {
                warn!(tokens.log, "no token from the issuer";
                    "credential" => &tokens.name, "reason" => &reason);
                tokens.cache().failed(reason, Instant::now());
            }
        }
        self.is_settled = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.is_settled {
            let reason = "the exchange with the issuer was broken off".to_owned();
            self.tokens.cache().failed(reason, Instant::now());
        }
        self.tokens.settled.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests;
