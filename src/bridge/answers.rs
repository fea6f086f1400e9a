//! Who waits for an answer: every request gets exactly one, whichever stream brings it and whatever fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::message::{self, Id, Incoming};
use super::problem::Problem;
use crate::json::{self, Object};

/// Requests in flight, and bytes of them, beyond which new ones are refused: stdin must
/// be read on, because what the requests wait for may be the client's answer to the server.
const MAX_REQUESTS: usize = 4096;
const MAX_BYTES: usize = 256 * 1024 * 1024;

#[derive(Default)]
pub struct Answers {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<Id, Waiting>,
    bytes: usize,
    calls: u64,
}

struct Waiting {
    call: u64,
    method: Box<str>,
    is_modern: bool,
    cancelled: CancellationToken,
    settled: Arc<Notify>,
}

/// One message's requests: what its own stream may answer, and what must be answered if it fails.
pub struct Call {
    number: u64,
    bytes: usize,
    pub ids: Vec<Id>,
    is_batch: bool,
    /// Set when the client no longer wants the answer.
    pub cancelled: CancellationToken,
    /// Told of every answer.
    pub settled: Arc<Notify>,
}

/// A message that may go to the client, and what it answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    pub bytes: Bytes,
    /// The method of the request that this answers.
    pub answers: Option<Box<str>>,
}

/// How a cancelled request was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Cancelled {
    Modern,
    Legacy,
    Unknown,
}

impl Answers {
    /// Takes note of a message's requests.
    ///
    /// # Errors
    /// When too much is in flight, or an id is that of a request in flight: its answer could
    /// not be told from the other's.
    pub fn expect(
        &self,
        requests: &[(Id, Box<str>)],
        bytes: usize,
        is_modern: bool,
        is_batch: bool,
    ) -> Result<Call, Problem> {
        let mut table = self.lock();
        if table.waiting.len() + requests.len() > MAX_REQUESTS || table.bytes + bytes > MAX_BYTES {
            return Err(Problem::new(
                "too_many_requests",
                "too many requests are in flight; wait for answers before sending more",
            ));
        }
        if requests
            .iter()
            .any(|(id, _)| table.waiting.contains_key(id))
        {
            return Err(Problem::of_json_rpc(
                -32600,
                "a request with this id is still in flight; give every request its own id",
            ));
        }
        table.calls += 1;
        table.bytes += bytes;
        let call = Call {
            number: table.calls,
            bytes,
            ids: requests.iter().map(|(id, _)| id.clone()).collect(),
            is_batch,
            cancelled: CancellationToken::new(),
            settled: Arc::default(),
        };
        for (id, method) in requests {
            let waiting = Waiting {
                call: call.number,
                method: method.clone(),
                is_modern,
                cancelled: call.cancelled.clone(),
                settled: Arc::clone(&call.settled),
            };
            table.waiting.insert(id.clone(), waiting);
        }
        Ok(call)
    }

    /// What of an upstream's message may be passed on. `call` is the request whose own stream
    /// brought it; `is_whole` says that nothing else can answer that request.
    ///
    /// `None` for what is no JSON-RPC and for a second answer.
    pub fn admit(&self, bytes: Bytes, call: Option<&Call>, is_whole: bool) -> Option<Passed> {
        match message::read(&bytes)? {
            Incoming::Other => Some(Passed {
                bytes,
                answers: None,
            }),
            Incoming::Response(id) => {
                let (renamed, method) = self.settle(id, call, is_whole)?;
                let bytes = match renamed {
                    Some(id) => message::with_id(&bytes, &id)?,
                    None => bytes,
                };
                Some(Passed {
                    bytes,
                    answers: Some(method),
                })
            }
            Incoming::Batch(list) => self.admit_batch(&bytes, &list),
        }
    }

    fn admit_batch(&self, bytes: &Bytes, list: &[&str]) -> Option<Passed> {
        let admitted: Vec<&str> = list
            .iter()
            .copied()
            .filter(|one| match message::read(one.as_bytes()) {
                Some(Incoming::Response(id)) => self.settle(id, None, false).is_some(),
                other => other.is_some(),
            })
            .collect();
        let bytes = match admitted.len() {
            0 => return None,
            all if all == list.len() => bytes.clone(),
            _ => format!("[{}]", admitted.join(",")).into(),
        };
        Some(Passed {
            bytes,
            answers: None,
        })
    }

    /// Finds who an answer is for, once; gives back the id it must carry where it carries another.
    fn settle(
        &self,
        id: Option<&str>,
        call: Option<&Call>,
        is_whole: bool,
    ) -> Option<(Option<Id>, Box<str>)> {
        let mut table = self.lock();
        if let Some(waiting) = id.and_then(|id| table.waiting.remove(id)) {
            waiting.settled.notify_one();
            return Some((None, waiting.method));
        }
        let [own] = &call?.ids[..] else { return None };
        let fits = is_whole || id.is_none_or(|id| message::is_same_id(id, own));
        let number = call.map(|call| call.number);
        if !fits || table.waiting.get(own).map(|waiting| waiting.call) != number {
            return None;
        }
        let waiting = table.waiting.remove(own)?;
        Some((Some(own.clone()), waiting.method))
    }

    pub fn is_waiting(&self, id: &str) -> bool {
        self.lock().waiting.contains_key(id)
    }

    /// Those of a call that still wait.
    pub fn left(&self, call: &Call) -> Vec<Id> {
        let table = self.lock();
        let is_waiting = |id: &&Id| {
            let waiting = table.waiting.get(*id);
            waiting.is_some_and(|waiting| waiting.call == call.number)
        };
        call.ids.iter().filter(is_waiting).cloned().collect()
    }

    /// The answer to whatever of a call still waits; nobody waits afterwards.
    pub fn fail(&self, call: &Call, problem: &Problem) -> Option<Bytes> {
        let left = self.left(call);
        self.forget(&left);
        let wanted = !left.is_empty() && !call.cancelled.is_cancelled();
        wanted.then(|| match &left[..] {
            [one] if !call.is_batch => problem.answer(Some(one)).into(),
            many => problem.answers(many).into(),
        })
    }

    /// The answers to everything that still waits, one each.
    pub fn fail_all(&self, problem: &Problem) -> Vec<Bytes> {
        let waiting = std::mem::take(&mut self.lock().waiting);
        waiting
            .into_iter()
            .filter(|(_, waiting)| !waiting.cancelled.is_cancelled())
            .map(|(id, _)| problem.answer(Some(&id)).into())
            .collect()
    }

    /// Notes that the client no longer wants an answer. A modern request's stream is closed by it.
    pub fn cancel(&self, id: &str) -> Cancelled {
        let mut table = self.lock();
        let Some(waiting) = table.waiting.get(id) else {
            return Cancelled::Unknown;
        };
        waiting.cancelled.cancel();
        if waiting.is_modern {
            table.waiting.remove(id);
            return Cancelled::Modern;
        }
        Cancelled::Legacy
    }

    /// A call is over, its memory free.
    pub fn end(&self, call: &Call) {
        let left = self.left(call);
        self.forget(&left);
        let mut table = self.lock();
        table.bytes = table.bytes.saturating_sub(call.bytes);
    }

    fn forget(&self, ids: &[Id]) {
        let mut table = self.lock();
        for id in ids {
            table.waiting.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The revision that an answer to `initialize` settles on.
pub fn negotiated_version(answer: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        result: Object<Initialized>,
    }
    #[derive(serde::Deserialize)]
    struct Initialized {
        #[serde(rename = "protocolVersion")]
        version: String,
    }
    let Answer {
        result: Object(result),
    } = json::object(answer).ok()?;
    Some(result.version)
}

#[cfg(test)]
mod tests;
