//! Headers that are the same on each request.

use http::header::{HeaderName, HeaderValue};

use super::Added;
use crate::config::Text;

pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    pub fn new(config: &[(HeaderName, Text)]) -> Result<Self, String> {
        config
            .iter()
            .map(|(name, value)| {
                let value = value
                    .header_value()
                    .ok_or_else(|| format!("the value of {name} is not legal in a header"))?;
                Ok((name.clone(), value))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn owns(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }

    pub fn all(&self) -> Added {
        self.0.iter().cloned().collect()
    }
}
