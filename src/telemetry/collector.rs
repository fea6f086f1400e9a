//! How batches of spans reach the collector.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use opentelemetry_http::{HttpClient, HttpError};
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Handle;

use crate::client::{Client, ProxyVariables};
use crate::config::{Target, Upstream};
use crate::message::RequestBody;
use crate::metrics::Metrics;

/// For one batch; the next one waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of an answer, which is a few bytes.
const MAX_ANSWER: usize = 64 * 1024;

pub struct Collector {
    client: Arc<Client>,
    /// The SDK's thread has none of its own.
    runtime: Handle,
    sent: Counter,
    failed: Counter,
}

impl Collector {
    pub fn new(
        endpoint: &str,
        proxies: &ProxyVariables,
        runtime: Handle,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let upstream = Upstream::unsigned("collector", Target::endpoint(endpoint)?);
        Ok(Self {
            client: Arc::new(Client::new(&upstream, proxies)),
            runtime,
            sent: metrics.export("success"),
            failed: metrics.export("failure"),
        })
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl HttpClient for Collector {
    fn send_bytes<'a, 'out>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'out>>
    where
        'a: 'out,
        Self: 'out,
    {
        let client = Arc::clone(&self.client);
        let sending = self.runtime.spawn(async move {
            let sending = send(&client, request.map(RequestBody::full));
            tokio::time::timeout(PATIENCE, sending).await?
        });
        Box::pin(async move {
            let answer = sending.await.unwrap_or_else(|lost| Err(lost.into()));
            match &answer {
                Ok(answer) if answer.status().is_success() => self.sent.inc(),
                _ => self.failed.inc(),
            };
            answer
        })
    }
}

async fn send(
    client: &Client,
    request: Request<RequestBody>,
) -> Result<Response<Bytes>, HttpError> {
    let answer = client.send(request, |_| {}).await;
    let (head, body) = answer.map_err(|failure| failure.cause)?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
