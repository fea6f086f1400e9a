//! The mirrored headers of 2026-07-28: checked against the body before anything is signed, and filled in where asked.

use std::sync::PoisonError;

use super::Call;
use super::error::{Code, Error};
use crate::mcp::agreement::{Mirrored, Mismatch};
use crate::snapshot::Upstream;

/// Refuses a request whose headers and body disagree; completes the headers with `mirror_headers`.
///
/// Tells whether the answer is a listing of tools that later calls will be checked by.
pub fn agree(call: &mut Call<'_>, upstream: &Upstream) -> Result<bool, Error> {
    let Some(body) = &call.message else {
        return Ok(false);
    };
    let headers = &mut call.head.headers;
    let Some(mirrored) = Mirrored::read(headers, body)? else {
        return Ok(false);
    };
    let catalog = upstream
        .catalog
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    mirrored.check(headers, &catalog)?;
    if upstream.config.mirror_headers {
        mirrored.complete(headers, &catalog);
    }
    Ok(mirrored.lists_tools())
}

impl From<Mismatch> for Error {
    fn from(Mismatch(what): Mismatch) -> Self {
        Self::new(
            Code::HeaderMismatch,
            format!("the request's headers and its body disagree: {what}; send what the body says"),
        )
    }
}
