//! One message's way: POST it, pass on what comes back, and see to it that its requests are answered.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use slog::warn;

use super::answers::Call;
use super::follow::{self, Followed};
use super::message::{Kind, Message};
use super::problem::Problem;
use super::refusal::Refusal;
use super::relay::Relay;
use super::session::Sight;
use super::{body, head, old, recover, stream};
use crate::client::Body;
use crate::message::is_media_type;

/// A server that knows a cancellation stops soon; one that does not is not waited for.
const CANCELLED_PATIENCE: Duration = Duration::from_secs(5);

/// How often one message may find its session gone, or its headers refused.
const MAX_ATTEMPTS: u32 = 3;

pub struct Exchange {
    relay: Arc<Relay>,
    message: Message,
    /// `None` for what nobody waits for.
    call: Option<Call>,
}

/// What became of an attempt.
enum Step {
    Done,
    Again,
}

/// Sends the message. Its requests have their answers when this returns.
pub async fn run(exchange: Exchange) {
    let outcome = exchange.until_cancelled().await;
    let relay = &exchange.relay;
    match (&exchange.call, outcome) {
        (Some(call), Some(outcome)) => {
            let problem = outcome.err().unwrap_or_else(|| {
                Problem::new(
                    "no_answer",
                    "the server's response ended without the answer",
                )
            });
            if let Some(answer) = relay.answers.fail(call, &problem) {
                relay.say(answer).await;
            }
        }
        (None, Some(Err(problem))) => {
            let what = exchange.what();
            warn!(
                relay.log,
                "{} did not reach the server: {}", what, problem.message
            );
        }
        _ => {}
    }
    if let Some(call) = &exchange.call {
        relay.answers.end(call);
    }
}

impl Exchange {
    pub fn new(relay: &Arc<Relay>, message: Message, call: Option<Call>) -> Self {
        Self {
            relay: Arc::clone(relay),
            message,
            call,
        }
    }

    /// Whether the message is written in 2026-07-28 or later.
    fn is_modern(&self) -> bool {
        matches!(&self.message.kind, Kind::Request(request) if request.version.is_some())
    }

    fn what(&self) -> &str {
        match &self.message.kind {
            Kind::Request(request) => &request.method,
            Kind::Notification { method, .. } => method,
            Kind::Response => "an answer to the server",
            Kind::Batch(_) => "a batch",
        }
    }

    /// `None` if the client no longer wanted the answer.
    async fn until_cancelled(&self) -> Option<Result<(), Problem>> {
        let Some(call) = &self.call else {
            let _slot = self.relay.note_slots.acquire().await;
            return Some(self.post().await);
        };
        let mut posting = pin!(self.post_in_turn());
        tokio::select! {
            outcome = posting.as_mut() => return Some(outcome),
            () = call.cancelled.cancelled() => {}
            () = self.stopped() => return None,
        }
        if !self.is_modern() {
            tokio::select! {
                _ = posting => {}
                () = tokio::time::sleep(CANCELLED_PATIENCE) => {}
                () = self.relay.stopping.cancelled() => {}
            }
        }
        None
    }

    /// A subscription has no end to wait for when the bridge goes.
    async fn stopped(&self) {
        match self.what() {
            "subscriptions/listen" => self.relay.stopping.cancelled().await,
            _ => std::future::pending().await,
        }
    }

    /// What ends by itself waits for a free slot.
    async fn post_in_turn(&self) -> Result<(), Problem> {
        let _slot = match self.what() {
            "subscriptions/listen" => None,
            _ => self.relay.slots.acquire().await.ok(),
        };
        self.post().await
    }

    async fn post(&self) -> Result<(), Problem> {
        for _ in 0..MAX_ATTEMPTS {
            let sight = self.relay.session.sight();
            if let Some(old) = sight.old.as_ref().filter(|_| !self.is_modern())
                && old.lost.is_cancelled()
            {
                recover::session(&self.relay, sight.generation).await?;
                continue;
            }
            if let Step::Done = self.attempt(&sight).await? {
                return Ok(());
            }
        }
        Err(Problem::new(
            "session_lost",
            "the server forgets its sessions faster than they are opened; is it several servers behind one address?",
        ))
    }

    async fn attempt(&self, sight: &Sight) -> Result<Step, Problem> {
        let relay = &self.relay;
        let old = sight.old.as_ref().filter(|_| !self.is_modern());
        let path = old.map_or(&relay.link.endpoint, |old| &old.path);
        let headers = head::for_message(relay, &self.message, sight);
        let body = self.message.bytes.clone();
        let answered = relay.link.send(Method::POST, path, headers, body).await?;
        if answered.0.status().is_success() {
            self.accepted(answered.0, sight).await?;
            return Ok(Step::Done);
        }
        let refusal = Refusal::read(answered).await;
        self.refused(refusal, sight).await
    }

    async fn accepted(&self, response: Response<Body>, sight: &Sight) -> Result<(), Problem> {
        let relay = &self.relay;
        if self.message.kind.is_initialize() {
            relay
                .session
                .named(response.headers().get(head::SESSION_ID).cloned());
        }
        if self.message.kind.is_initialized() {
            stream::start(relay);
        }
        let Some(call) = &self.call else {
            body::discard(response.into_body()).await;
            return Ok(());
        };
        let media_type = response.headers().get(CONTENT_TYPE).cloned();
        if is_media_type(media_type.as_ref(), "text/event-stream") {
            let follow = Followed {
                relay,
                call,
                sight,
                is_resumable: !self.is_modern(),
            };
            return follow::to_the_answer(&follow, response.into_body()).await;
        }
        if let Some(old) = &sight.old {
            body::discard(response.into_body()).await;
            return old::await_answer(relay, call, old).await;
        }
        if is_media_type(media_type.as_ref(), "application/json") {
            let message = body::collect(response.into_body()).await?;
            relay.pass(message, Some(call), true).await;
            return Ok(());
        }
        Err(no_answer(
            response.status(),
            media_type.as_ref().and_then(|value| value.to_str().ok()),
        ))
    }

    async fn refused(&self, refusal: Refusal, sight: &Sight) -> Result<Step, Problem> {
        let relay = &self.relay;
        let opens = self.message.kind.is_initialize();
        if opens && sight.old.is_none() && refusal.may_be_old_transport()
            // What the server said first is the answer if it is not of the old kind either.
            && let Ok(endpoint) = old::open(relay).await
        {
            relay.session.set_old(endpoint);
            return Ok(Step::Again);
        }
        if self.is_modern() {
            if refusal.is_header_mismatch() && recover::listing(relay, &self.message).await {
                return Ok(Step::Again);
            }
        } else if !opens && sight.is_session() && refusal.says_session_is_gone() {
            recover::session(relay, sight.generation).await?;
            return Ok(self.after_recovery());
        }
        self.pass_refusal(refusal).await
    }

    /// A 404 says that nothing was done: what the new session can understand is sent again.
    fn after_recovery(&self) -> Step {
        match &self.message.kind {
            // It was sent when the session was opened.
            kind if kind.is_initialized() => {
                stream::start(&self.relay);
                Step::Done
            }
            // It concerns a request of the old session.
            Kind::Response
            | Kind::Notification {
                cancels: Some(_), ..
            } => Step::Done,
            _ => Step::Again,
        }
    }

    /// The server's own JSON-RPC error is passed on as it is; anything else becomes one.
    async fn pass_refusal(&self, refusal: Refusal) -> Result<Step, Problem> {
        let Some(call) = self.call.as_ref() else {
            return Err(refusal.problem(&self.relay.link));
        };
        if refusal.is_json_rpc() {
            self.relay
                .pass(refusal.body.clone(), Some(call), true)
                .await;
        }
        if self.relay.answers.left(call).is_empty() {
            return Ok(Step::Done);
        }
        Err(refusal.problem(&self.relay.link))
    }
}

fn no_answer(status: StatusCode, media_type: Option<&str>) -> Problem {
    let with = media_type.map_or_else(
        || "nothing in it".to_owned(),
        |kind| format!("{kind} in it"),
    );
    Problem::new(
        "no_answer",
        format!(
            "the server answered {} with {with}, not with MCP; check that the URL is an MCP endpoint",
            status.as_u16()
        ),
    )
}
