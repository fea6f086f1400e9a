//! Why an answer ends before its end; the client must see it broken, not short.

use crate::client;

#[derive(Debug)]
pub enum Broken {
    Upstream(client::Broken),
    /// An event that a policy must be applied to is larger than may be kept.
    Unfiltered,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Upstream(error) => error.fmt(f),
            Self::Unfiltered => f.write_str("an event is too large for the policy to be applied"),
        }
    }
}

impl std::error::Error for Broken {}
