//! How batches reach the collector.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Limited};
use opentelemetry_http::{HttpClient, HttpError};
use prometheus_client::metrics::counter::Counter;
use slog::{Logger, info, warn};
use tokio::runtime::Handle;

use super::{Surroundings, grpc};
use crate::client::Client;
use crate::config::{HttpVersion, Otlp, OtlpProtocol, TargetPath, Upstream};
use crate::message::RequestBody;

/// Of an answer, which is a few bytes.
const MAX_ANSWER: usize = 64 * 1024;

#[derive(Clone)]
pub struct Collector(Arc<Inner>);

struct Inner {
    signal: &'static str,
    client: Client,
    path: PathAndQuery,
    protocol: OtlpProtocol,
    headers: HeaderMap,
    /// For one batch; the next one waits meanwhile.
    timeout: Duration,
    /// The SDK's thread has none of its own.
    runtime: Handle,
    sent: Counter,
    failed: Counter,
    is_failing: AtomicBool,
    log: Logger,
}

impl Collector {
    pub fn new<E>(signal: &'static str, otlp: &Otlp, around: &Surroundings<'_, E>) -> Self {
        let mut upstream = Upstream::unsigned("collector", otlp.target.clone());
        upstream.tls = Arc::clone(&otlp.tls);
        if otlp.protocol == OtlpProtocol::Grpc {
            upstream.http_version = HttpVersion::Http2;
        }
        let mut headers = match otlp.protocol {
            OtlpProtocol::HttpProtobuf => HeaderMap::from_iter([(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-protobuf"),
            )]),
            OtlpProtocol::Grpc => grpc::headers(),
        };
        let own = otlp.headers.iter();
        headers.extend(own.filter_map(|(name, text)| Some((name.clone(), text.header_value()?))));
        Self(Arc::new(Inner {
            signal,
            client: Client::new(&upstream, around.proxies),
            path: match &otlp.target.path {
                TargetPath::Endpoint(path) => path.clone(),
                TargetPath::Base(_) => PathAndQuery::from_static("/"),
            },
            protocol: otlp.protocol,
            headers,
            timeout: otlp.timeout,
            runtime: around.runtime.clone(),
            sent: around.metrics.export(signal, "success"),
            failed: around.metrics.export(signal, "failure"),
            is_failing: AtomicBool::new(false),
            log: around.log.clone(),
        }))
    }

    /// One attempt, counted. An answer's status is that of OTLP over HTTP, whatever was spoken.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn deliver(&self, message: Bytes) -> Result<Response<Bytes>, HttpError> {
        let sending = tokio::time::timeout(self.0.timeout, self.0.send(message)).await;
        let answer = sending.unwrap_or_else(|late| Err(late.into()));
        match &answer {
            Ok(answer) if answer.status().is_success() => self.0.took(),
            Ok(answer) => self
                .0
                .refused(&format_args!("it answers {}", answer.status())),
            Err(error) => self.0.refused(error),
        }
        answer
    }
}

impl Inner {
    async fn send(&self, message: Bytes) -> Result<Response<Bytes>, HttpError> {
        let body = match self.protocol {
            OtlpProtocol::HttpProtobuf => message,
            OtlpProtocol::Grpc => grpc::framed(&message),
        };
        let mut request = Request::post(self.path.as_str()).body(RequestBody::full(body))?;
        request.headers_mut().clone_from(&self.headers);
        let answer = self.client.send(&mut request, |_| {}).await;
        let (mut head, body) = answer.map_err(|failure| failure.cause)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?;
        if self.protocol == OtlpProtocol::Grpc {
            head.status = grpc::status(&head, body.trailers());
            return Ok(Response::from_parts(head, grpc::message(&body.to_bytes())));
        }
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    fn took(&self) {
        self.sent.inc();
        if self.is_failing.swap(false, Ordering::Relaxed) {
            info!(self.log, "the collector takes telemetry again"; "signal" => self.signal);
        }
    }

    /// Said once, until it goes on: a collector may be away for days.
    fn refused(&self, reason: &dyn fmt::Display) {
        self.failed.inc();
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            warn!(self.log, "the collector takes no telemetry"; "signal" => self.signal, "reason" => %reason);
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl HttpClient for Collector {
    /// The head that the SDK made is replaced by our own.
    fn send_bytes<'a, 'out>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'out>>
    where
        'a: 'out,
        Self: 'out,
    {
        let collector = self.clone();
        let delivering = async move { collector.deliver(request.into_body()).await };
        let sending = self.0.runtime.spawn(delivering);
        Box::pin(async move { sending.await.unwrap_or_else(|lost| Err(lost.into())) })
    }
}
