//! Agents that keep an event stream open: no event is missing, none comes twice, none is another's.

use std::time::{Duration, Instant};

use super::Stage;
use super::agent::{Door, any_path, broke, refused};
use crate::common::{Ask, Client, Opened};

pub async fn listens(stage: &Stage, door: &Door) {
    while !stage.is_over() {
        let mut stream = Listening {
            name: format!("{:016x}", fastrand::u64(..)),
            path: any_path(),
            last: 0,
            until: Instant::now() + Duration::from_secs(fastrand::u64(5..90)),
        };
        // As clients do: from where it broke off.
        while !stage.is_over() && Instant::now() < stream.until {
            let mut client = door.enter().await;
            stream.follow(stage, &mut client).await;
            client.leave();
            stage.pause(0.5).await;
        }
        stage.ledger.count("event stream left by its client");
    }
}

struct Listening {
    name: String,
    path: &'static str,
    last: u64,
    until: Instant,
}

impl Listening {
    async fn follow(&mut self, stage: &Stage, client: &mut Client) {
        let mut ask = Ask::events(&format!("{}events?{}", self.path, self.name));
        if self.last > 0 {
            ask = ask.header("last-event-id", &self.last.to_string());
        }
        let began = Instant::now();
        let opened = match client.try_open(ask).await {
            Ok(opened) => opened,
            Err(error) => {
                return broke(
                    stage,
                    "event stream",
                    self.path,
                    began,
                    &format!("{error:?}"),
                );
            }
        };
        if opened.headers.contains_key("x-mcp-auth-proxy-error") {
            if let Ok(answer) = opened.rest().await {
                refused(stage, "event stream", self.path, began, &answer);
            }
            return;
        }
        if opened.status != 200 {
            stage.ledger.problem(format!(
                "event stream: {} {:?}",
                opened.status, opened.headers
            ));
            return;
        }
        self.read(stage, opened).await;
    }

    async fn read(&mut self, stage: &Stage, mut opened: Opened) {
        let mut rest = String::new();
        while !stage.is_over() && Instant::now() < self.until {
            let waits = Instant::now();
            match opened.piece().await {
                Some(Ok(piece)) => rest.push_str(std::str::from_utf8(&piece).unwrap()),
                None => return broke(stage, "event stream", self.path, waits, "ended"),
                Some(Err(error)) => {
                    return broke(
                        stage,
                        "event stream",
                        self.path,
                        waits,
                        &format!("{error:?}"),
                    );
                }
            }
            while let Some((event, behind)) = rest.split_once("\n\n") {
                self.note(stage, event);
                rest = behind.to_owned();
            }
        }
    }

    fn note(&mut self, stage: &Stage, event: &str) {
        // Comments keep a stream alive.
        if event.lines().all(|line| line.starts_with(':')) {
            return;
        }
        self.last += 1;
        let expected = format!("id: {0}\ndata: {1} {0}", self.last, self.name);
        if event == expected {
            stage.ledger.count("event");
        } else {
            stage
                .ledger
                .problem(format!("event {event:?} instead of {expected:?}"));
        }
    }
}
