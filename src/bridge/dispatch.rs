//! The client's lines: each becomes a message on its way, or gets its answer here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use slog::{debug, warn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::answers::{Call, Cancelled};
use super::exchange::{self, Exchange};
use super::message::{self, Id, Kind, Message, Unreadable};
use super::problem::Problem;
use super::relay::Relay;
use super::{head, memory};

/// Bytes held of messages that nobody waits for; beyond that new ones are dropped, for stdin must be read on.
const MAX_NOTES: usize = 256 * 1024 * 1024;

/// What each of them counts at the least.
const SMALLEST_NOTE: usize = 64 * 1024;

pub struct Dispatcher {
    relay: Arc<Relay>,
    order: Order,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// Messages overtake each other, but not those that open the session.
#[derive(Default)]
struct Order {
    opened: Option<CancellationToken>,
}

impl Order {
    /// What a message has to wait for; the guard, held by one that opens the session, lets those behind it go.
    fn turn(&mut self, message: &Message) -> (Option<CancellationToken>, Option<DropGuard>) {
        let before = self.opened.clone();
        let opens_session = message.kind.is_initialize() || message.kind.is_initialized();
        let guard = opens_session.then(|| {
            let opened = CancellationToken::new();
            self.opened = Some(opened.clone());
            opened.drop_guard()
        });
        (before, guard)
    }
}

impl Dispatcher {
    pub fn new(relay: Arc<Relay>) -> Self {
        Self {
            relay,
            order: Order::default(),
            room: Arc::new(Semaphore::new(MAX_NOTES)),
            tasks: TaskTracker::new(),
        }
    }

    /// Takes a line from the client: it is under way, or answered, when this returns.
    pub async fn accept(&mut self, line: Bytes) {
        let length = line.len();
        memory::passes(length);
        let mut message = match Message::parse(line) {
            Ok(message) => message,
            Err(Unreadable(code, why)) => return self.refuse_line(code, why, None).await,
        };
        self.assume_version(&mut message);
        if self.is_closed_by(&message) {
            return;
        }
        match self.expect(&message, length) {
            Ok(call) => {
                let room = match &call {
                    Some(_) => None,
                    None => match self.room_for(length) {
                        Ok(room) => Some(room),
                        Err(_) => return self.drop_note(),
                    },
                };
                self.start(message, call, room);
            }
            Err((problem, ids)) => {
                let answer = match (&message.kind, &ids[..]) {
                    (Kind::Batch(_), ids) => problem.answers(ids),
                    (_, ids) => problem.answer(ids.first().map(|id| &**id)),
                };
                self.relay.say(answer.into()).await;
            }
        }
    }

    /// A line that was too long to be kept, but for its ends.
    pub async fn refuse_long_line(&self, head: &[u8], tail: &[u8]) {
        // The answer that a request in flight under the same id gets must be its own.
        let id = message::id_of(head, tail).filter(|id| !self.relay.answers.is_waiting(id));
        self.refuse_line(-32600, "the line is longer than 64 MiB", id.as_deref())
            .await;
    }

    /// A line that cannot be relayed; whoever sent it may wait, if only under an id that nobody knows.
    async fn refuse_line(&self, code: i32, why: &str, id: Option<&str>) {
        warn!(
            self.relay.log,
            "a line of the client's was refused: {}", why
        );
        let problem =
            Problem::of_json_rpc(code, format!("{why}; one JSON-RPC message a line, please"));
        self.relay.say(problem.answer(id).into()).await;
    }

    /// A request that names no revision is of the last one's: the server is to say what it lacks in that language.
    fn assume_version(&self, message: &mut Message) {
        if let Kind::Request(request) = &mut message.kind
            && &*request.method != "initialize"
            && request.version.is_none()
        {
            request.version = self.relay.session.modern();
        }
    }

    /// Since 2026-07-28 a cancellation is the end of the request's stream, and no message.
    fn is_closed_by(&self, message: &Message) -> bool {
        let Kind::Notification {
            cancels: Some(id), ..
        } = &message.kind
        else {
            return false;
        };
        match self.relay.answers.cancel(id) {
            Cancelled::Modern => true,
            Cancelled::Legacy => false,
            Cancelled::Unknown => self.relay.session.modern().is_some(),
        }
    }

    fn expect(&self, message: &Message, length: usize) -> Result<Option<Call>, (Problem, Vec<Id>)> {
        let (requests, is_modern, is_batch) = match &message.kind {
            Kind::Request(request) => {
                let one = vec![(request.id.clone(), request.method.clone())];
                (one, request.version.is_some(), false)
            }
            Kind::Batch(requests) if !requests.is_empty() => (requests.clone(), false, true),
            _ => return Ok(None),
        };
        let expected = self
            .relay
            .answers
            .expect(&requests, length, is_modern, is_batch);
        let ids = || requests.iter().map(|(id, _)| id.clone()).collect();
        expected.map(Some).map_err(|problem| (problem, ids()))
    }

    fn room_for(&self, length: usize) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        // A line has 64 MiB at most.
        let bytes = u32::try_from(length.max(SMALLEST_NOTE)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(bytes)
    }

    fn drop_note(&self) {
        warn!(
            self.relay.log,
            "a notification or an answer of the client's was dropped: the server takes none of those before it"
        );
    }

    fn start(&mut self, message: Message, call: Option<Call>, room: Option<OwnedSemaphorePermit>) {
        if let Kind::Request(request) = &message.kind {
            if message.kind.is_initialize() {
                self.relay.session.begin(message.bytes.clone());
            } else if let Some(version) = &request.version {
                self.relay.session.set_modern(version);
            } else {
                self.relay.session.wishes().note(&message);
            }
        }
        if message.kind.is_initialized() {
            self.relay.session.set_initialized(message.bytes.clone());
        }
        let (before, guard) = self.order.turn(&message);
        let exchange = Exchange::new(&self.relay, message, call);
        self.tasks.spawn(async move {
            if let Some(before) = before {
                before.cancelled().await;
            }
            exchange::run(exchange).await;
            drop((guard, room));
            memory::tidy();
        });
    }

    /// Lets what is in flight end, within `drain`; answers the rest; ends the session.
    pub async fn finish(&self, drain: Duration, goodbye: Duration) {
        self.relay.stopping.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(drain, self.tasks.wait()).await;
        let problem = Problem::new("stopped", "the bridge was stopped before the answer came");
        let telling = async {
            for answer in self.relay.answers.fail_all(&problem) {
                self.relay.say(answer).await;
            }
            self.relay.flush().await;
        };
        // A client that no longer reads, or a server that no longer answers, holds nothing up.
        let parting = async { tokio::join!(telling, self.end_session()) };
        let _ = tokio::time::timeout(goodbye, parting).await;
    }

    async fn end_session(&self) {
        let relay = &self.relay;
        let sight = relay.session.sight();
        if sight.id.is_none() {
            return;
        }
        let headers = head::for_stream(relay, &sight, None);
        let deleting = relay
            .link
            .send(Method::DELETE, &relay.link.endpoint, headers, Bytes::new());
        if let Err(problem) = deleting.await {
            debug!(
                relay.log,
                "the session could not be ended: {}", problem.message
            );
        }
    }
}
