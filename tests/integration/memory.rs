//! What has left use has left the memory: secrets, tokens, and the blocks that MACs derive from them.

mod clients;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::common::{Ask, Daemon, KEY_ID, Setup, Upstream, Way, memory, upstream};
use crate::credentials::{CALL, start};

/// Rotations before anyone looks.
const ROTATIONS: usize = 4;

/// The secret that is in use after so many rotations; no two have a half in common.
fn secret(number: usize) -> String {
    let unique: String = (0..4)
        .map(|part| {
            format!(
                "{:08x}",
                0x9e37_79b9_u32.wrapping_mul((number * 4 + part + 1) as u32)
            )
        })
        .collect();
    format!("hush-{unique}-{number}")
}

/// As it is and as it could be written or derived.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut block = bytes.to_vec();
    block.resize(64, 0);
    let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    vec![
        bytes.to_vec(),
        hex.into_bytes(),
        BASE64.encode(bytes).trim_end_matches('=').into(),
        pad(0x36),
        pad(0x5c),
    ]
}

/// Requests of every kind, among them such as nobody answers to the end.
async fn traffic(daemon: &Daemon) {
    for way in Way::ALL {
        let mut client = daemon.client(way).await;
        for _ in 0..5 {
            assert_eq!(client.ask(Ask::post("/mcp", CALL)).await.status, 200);
        }
    }
    assert_eq!(daemon.get("/a").await.status, 200);
}

async fn rotate_and_look(
    upstream: &Upstream,
    credential: &str,
    retired: impl Fn(usize) -> Vec<String>,
) {
    let setup = Setup::before(upstream);
    setup.file("rotating", &secret(0));
    let daemon = start(upstream, setup, credential).await;
    traffic(&daemon).await;
    if !memory::is_open(daemon.pid()) {
        return;
    }
    let present = forms(&retired(0)[0]);
    // It is in use, so it must be somewhere: the search can find it.
    assert!(memory::count(daemon.pid(), &present).await[0] > 0);
    for number in 1..=ROTATIONS {
        daemon.setup.file("rotating", &secret(number));
        daemon.reload().await;
        traffic(&daemon).await;
    }
    let needles: Vec<_> = (0..ROTATIONS)
        .flat_map(&retired)
        .flat_map(|it| forms(&it))
        .collect();
    let what = format!("{credential}: of each secret as it is, in hex, in Base64, as pads");
    all_gone(&daemon, &what, &needles, || traffic(&daemon)).await;
}

/// Looked for while there is `work`. Gone are they when the last request of before is; that takes no seconds.
async fn all_gone<Work: Future<Output = ()>>(
    daemon: &Daemon,
    what: &str,
    needles: &[Vec<u8>],
    work: impl Fn() -> Work,
) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let (found, ()) = tokio::join!(memory::count(daemon.pid(), needles), work());
        if found.iter().all(|count| *count == 0) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn with_key(scheme: &str, lines: &str) -> String {
    format!("[credential.key.{scheme}]\n{lines}")
}

async fn on_both_protocols(credential: &str) {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        rotate_and_look(&upstream, credential, |number| vec![secret(number)]).await;
    }
}

#[tokio::test]
async fn a_replaced_gateway_secret_is_gone() {
    let lines = format!("key_id = {KEY_ID:?}\nsecret = {{ file = \"DIR/rotating\" }}");
    on_both_protocols(&with_key("auth-gateway", &lines)).await;
}

#[tokio::test]
async fn a_replaced_bearer_token_is_gone() {
    on_both_protocols(&with_key("bearer", "token = { file = \"DIR/rotating\" }")).await;
}

#[tokio::test]
async fn what_a_program_printed_is_gone_once_it_prints_another() {
    let token = "token = { command = [\"/bin/cat\", \"DIR/rotating\"] }";
    on_both_protocols(&with_key("bearer", token)).await;
}

#[tokio::test]
async fn a_replaced_secret_header_is_gone() {
    on_both_protocols(&with_key(
        "headers",
        "x-token = { file = \"DIR/rotating\" }",
    ))
    .await;
}

#[tokio::test]
async fn a_replaced_message_signature_key_is_gone() {
    let lines = "key_id = \"k\"\nalgorithm = \"hmac-sha256\"\nkey = { file = \"DIR/rotating\" }";
    on_both_protocols(&with_key("http-signature", lines)).await;
}

#[tokio::test]
async fn a_replaced_aws_key_is_gone() {
    let lines = "region = \"eu-central-1\"\nservice = \"execute-api\"\naccess_key_id = \"AKID\"\n\
                 secret_access_key = { file = \"DIR/rotating\" }\nsession_token = { file = \"DIR/rotating\" }";
    on_both_protocols(&with_key("aws-sigv4", lines)).await;
}

#[tokio::test]
async fn a_replaced_client_secret_and_the_tokens_it_got_are_gone() {
    for method in ["basic", "post"] {
        let issuer = Upstream::https();
        issuer.takes_unsigned();
        let fetched = Arc::new(AtomicUsize::new(0));
        issuer.at("/token", move |mut call| {
            let number = fetched.fetch_add(1, Ordering::SeqCst);
            async move {
                call.read().await?;
                let token = json!({
                    "access_token": secret(100 + number),
                    "token_type": "Bearer",
                    "expires_in": 3600,
                });
                Ok(upstream::json(token.to_string()))
            }
        });
        let lines = format!(
            "token_url = \"{}/token\"\nclient_id = \"me\"\nclient_auth = \"{method}\"\n\
             client_secret = {{ file = \"DIR/rotating\" }}\nca_file = \"DIR/ca.pem\"",
            issuer.url().trim_end_matches('/')
        );
        let credential = with_key("oauth-client-credentials", &lines);
        let upstream = Upstream::https();
        rotate_and_look(&upstream, &credential, |number| {
            vec![secret(number), secret(100 + number)]
        })
        .await;
    }
}
