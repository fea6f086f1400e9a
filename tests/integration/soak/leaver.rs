//! Agents that leave in the middle of something, and such as ask for what they may not have.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Stage;
use super::agent::{Door, any_path, text};
use super::caller::message;
use super::ledger::Fate;
use super::uploader::{bytes, target};
use crate::common::{Ask, body};

pub async fn leaves(stage: &Stage, door: &Door) {
    while !stage.is_over() {
        match fastrand::u8(..4) {
            0 => leaves_before_the_answer(stage, door).await,
            1 => leaves_in_the_answer(stage, door).await,
            2 => leaves_in_its_body(stage, door).await,
            _ => leaves_in_its_head(door).await,
        }
        stage.ledger.count("left in the middle");
        stage.pause(1.0).await;
    }
}

async fn leaves_before_the_answer(stage: &Stage, door: &Door) {
    let id = stage.ledger.open();
    let body = message(id, &text(id), 300, None);
    let mut client = door.enter().await;
    let patience = Duration::from_millis(fastrand::u64(0..300));
    let ask = Ask::post(&format!("{}mcp", any_path()), body);
    let _ = tokio::time::timeout(patience, client.try_ask(ask)).await;
    client.leave();
}

async fn leaves_in_the_answer(stage: &Stage, door: &Door) {
    let id = stage.ledger.open();
    let body = message(id, &text(id), 100, Some(5));
    let mut client = door.enter().await;
    let ask = Ask::post(&format!("{}mcp", any_path()), body);
    if let Ok(mut opened) = client.try_open(ask).await {
        let _ = opened.piece().await;
    }
    client.leave();
}

/// What the upstream has not whole, it must not take for whole.
async fn leaves_in_its_body(stage: &Stage, door: &Door) {
    let id = stage.ledger.open();
    stage.ledger.close(id, Fate::Refused);
    let (pipe, body) = body::piped();
    let mut client = door.enter().await;
    let ask = Ask::new("POST", &target(any_path(), id)).body(body);
    let asking = client.try_ask(ask);
    let sending = async {
        for _ in 0..fastrand::usize(1..20) {
            pipe.send(bytes(8192)).await;
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..50))).await;
    };
    tokio::select! {
        _ = asking => {}
        () = sending => {}
    }
    client.leave();
    // Only now: the end of the pipe would be the end of the body.
    drop(pipe);
}

async fn leaves_in_its_head(door: &Door) {
    let head = b"POST /one/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345";
    let mut stream = TcpStream::connect(door.tcp).await.unwrap();
    let _ = stream
        .write_all(&head[..fastrand::usize(1..head.len())])
        .await;
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..20))).await;
}

pub async fn intrudes(stage: &Stage, door: &Door) {
    while !stage.is_over() {
        let id = stage.ledger.open();
        stage.ledger.close(id, Fate::Refused);
        let body = message(id, "x", 0, None);
        let (ask, expected) = match fastrand::u8(..3) {
            0 => (
                Ask::post("/one/mcp", body).host("evil.example"),
                "host_forbidden",
            ),
            1 => (Ask::post("/two/%2e%2e/mcp", body), "path_refused"),
            _ => (
                Ask::post("/one/mcp", body).header("origin", "https://evil.example"),
                "origin_forbidden",
            ),
        };
        let answer = door.enter_by_h1().await.ask(ask).await;
        if answer.code() == Some(expected) {
            stage.ledger.count("refused as it must be");
        } else {
            stage.ledger.problem(format!("{expected}: {answer:?}"));
        }
        stage.pause(2.0).await;
    }
}
