//! Response bodies, read to their end or not at all.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};

use super::MAX_MESSAGE;
use super::problem::Problem;
use crate::client::Body;

/// A body that nobody wants is read only so that its connection can be used again.
const DISCARD_LIMIT: usize = 64 * 1024;
const DISCARD_PATIENCE: Duration = Duration::from_millis(200);

/// A whole message.
///
/// # Errors
/// When it breaks off, or is larger than a message may be.
pub async fn collect(body: Body) -> Result<Bytes, Problem> {
    match Limited::new(body, MAX_MESSAGE).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Problem::new(
            "answer_too_large",
            "the server's answer is larger than 64 MiB; ask for less at a time",
        )),
        Err(_) => Err(Problem::new(
            "answer_cut",
            "the server's answer broke off; the request may or may not have been carried out",
        )),
    }
}

/// The beginning of a refusal's body: as much as a sentence or a JSON-RPC error needs.
pub async fn quote(body: Body, limit: usize, patience: Duration) -> Bytes {
    let reading = Limited::new(body, limit).collect();
    match tokio::time::timeout(patience, reading).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        _ => Bytes::new(),
    }
}

pub async fn discard(body: Body) {
    quote(body, DISCARD_LIMIT, DISCARD_PATIENCE).await;
}
