//! Between stdin, stdout and the endpoint: what every task of the bridge shares.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use slog::{Logger, debug, warn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::answers::{self, Answers, Call, Cancelled};
use super::exchange::{self, Exchange};
use super::head;
use super::link::Link;
use super::memory;
use super::message::{self, Kind, Message, Unreadable};
use super::output::Output;
use super::problem::Problem;
use super::session::Session;
use super::stream;
use crate::mcp::params::Catalog;

/// Exchanges at a time, each with a connection of its own: far below the usual limit on open files.
const CONCURRENT: usize = 256;

/// Messages at a time that nobody waits for: they must not wait behind requests that wait for them.
const CONCURRENT_NOTES: usize = 64;

/// Bytes of such messages that are held; beyond that new ones are dropped, for stdin must be read on.
const MAX_NOTES: usize = 256 * 1024 * 1024;

/// What each of them counts at the least.
const SMALLEST_NOTE: usize = 64 * 1024;

pub struct Relay {
    pub link: Link,
    pub session: Session,
    pub answers: Answers,
    pub log: Logger,
    pub user_agent: HeaderValue,
    /// Cancelled when the bridge goes: streams without an end of their own end then.
    pub stopping: CancellationToken,
    pub slots: Semaphore,
    pub note_slots: Semaphore,
    room: Arc<Semaphore>,
    catalog: Mutex<Catalog>,
    output: Output,
    tasks: TaskTracker,
    listening: Mutex<bool>,
}

/// Messages overtake each other, but not those that open the session.
#[derive(Default)]
pub struct Order {
    opened: Option<CancellationToken>,
}

impl Order {
    /// What a message has to wait for; the guard, held by one that opens the session, lets those behind it go.
    fn turn(&mut self, message: &Message) -> (Option<CancellationToken>, Option<DropGuard>) {
        let before = self.opened.clone();
        let guard = opens_session(&message.kind).then(|| {
            let opened = CancellationToken::new();
            self.opened = Some(opened.clone());
            opened.drop_guard()
        });
        (before, guard)
    }
}

fn opens_session(kind: &Kind) -> bool {
    match kind {
        Kind::Request(request) => exchange::is_initialize(request),
        kind => is_initialized(kind),
    }
}

pub fn is_initialized(kind: &Kind) -> bool {
    matches!(kind, Kind::Notification { method, .. } if &**method == "notifications/initialized")
}

impl Relay {
    pub fn new(link: Link, output: Output, user_agent: HeaderValue, log: Logger) -> Self {
        Self {
            link,
            session: Session::default(),
            answers: Answers::default(),
            log,
            user_agent,
            stopping: CancellationToken::new(),
            slots: Semaphore::new(CONCURRENT),
            note_slots: Semaphore::new(CONCURRENT_NOTES),
            room: Arc::new(Semaphore::new(MAX_NOTES)),
            catalog: Mutex::default(),
            output,
            tasks: TaskTracker::new(),
            listening: Mutex::new(false),
        }
    }

    /// Takes a line from the client: it is under way, or answered, when this returns.
    pub async fn accept(self: &Arc<Self>, line: Bytes, order: &mut Order) {
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
                self.start(message, call, order, room);
            }
            Err((problem, ids)) => {
                let answer = match (&message.kind, &ids[..]) {
                    (Kind::Batch(_), ids) => problem.answers(ids),
                    (_, ids) => problem.answer(ids.first().map(|id| &**id)),
                };
                self.output.send(answer.into()).await;
            }
        }
    }

    /// A line that was too long to be kept, but for its ends.
    pub async fn refuse_long_line(&self, head: &[u8], tail: &[u8]) {
        // The answer that a request in flight under the same id gets must be its own.
        let id = message::id_of(head, tail).filter(|id| !self.answers.is_waiting(id));
        self.refuse_line(-32600, "the line is longer than 64 MiB", id.as_deref())
            .await;
    }

    /// A line that cannot be relayed; whoever sent it may wait, if only under an id that nobody knows.
    async fn refuse_line(&self, code: i32, why: &str, id: Option<&str>) {
        warn!(self.log, "a line of the client's was refused: {}", why);
        let problem =
            Problem::of_json_rpc(code, format!("{why}; one JSON-RPC message a line, please"));
        self.output.send(problem.answer(id).into()).await;
    }

    /// A request that names no revision is of the last one's: the server is to say what it lacks in that language.
    fn assume_version(&self, message: &mut Message) {
        if let Kind::Request(request) = &mut message.kind
            && &*request.method != "initialize"
            && request.version.is_none()
        {
            request.version = self.session.modern();
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
        match self.answers.cancel(id) {
            Cancelled::Modern => true,
            Cancelled::Legacy => false,
            Cancelled::Unknown => self.session.modern().is_some(),
        }
    }

    fn expect(
        &self,
        message: &Message,
        length: usize,
    ) -> Result<Option<Call>, (Problem, Vec<super::message::Id>)> {
        let (requests, is_modern, is_batch) = match &message.kind {
            Kind::Request(request) => {
                let one = vec![(request.id.clone(), request.method.clone())];
                (one, request.version.is_some(), false)
            }
            Kind::Batch(requests) if !requests.is_empty() => (requests.clone(), false, true),
            _ => return Ok(None),
        };
        let expected = self.answers.expect(&requests, length, is_modern, is_batch);
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
            self.log,
            "a notification or an answer of the client's was dropped: the server takes none of those before it"
        );
    }

    fn start(
        self: &Arc<Self>,
        message: Message,
        call: Option<Call>,
        order: &mut Order,
        room: Option<OwnedSemaphorePermit>,
    ) {
        if let Kind::Request(request) = &message.kind {
            if exchange::is_initialize(request) {
                self.session.begin(message.bytes.clone());
            } else if let Some(version) = &request.version {
                self.session.set_modern(version);
            } else {
                self.session.wishes().note(&message);
            }
        }
        if is_initialized(&message.kind) {
            self.session.set_initialized(message.bytes.clone());
        }
        let (before, guard) = order.turn(&message);
        let relay = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Some(before) = before {
                before.cancelled().await;
            }
            exchange::run(Exchange::new(&relay, message, call)).await;
            drop((guard, room));
            memory::tidy();
        });
    }

    /// Passes on what an upstream sent, if it is MCP and, where it is an answer, the first one.
    pub async fn pass(&self, bytes: Bytes, call: Option<&Call>, is_whole: bool) {
        let length = bytes.len();
        memory::passes(length);
        let Some(passed) = self.answers.admit(bytes, call, is_whole) else {
            debug!(self.log, "dropped what is no MCP message or a second answer"; "bytes" => length);
            return;
        };
        match passed.answers.as_deref() {
            Some("initialize") => {
                if let Some(version) = answers::negotiated_version(&passed.bytes) {
                    self.session.negotiated(&version);
                }
            }
            Some("tools/list") => {
                let learned = self.catalog().learn(&passed.bytes);
                for (tool, reason) in learned.invalid {
                    warn!(
                        self.log,
                        "tool {} asks for Mcp-Param headers in a wrong way, so it gets none: {}",
                        tool,
                        reason
                    );
                }
            }
            _ => {}
        }
        self.output.send(passed.bytes).await;
    }

    /// Sends a message of the bridge's own making.
    pub async fn say(&self, message: Bytes) {
        self.output.send(message).await;
    }

    pub fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the stream of the server's own messages open from now on.
    pub fn listen(self: &Arc<Self>) {
        let mut listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *listening, true) {
            tokio::spawn(stream::hold(Arc::clone(self)));
        }
    }

    /// Resolves when nobody reads stdout any more.
    pub async fn client_gone(&self) {
        self.output.gone().await;
    }

    /// Lets what is in flight end, within `drain`; answers the rest; ends the session.
    pub async fn finish(&self, drain: Duration, goodbye: Duration) {
        self.stopping.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(drain, self.tasks.wait()).await;
        let problem = Problem::new("stopped", "the bridge was stopped before the answer came");
        let telling = async {
            for answer in self.answers.fail_all(&problem) {
                self.output.send(answer).await;
            }
            self.output.flush().await;
        };
        // A client that no longer reads, or a server that no longer answers, holds nothing up.
        let parting = async { tokio::join!(telling, self.end_session()) };
        let _ = tokio::time::timeout(goodbye, parting).await;
    }

    async fn end_session(&self) {
        let sight = self.session.sight();
        if sight.id.is_none() {
            return;
        }
        let headers = head::for_stream(self, &sight, None);
        let deleting = self
            .link
            .send(Method::DELETE, &self.link.endpoint, headers, Bytes::new());
        if let Err(problem) = deleting.await {
            debug!(
                self.log,
                "the session could not be ended: {}", problem.message
            );
        }
    }
}
