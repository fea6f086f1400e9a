//! What the fuzz targets check, kept here so that `cargo test` runs the same checks over the corpora.
//!
//! Each `check` takes any bytes and panics where what we make of them differs from what a
//! second, simpler reading makes of them. Not part of any program that is installed.

pub mod agreement;
pub mod chunks;
pub mod configuration;
pub mod events;
pub mod hygiene;
pub mod json_rpc;
pub mod lines;
pub mod listing;
pub mod path;
pub mod question;
pub mod request_head;
pub mod response;
pub mod signature_base;
mod tree;

/// Cuts bytes into pieces as they could come from a socket; the same for the same seed.
fn pieces(seed: u8, data: &[u8]) -> Vec<&[u8]> {
    let mut state = u32::from(seed);
    let mut rest = data;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Mostly a few bytes, sometimes many: both the seams and the fast paths count.
        let length = if state >> 30 == 0 {
            64
        } else {
            1 + (state >> 16) % 5
        };
        let (piece, after) = rest.split_at(rest.len().min(length as usize));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The first byte as a seed, and the rest.
fn seeded(data: &[u8]) -> (u8, &[u8]) {
    data.split_first()
        .map_or((0, data), |(seed, rest)| (*seed, rest))
}

#[cfg(test)]
mod tests;
