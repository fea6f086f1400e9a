//! A credential ready for use, shared by every upstream that names it.

use std::sync::Arc;
use std::time::SystemTime;

use super::Snapshot;
use crate::auth::{Auth, Surroundings};
use crate::config;

pub struct Credential {
    pub auth: Arc<Auth>,
    /// Since when it is in use as it is.
    pub since: SystemTime,
}

impl Credential {
    /// Keeps the one before if nothing changed, and its token with it.
    pub fn new(
        config: &config::Credential,
        previous: Option<&Snapshot>,
        around: &Surroundings<'_>,
    ) -> Result<Self, String> {
        let kept = previous.and_then(|previous| {
            let mut all = previous.config.credentials.iter();
            let index = all.position(|before| before == config)?;
            previous.credentials.get(index)
        });
        if let Some(kept) = kept {
            return Ok(Self {
                auth: Arc::clone(&kept.auth),
                since: kept.since,
            });
        }
        let auth = Auth::new(config, around)
            .map_err(|reason| format!("credential {}: {reason}", config.name))?;
        Ok(Self {
            auth: Arc::new(auth),
            since: SystemTime::now(),
        })
    }
}
