//! A bearer token that does not change by itself (RFC 6750, section 2.1).

use http::header::{AUTHORIZATION, HeaderValue};
use zeroize::Zeroizing;

use super::Added;
use crate::secret::Secret;

pub struct Bearer(HeaderValue);

impl Bearer {
    pub fn new(token: &Secret) -> Result<Self, String> {
        header_value(token.expose()).map(Self).ok_or_else(|| {
            "the token has characters that no HTTP header may hold; correct it".to_owned()
        })
    }

    pub fn header(&self) -> Added {
        Added::from([(AUTHORIZATION, self.0.clone())])
    }
}

/// `Bearer TOKEN`, marked sensitive; `None` if a header may not hold it.
pub fn header_value(token: &[u8]) -> Option<HeaderValue> {
    let text = Zeroizing::new([b"Bearer ", token].concat());
    let mut value = HeaderValue::from_bytes(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
