//! An hour of everything at once: 64 agents, reloads, rotations, restarts, and nothing lost or left over.
//!
//! `make soak MINUTES=60`; the program is the one that `MCP_AUTH_PROXY_BIN` names.

mod agent;
mod bridge;
mod caller;
mod health;
mod leaver;
mod ledger;
mod listener;
mod origin;
mod uploader;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use self::health::Health;
use self::ledger::Ledger;
use self::origin::{Origin, Secrets};
use crate::common::{Daemon, KEY_ID, Setup, memory, tls};

const RELOAD_EVERY: Duration = Duration::from_secs(5);
const RESTART_EVERY: Duration = Duration::from_secs(60);
/// Every secret here begins so, and nothing else does.
const SECRET_MARK: &str = "hush-soak-";

/// What everybody who takes part can see.
pub struct Stage {
    /// HTTP/2 and HTTP/1.1, over TLS.
    origins: [Origin; 2],
    ledger: Arc<Ledger>,
    secrets: Secrets,
    length: Duration,
    ends: Instant,
    /// How long an agent waits between two things that it does.
    pace: Duration,
}

impl Stage {
    fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// Waits for about so many paces.
    async fn pause(&self, paces: f64) {
        let pause = self.pace.mul_f64(paces * (0.5 + fastrand::f64()));
        tokio::time::sleep(pause.min(self.ends.saturating_duration_since(Instant::now()))).await;
    }

    fn origin(&self, path: &str) -> &Origin {
        &self.origins[usize::from(path.starts_with("/two/"))]
    }
}

#[tokio::test]
#[ignore = "takes as long as SOAK_MINUTES says"]
async fn an_hour_of_everything_loses_nothing_and_leaves_nothing() {
    let length = Duration::from_secs_f64(60.0 * number("SOAK_MINUTES", 60.0));
    let ledger = Arc::new(Ledger::default());
    let secrets = Secrets::default();
    secrets.rotate(&secret(0));
    let origins = ["h2", "http/1.1"].map(|alpn| Origin::new(alpn, &ledger, &secrets));
    for origin in &origins {
        origin.start().await;
    }
    let setup = Setup::at("http://127.0.0.1:1").written(&configuration(&origins, 0));
    setup.file("ca.pem", &tls::authority().pem);
    setup.file("secret", &secret(0));
    let mut daemon = setup.start().await;
    let health = Arc::new(Health::of(&daemon));
    let stage = Arc::new(Stage {
        origins,
        ledger,
        secrets,
        length,
        ends: Instant::now() + length,
        pace: Duration::from_millis(number("SOAK_PACE_MS", 400.0) as u64),
    });
    let mut agents = agent::all(&stage, &daemon);
    for which in 0..2 {
        agents.spawn(restarts(Arc::clone(&stage), which));
    }
    agents.spawn(Arc::clone(&health).watch(Arc::clone(&stage)));
    let mut round = 0;
    while !stage.is_over() {
        tokio::time::sleep(RELOAD_EVERY).await;
        round += 1;
        reload(&stage, &mut daemon, round).await;
        bury(&stage, &mut agents);
    }
    while let Some(ended) = agents.join_next().await {
        note_end(&stage, ended);
    }
    health.settle(&stage, &daemon).await;
    look_for_secrets(&stage, &daemon, &secret(round)).await;
    stage.ledger.settle();
    println!("{}{}", stage.ledger.table(), health.table());
    println!("{round} reloads");
    assert!(daemon.stop().await.success());
    let problems = stage.ledger.problems();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn number(name: &str, default: f64) -> f64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// No two have a half in common.
fn secret(number: u64) -> String {
    let scattered = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number + 1);
    format!("{SECRET_MARK}{scattered:016x}-{number:06}")
}

/// The configuration for reload `round`: now and then the upstreams are others to the daemon, so that it
/// takes new clients with new pools for them.
fn configuration(origins: &[Origin; 2], round: u64) -> String {
    let [one, two] = origins.each_ref().map(Origin::port);
    let connect = 5 + round / 4 % 2;
    format!(
        r#"
[upstream.one]
url = "https://127.0.0.1:{one}/"
ca_file = "DIR/ca.pem"
credential = "key"
stream_recovery = true
connect_timeout = "{connect}s"

[upstream.two]
url = "https://127.0.0.1:{two}/"
ca_file = "DIR/ca.pem"
credential = "key"
stream_recovery = true
connect_timeout = "{connect}s"

[credential.key.auth-gateway]
key_id = {KEY_ID:?}
secret = {{ file = "DIR/secret" }}

[[route]]
path = "/"
upstream = "one"

[[route]]
path = "/two/"
upstream = "two"

[[listener]]
unix = "DIR/proxy.sock"

[[listener]]
tcp = "127.0.0.1:0"

[limits]
replay_buffer = "256KiB"
"#
    )
}

/// Rotates the secret and reloads.
async fn reload(stage: &Stage, daemon: &mut Daemon, round: u64) {
    stage.secrets.rotate(&secret(round));
    let next = daemon.setup.file("secret.next", &secret(round));
    std::fs::rename(next, daemon.path("secret")).unwrap();
    let configuration = configuration(&stage.origins, round);
    daemon
        .reload_with(|setup| setup.written(&configuration))
        .await;
}

/// Each of the two stops and starts once a minute, half a minute after the other.
async fn restarts(stage: Arc<Stage>, which: usize) {
    let mut next = Instant::now() + RESTART_EVERY.mul_f64(0.25 + 0.5 * which as f64);
    while next < stage.ends {
        tokio::time::sleep_until(next.into()).await;
        stage.origins[which].stop().await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..3000))).await;
        stage.origins[which].start().await;
        next += RESTART_EVERY;
    }
}

/// An agent that ended before its time has met what it did not expect.
fn bury(stage: &Stage, agents: &mut JoinSet<()>) {
    while let Some(ended) = agents.try_join_next() {
        note_end(stage, ended);
    }
}

fn note_end(stage: &Stage, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        stage.ledger.problem(format!("an agent gave up: {error}"));
    }
}

/// Of all secrets the one in use alone is in memory.
async fn look_for_secrets(stage: &Stage, daemon: &Daemon, current: &str) {
    let needles = [SECRET_MARK, current].map(|text| text.as_bytes().to_vec());
    if !memory::is_open(daemon.pid()) {
        return;
    }
    let mut found = Vec::new();
    for _ in 0..100 {
        found = memory::count(daemon.pid(), &needles).await;
        if found[0] == found[1] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "secrets in memory: {}, of which in use: {}",
        found[0], found[1]
    );
    if found[1] == 0 || found[0] != found[1] {
        stage
            .ledger
            .problem(format!("secrets in memory: {found:?}"));
    }
}
