use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::client::ProxyVariables;
use crate::config::{ClientProof, Target, Text, TokenIssuer};
use crate::metrics::Metrics;
use crate::secret::Secret;

/// An issuer that answers when it is told to, and how often it was asked.
struct Fake {
    url: String,
    asked: Arc<AtomicUsize>,
    answer: Arc<Notify>,
}

impl Fake {
    async fn start(lifetime: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, told) = (Arc::clone(&asked), Arc::clone(&answer));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (count, told) = (Arc::clone(&count), Arc::clone(&told));
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    while stream
                        .read(&mut request)
                        .await
                        .is_ok_and(|length| length > 0)
                    {
                        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                        told.notified().await;
                        let body =
                            format!(r#"{{"access_token":"t{number}","expires_in":{lifetime}}}"#);
                        let head =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                        let _ = stream.write_all((head + &body).as_bytes()).await;
                    }
                });
            }
        });
        Self { url, asked, answer }
    }

    fn tokens(&self) -> Arc<Tokens> {
        let secret = || Secret::new(b"s".to_vec());
        let config = Oauth {
            issuer: TokenIssuer::TokenUrl {
                url: self.url.clone(),
                target: Target::endpoint(&self.url).unwrap(),
            },
            client_id: Text {
                secret: secret(),
                hidden: false,
            },
            client: ClientProof::SecretPost(secret()),
            scope: None,
            resource: None,
            timeout: Duration::from_secs(10),
            tls: Arc::default(),
        };
        let around = Surroundings {
            proxies: &ProxyVariables::new(|_| None),
            metrics: Metrics::default().credential("test"),
            log: &Logger::root(slog::Discard, slog::o!()),
        };
        Arc::new(Tokens::new("test", &config, &around).unwrap())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A token that has expired, and this many requests that want one.
async fn wait_together(requests: usize) {
    let issuer = Fake::start(1).await;
    let tokens = issuer.tokens();
    issuer.answer.notify_one();
    tokens.token().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let waiting: Vec<_> = (0..requests)
        .map(|_| {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(async move { tokens.token().await.map(|token| token.header()) })
        })
        .collect();
    while tokens.settled.receiver_count() < requests {
        tokio::task::yield_now().await;
    }
    issuer.answer.notify_one();
    for waiting in waiting {
        let header = HeaderMap::from(waiting.await.unwrap().unwrap());
        assert_eq!(header["authorization"], "Bearer t2");
    }
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn ten_thousand_requests_that_wait_for_a_token_cost_one_exchange() {
    wait_together(10_000).await;
}

#[tokio::test]
async fn a_request_that_leaves_does_not_end_the_exchange_that_it_began() {
    let issuer = Fake::start(3600).await;
    let tokens = issuer.tokens();
    let left = tokio::time::timeout(Duration::from_millis(50), tokens.token()).await;
    assert!(left.is_err(), "the issuer has not answered");
    issuer.answer.notify_one();
    assert!(tokens.token().await.is_ok());
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_token_without_a_lifetime_worth_the_name_is_fetched_once_and_used() {
    let issuer = Fake::start(0).await;
    let tokens = issuer.tokens();
    // As often as it likes to be asked.
    let answer = Arc::clone(&issuer.answer);
    let answers = tokio::spawn(async move {
        loop {
            answer.notify_one();
            tokio::task::yield_now().await;
        }
    });
    let token = tokio::time::timeout(Duration::from_secs(10), tokens.token()).await;
    answers.abort();
    let header = HeaderMap::from(token.unwrap().unwrap().header());
    assert_eq!(header["authorization"], "Bearer t1");
    assert_eq!(issuer.asked(), 1);
}
