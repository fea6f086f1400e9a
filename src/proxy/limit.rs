//! What is too much: requests over a configured rate, and over what an upstream takes at a time.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::SemaphorePermit;

use super::Call;
use super::error::{Code, Error};
use super::patience::Patience;
use crate::config::Route;
use crate::listen::Peer;
use crate::mcp::strict;
use crate::resilience::rate::Rate;
use crate::snapshot::Upstream;

/// Keys are hashed with a secret: nobody can choose to share a cell.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Counts a request whose head is all that is known of it.
///
/// # Errors
/// It is over a limit; later limits have not counted it then.
pub fn by_head(call: &Call<'_>, route: &Route) -> Result<(), Error> {
    let rates = &call.snapshot.rates;
    // The clock is not asked where nothing is limited.
    if rates.is_empty() {
        return Ok(());
    }
    let now = Instant::now();
    for (index, rate) in rates.iter().enumerate() {
        if !rate.settings().by.tool {
            take(rate, index, key(call, route, rate, None), now)?;
        }
    }
    Ok(())
}

/// Counts the tools that a request calls.
///
/// # Errors
/// One of them is over a limit.
pub fn by_tool(call: &Call<'_>, route: &Route) -> Result<(), Error> {
    let mut rates = call.snapshot.rates.iter().enumerate();
    if !rates.any(|(_, rate)| rate.settings().by.tool) || !call.is_json_rpc {
        return Ok(());
    }
    let now = Instant::now();
    let messages = call.message.as_deref().map(strict::read);
    // What cannot be read might call any tool: all of it counts as one that has no name.
    let tools = match &messages {
        Some(Ok(messages)) => messages
            .iter()
            .filter(|message| message.method.as_deref() == Some("tools/call"))
            .map(|message| message.name.as_deref().unwrap_or_default())
            .collect(),
        Some(Err(_)) | None => vec![""],
    };
    for (index, rate) in call.snapshot.rates.iter().enumerate() {
        if rate.settings().by.tool {
            for tool in &tools {
                take(rate, index, key(call, route, rate, Some(tool)), now)?;
            }
        }
    }
    Ok(())
}

fn take(rate: &Rate, index: usize, key: u64, now: Instant) -> Result<(), Error> {
    rate.take(key, now).map_err(|wait| {
        let settings = rate.settings();
        let per = humantime::format_duration(settings.per);
        Error {
            retry_after: Some(wait),
            ..Error::new(
                Code::RateLimited,
                format!(
                    "too many requests: limits.rate[{}] lets {} pass in {per}; try again later",
                    index + 1,
                    settings.requests
                ),
            )
        }
    })
}

/// Names, not indices: counts outlive a reload.
fn key(call: &Call<'_>, route: &Route, rate: &Rate, tool: Option<&str>) -> u64 {
    let by = rate.settings().by;
    let mut hasher = KEYS.build_hasher();
    if by.route {
        route.path.hash(&mut hasher);
        // Listeners with routes of their own may have the same paths.
        let entrance = call.snapshot.entrance(call.connection.listener);
        let own = entrance.and_then(|entrance| entrance.listener?.routes.as_ref());
        own.map(|_| call.connection.listener).hash(&mut hasher);
    }
    if by.credential {
        let credential = call
            .upstream
            .and_then(|upstream| upstream.config.credential);
        credential
            .map(|index| &call.snapshot.config.credentials[index].name)
            .hash(&mut hasher);
    }
    if by.peer {
        call.client.hash(&mut hasher);
        match &call.connection.peer {
            Peer::Unix { uid, .. } => uid.hash(&mut hasher),
            Peer::Tcp(address) => address.ip().hash(&mut hasher),
        }
    }
    tool.hash(&mut hasher);
    hasher.finish()
}

/// The right to one request at an upstream that takes few at a time; `None` where it takes any number.
///
/// # Errors
/// The queue is full, or the wait was too long.
pub async fn turn(
    upstream: &Upstream,
    patience: Patience,
) -> Result<Option<SemaphorePermit<'_>>, Error> {
    let (Some(gate), Some(settings)) = (&upstream.gate, upstream.config.concurrency) else {
        return Ok(None);
    };
    if let Ok(permit) = gate.permits.try_acquire() {
        return Ok(Some(permit));
    }
    let Some(_place) = Place::take(&gate.queued, settings.queue) else {
        return Err(busy(upstream, "the queue for it is full"));
    };
    let until = patience.sooner(tokio::time::Instant::now() + settings.wait);
    match tokio::time::timeout_at(until, gate.permits.acquire()).await {
        Ok(Ok(permit)) => Ok(Some(permit)),
        Ok(Err(_)) | Err(_) => Err(busy(upstream, "the wait in the queue was too long")),
    }
}

fn busy(upstream: &Upstream, why: &str) -> Error {
    let name = &upstream.config.name;
    Error {
        retry_after: Some(Duration::from_secs(1)),
        ..Error::new(
            Code::UpstreamBusy,
            format!(
                "upstream {name} has as many requests as its concurrency allows, and {why}; try again later"
            ),
        )
    }
}

/// A place in a queue of limited length.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(queued: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let place = Self(queued);
        (queued.fetch_add(1, Ordering::AcqRel) < limit).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
