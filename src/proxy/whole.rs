//! An answer of JSON that is looked at: collected up to a limit, and seen before any of it passes.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::BodyExt;

use super::error::Error;
use super::lens::Lens;
use super::source::Source;
use crate::message::is_media_type;
use crate::snapshot::Upstream;
use crate::{client, deadline};

impl Lens {
    /// Looks at a whole answer of JSON.
    ///
    /// # Errors
    /// It must be seen and cannot: it is too large, encoded, or does not come in time.
    pub async fn whole(
        mut self: Box<Self>,
        upstream: &Upstream,
        headers: &mut HeaderMap,
        body: client::Body,
    ) -> Result<Source, Error> {
        if is_encoded(headers) {
            return self.unseen(upstream, "is compressed", Source::Upstream(body));
        }
        let announced = http_body::Body::size_hint(&body).lower();
        if announced > self.limit as u64 {
            return self.unseen(
                upstream,
                "is larger than limits.replay_buffer",
                Source::Upstream(body),
            );
        }
        match self.collect(upstream, body).await? {
            Collected::Whole(bytes) => {
                let bytes = self.look(&bytes).map_or(bytes, Bytes::from);
                self.sees_nothing();
                if headers.contains_key(header::CONTENT_LENGTH) {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                }
                Ok(Source::text(bytes))
            }
            Collected::Part(source) => {
                self.unseen(upstream, "is larger than limits.replay_buffer", source)
            }
            Collected::Late(_) if self.must_see_all() => {
                Err(Error::timeout(upstream, upstream.config.request_timeout))
            }
            Collected::Late(source) => self.unseen(upstream, "does not come in time", source),
        }
    }

    fn unseen(mut self, upstream: &Upstream, why: &str, source: Source) -> Result<Source, Error> {
        self.sees_nothing();
        if self.must_see_all() {
            return Err(Error::unfiltered(upstream, why));
        }
        Ok(source)
    }

    async fn collect(
        &self,
        upstream: &Upstream,
        mut body: client::Body,
    ) -> Result<Collected, Error> {
        let mut bytes = BytesMut::new();
        let at_most = || tokio::time::Instant::now() + upstream.config.request_timeout;
        let until = self.until.unwrap_or_else(at_most);
        loop {
            let frame = match deadline::before(until, pin!(body.frame())).await {
                Err(deadline::Passed) => {
                    return Ok(Collected::Late(Source::Rest(Some(bytes.freeze()), body)));
                }
                Ok(None) => return Ok(Collected::Whole(bytes.freeze())),
                Ok(Some(Err(error))) => return Err(Error::cut(upstream, &error)),
                Ok(Some(Ok(frame))) => frame,
            };
            bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
            if bytes.len() > self.limit {
                return Ok(Collected::Part(Source::Rest(Some(bytes.freeze()), body)));
            }
        }
    }
}

enum Collected {
    Whole(Bytes),
    /// More than may be kept: what came, and the rest.
    Part(Source),
    /// The same, of what did not come in time.
    Late(Source),
}

/// Whether an answer's messages can be found at all.
pub fn is_json(headers: &HeaderMap) -> bool {
    is_media_type(headers.get(header::CONTENT_TYPE), "application/json")
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
}
