//! What the bridge knows of a server of the 2024-11-05 transport: its address for messages, and who waits at its stream.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::message::{self, Incoming};

/// Where a server of the 2024-11-05 transport takes messages; its answers come on one stream.
#[derive(Clone)]
pub struct OldEndpoint {
    pub path: PathAndQuery,
    /// Cancelled when that stream is gone.
    pub lost: CancellationToken,
    pub replies: Arc<Replies>,
}

/// Where the answer to a replayed `initialize` is caught, before it reaches the client a second time.
#[derive(Default)]
pub struct Replies(Mutex<Option<oneshot::Sender<Bytes>>>);

impl Replies {
    pub fn expect(&self) -> oneshot::Receiver<Bytes> {
        let (sender, receiver) = oneshot::channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Gives the message back if nobody waits for it here.
    pub fn catch(&self, message: Bytes) -> Option<Bytes> {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.is_none() || !matches!(message::read(&message), Some(Incoming::Response(_))) {
            return Some(message);
        }
        expected
            .take()
            .and_then(|sender| sender.send(message).err())
    }
}

/// The path that an `endpoint` event names, seen from where the stream was opened.
///
/// `None` for another origin: messages must not be led around whoever signs them.
pub fn resolve(stream: &PathAndQuery, authority: &str, named: &str) -> Option<PathAndQuery> {
    let named = named.trim();
    if named.starts_with("http://") || named.starts_with("https://") {
        let uri: Uri = named.parse().ok()?;
        let is_own = uri.authority()?.as_str().eq_ignore_ascii_case(authority);
        return uri.path_and_query().filter(|_| is_own).cloned();
    }
    if named.starts_with("//") || named.is_empty() {
        return None;
    }
    if named.starts_with('/') {
        return named.parse().ok();
    }
    let folder = stream
        .path()
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    format!("{folder}/{named}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(named: &str) -> Option<String> {
        let stream = PathAndQuery::from_static("/old/sse");
        resolve(&stream, "localhost", named).map(|path| path.to_string())
    }

    #[test]
    fn endpoints_are_found_from_the_streams_own_address() {
        assert_eq!(resolved("/messages?s=1").as_deref(), Some("/messages?s=1"));
        assert_eq!(resolved("messages").as_deref(), Some("/old/messages"));
        assert_eq!(resolved("http://LOCALHOST/m").as_deref(), Some("/m"));
    }

    #[test]
    fn endpoints_elsewhere_are_refused() {
        assert_eq!(resolved("https://evil.example/m"), None);
        assert_eq!(resolved("//evil.example/m"), None);
        assert_eq!(resolved(""), None);
    }
}
