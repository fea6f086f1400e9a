//! What a credential adds to one attempt at a request.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// A few headers, each name once. A list: it is made for each request, and no table is as cheap.
#[derive(Clone, Default)]
pub struct Added(Vec<(HeaderName, HeaderValue)>);

impl Added {
    /// A header more, in the place of one that had its name.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        match self.0.iter_mut().find(|(own, _)| *own == name) {
            Some((_, before)) => *before = value,
            None => self.0.push((name, value)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// What is to be kept out of sight, as it went on the wire.
    pub fn secrets(&self) -> impl Iterator<Item = &[u8]> {
        let values = self.0.iter().map(|(_, value)| value);
        let sensitive = values.filter(|value| value.is_sensitive());
        sensitive.map(HeaderValue::as_bytes)
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Added {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}

impl<const N: usize> From<[(HeaderName, HeaderValue); N]> for Added {
    fn from(headers: [(HeaderName, HeaderValue); N]) -> Self {
        Self(headers.into())
    }
}

impl From<HeaderMap> for Added {
    fn from(headers: HeaderMap) -> Self {
        let named = headers.into_iter();
        named
            .filter_map(|(name, value)| Some((name?, value)))
            .collect()
    }
}

#[cfg(test)]
impl From<Added> for HeaderMap {
    fn from(Added(headers): Added) -> Self {
        headers.into_iter().collect()
    }
}
