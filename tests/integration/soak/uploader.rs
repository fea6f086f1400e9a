//! Agents with much to send.

use std::time::Instant;

use bytes::Bytes;

use super::Stage;
use super::agent::{Door, any_path, broke, refused};
use super::ledger::Fate;
use super::origin::sum;
use crate::common::{Ask, Client, body};

const CHUNK: usize = 16 * 1024;
/// Some fit into the daemon's replay buffer, some do not.
const LARGEST: usize = 1024 * 1024;

pub async fn uploads(stage: &Stage, door: &Door) {
    while !stage.is_over() {
        let mut client = door.enter().await;
        for _ in 0..fastrand::usize(1..10) {
            stage.pause(3.0).await;
            if stage.is_over() || !upload(stage, &mut client).await {
                break;
            }
        }
    }
}

pub fn target(path: &str, id: u64) -> String {
    format!("{path}upload?{id}")
}

/// Any bytes, hardly compressible.
pub fn bytes(len: usize) -> Bytes {
    let pattern: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(4099)
        .collect();
    pattern.iter().copied().cycle().take(len).collect()
}

async fn upload(stage: &Stage, client: &mut Client) -> bool {
    let id = stage.ledger.open();
    let path = any_path();
    let content = bytes(fastrand::usize(1..LARGEST));
    let ask =
        Ask::new("POST", &target(path, id)).header("content-type", "application/octet-stream");
    let expected = sum(&content);
    let ask = if fastrand::bool() {
        ask.body(body::full(content))
    } else {
        ask.body(in_chunks(content))
    };
    let began = Instant::now();
    match client.try_ask(ask).await {
        Err(error) => {
            broke(stage, "upload", path, began, &format!("{error:?}"));
            return false;
        }
        Ok(answer) if answer.code().is_some() => {
            let fate = refused(stage, "upload", path, began, &answer);
            stage.ledger.close(id, fate);
            // The rest of the body may be on its way still.
            return false;
        }
        Ok(answer) if answer.text() == expected => {
            stage.ledger.count("upload answered");
            stage.ledger.close(id, Fate::Answered);
        }
        Ok(answer) => stage
            .ledger
            .problem(format!("upload {id}: a wrong answer: {answer:?}")),
    }
    true
}

fn in_chunks(content: Bytes) -> body::Body {
    let (pipe, body) = body::piped();
    tokio::spawn(async move {
        let mut rest = content;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK));
            if !pipe.send(chunk).await {
                return;
            }
        }
        pipe.end().await;
    });
    body
}
