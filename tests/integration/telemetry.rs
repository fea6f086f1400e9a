//! Traces, as a collector reads them that decodes with OpenTelemetry's own schema.

use std::convert::Infallible;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::common::{Ask, Daemon, Setup, Upstream, secrets, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;

/// What came, and with which headers.
type Took<T> = (T, HeaderMap);

/// Takes traces and metrics over HTTP and gRPC; ends with the test.
struct Collector {
    address: SocketAddr,
    traces: Receiver<Took<ExportTraceServiceRequest>>,
    metrics: Receiver<Took<ExportMetricsServiceRequest>>,
    _serving: AbortOnDropHandle<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((send_traces, traces), (send_metrics, metrics)) = (channel(), channel());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let senders = (send_traces.clone(), send_metrics.clone());
                let service = service_fn(move |request| {
                    let (traces, metrics) = senders.clone();
                    async move { Ok::<_, Infallible>(answer(request, &traces, &metrics).await) }
                });
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let stream = TokioIo::new(stream);
                    let _ = server.serve_connection(stream, service).await;
                });
            }
        });
        Self {
            address,
            traces,
            metrics,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    fn setup(&self, upstream: &Upstream) -> Setup {
        Setup::before(upstream)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.url())
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// With the headers that it came with.
    async fn span(&self) -> (Span, HeaderMap) {
        let (batch, headers) = next(&self.traces, |_| true).await;
        let resource = &batch.resource_spans[0];
        is_named(resource.resource.as_ref());
        (resource.scope_spans[0].spans[0].clone(), headers)
    }

    /// Waits until the value of this sum, with this label's value, is told.
    async fn sum(&self, name: &str, label: (&str, &str), wanted: i64) {
        next(&self.metrics, |batch| {
            let resource = &batch.resource_metrics[0];
            is_named(resource.resource.as_ref());
            let mut metrics = resource.scope_metrics[0].metrics.iter();
            let metric = metrics.find(|metric| metric.name == name).unwrap();
            let Some(Data::Sum(sum)) = &metric.data else {
                panic!("{metric:?}")
            };
            assert!(sum.is_monotonic);
            let points = sum.data_points.iter();
            let of = |point: &&_| text(attributes_of(point), label.0).as_deref() == Some(label.1);
            let values = points.filter(of).map(|point| match point.value {
                Some(number_data_point::Value::AsInt(number)) => number,
                _ => panic!("{point:?}"),
            });
            values.sum::<i64>() == wanted
        })
        .await;
    }
}

fn attributes_of(
    point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint,
) -> &[opentelemetry_proto::tonic::common::v1::KeyValue] {
    &point.attributes
}

fn is_named(resource: Option<&Resource>) {
    let name = text(&resource.unwrap().attributes, "service.name");
    assert_eq!(name.as_deref(), Some("mcp-auth-proxy"));
}

/// The next that is as wanted.
async fn next<T: Debug>(batches: &Receiver<Took<T>>, is_wanted: impl Fn(&T) -> bool) -> Took<T> {
    let waiting = async {
        loop {
            match batches.try_recv() {
                Ok(took) => {
                    secrets::assert_none("what a collector gets", &format!("{:?}", took.0));
                    if is_wanted(&took.0) {
                        return took;
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let waiting = tokio::time::timeout(Duration::from_secs(20), waiting);
    waiting.await.expect("a batch should have come")
}

async fn answer(
    request: Request<Incoming>,
    traces: &Sender<Took<ExportTraceServiceRequest>>,
    metrics: &Sender<Took<ExportMetricsServiceRequest>>,
) -> Response<http_body_util::combinators::BoxBody<Bytes, Infallible>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let is_grpc = head.headers["content-type"] == "application/grpc";
    let message = if is_grpc {
        assert_eq!(body[0], 0);
        assert_eq!(body[1..5], (body.len() as u32 - 5).to_be_bytes());
        assert_eq!(head.headers["te"], "trailers");
        body.slice(5..)
    } else {
        assert_eq!(head.headers["content-type"], "application/x-protobuf");
        body
    };
    match head.uri.path() {
        "/v1/traces" | "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
            let batch = ExportTraceServiceRequest::decode(message).unwrap();
            let _ = traces.send((batch, head.headers));
        }
        "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
            let batch = ExportMetricsServiceRequest::decode(message).unwrap();
            let _ = metrics.send((batch, head.headers));
        }
        other => panic!("{other}"),
    }
    if !is_grpc {
        return Response::new(Full::default().boxed());
    }
    let trailers = async {
        Some(Ok(HeaderMap::from_iter([(
            "grpc-status".parse().unwrap(),
            "0".parse().unwrap(),
        )])))
    };
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Full::from(vec![0; 5]).with_trailers(trailers).boxed())
        .unwrap()
}

fn text(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    key: &str,
) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_call_is_a_span_between_the_clients_and_the_upstreams() {
    let (collector, upstream) = (Collector::start().await, Upstream::https());
    let daemon = collector.setup(&upstream).start().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let ask = Ask::post("/mcp?token=private", CALL).header("traceparent", &parent);
    assert_eq!(daemon.ask(ask).await.status, 200);
    let (span, _) = collector.span().await;
    assert_eq!(span.name, "tools/call echo");
    assert_eq!(
        (hex(&span.trace_id), hex(&span.parent_span_id)),
        (TRACE.into(), "00f067aa0ba902b7".into())
    );
    let sent = upstream.last().header("traceparent").unwrap().to_owned();
    assert_eq!(sent, format!("00-{TRACE}-{}-01", hex(&span.span_id)));
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/mcp"),
        ("http.route", "/"),
        ("http.response.status_code", "200"),
        ("mcp.method.name", "tools/call"),
        ("gen_ai.tool.name", "echo"),
        ("mcp_auth_proxy.upstream", "up"),
    ] {
        assert_eq!(text(&span.attributes, key).as_deref(), Some(value), "{key}");
    }
    assert!(!format!("{span:?}").contains("private"));
    until("the batch was counted", || {
        daemon
            .metric(r#"mcp_auth_proxy_telemetry_exports_total{signal="traces",outcome="success"}"#)
            >= 1.0
    })
    .await;
}

#[tokio::test]
async fn a_message_may_name_its_parent_and_the_last_span_leaves_before_the_end() {
    let (collector, upstream) = (Collector::start().await, Upstream::https());
    let setup = collector
        .setup(&upstream)
        .env("OTEL_BSP_SCHEDULE_DELAY", "60000");
    let mut daemon = setup.start().await;
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{"traceparent":"00-{TRACE}-00f067aa0ba902b7-01"}}}}}}"#
    );
    daemon.post("/mcp", &call).await;
    daemon.stop().await;
    let (span, _) = collector.span().await;
    assert_eq!(
        (span.name.as_str(), hex(&span.trace_id)),
        ("ping", TRACE.into())
    );
}

#[tokio::test]
async fn what_is_not_sampled_costs_the_collector_nothing() {
    let (collector, upstream) = (Collector::start().await, Upstream::https());
    let setup = collector
        .setup(&upstream)
        .env("OTEL_TRACES_SAMPLER", "always_off");
    let mut daemon = setup.start().await;
    daemon.post("/mcp", CALL).await;
    let sent = upstream.last().header("traceparent").unwrap().to_owned();
    assert!(sent.ends_with("-00"), "{sent}");
    daemon.stop().await;
    assert!(collector.traces.try_recv().is_err());
}

#[tokio::test]
async fn a_collector_that_is_down_costs_a_counter_and_no_request() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let daemon = setup.start().await;
    for _ in 0..20 {
        assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    }
    until("the failure was counted", || {
        daemon
            .metric(r#"mcp_auth_proxy_telemetry_exports_total{signal="traces",outcome="failure"}"#)
            >= 1.0
    })
    .await;
}

#[tokio::test]
async fn a_variable_that_is_not_understood_is_said_and_the_daemon_serves() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    let daemon = setup.start().await;
    let line = daemon
        .logged("why", |line| line["msg"] == "configuration")
        .await;
    let warning = line["warning"].as_str().unwrap();
    assert!(
        warning.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && warning.contains("http/protobuf"),
        "{line}"
    );
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
}

async fn failing(daemon: &Daemon) -> serde_json::Value {
    daemon
        .logged("why", |line| {
            line["msg"] == "the collector takes no telemetry"
        })
        .await
}

#[tokio::test]
async fn over_grpc_both_signals_come_with_the_tokens_that_the_file_names() {
    let (collector, upstream) = (Collector::start().await, Upstream::https());
    let daemon = Setup::before(&upstream)
        .more(&format!(
            "[telemetry]\nendpoint = \"{}\"\nprotocol = \"grpc\"\nmetrics_interval = \"50ms\"\nheaders = {{ x-token = {{ env = \"TOKEN\" }} }}\n",
            collector.url()
        ))
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("TOKEN", "t0ken")
        .start()
        .await;
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    let (span, headers) = collector.span().await;
    assert_eq!(span.name, "tools/call echo");
    assert_eq!(headers["x-token"], "t0ken");
    collector
        .sum("mcp_auth_proxy_requests", ("status", "2xx"), 1)
        .await;
    for signal in ["traces", "metrics"] {
        let metric = format!(
            r#"mcp_auth_proxy_telemetry_exports_total{{signal="{signal}",outcome="success"}}"#
        );
        until("the batch was counted", || daemon.metric(&metric) >= 1.0).await;
    }
}

#[tokio::test]
async fn metrics_alone_are_sent_again_and_again_and_once_more_at_the_end() {
    let (collector, upstream) = (Collector::start().await, Upstream::https());
    let setup = collector
        .setup(&upstream)
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "60000");
    let mut daemon = setup.start().await;
    daemon.post("/mcp", CALL).await;
    daemon.stop().await;
    collector
        .sum("mcp_auth_proxy_requests", ("status", "2xx"), 1)
        .await;
    assert!(collector.traces.try_recv().is_err());
}

#[tokio::test]
async fn a_share_of_traces_is_sampled_and_the_environment_comes_first() {
    let (collector, upstream) = (Collector::start().await, Upstream::https());
    let file = format!(
        "[telemetry]\nendpoint = \"{}\"\nsample_percent = 0\n",
        collector.url()
    );
    let daemon = Setup::before(&upstream).more(&file).start().await;
    daemon.post("/mcp", CALL).await;
    assert!(
        upstream
            .last()
            .header("traceparent")
            .unwrap()
            .ends_with("-00")
    );
    let sampled = Setup::before(&upstream).more(&file);
    let daemon = sampled
        .env("OTEL_TRACES_SAMPLER", "always_on")
        .start()
        .await;
    daemon.post("/mcp", CALL).await;
    assert!(
        upstream
            .last()
            .header("traceparent")
            .unwrap()
            .ends_with("-01")
    );
}

#[tokio::test]
async fn a_collector_that_is_down_is_told_of_once() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "20");
    let mut daemon = setup.start().await;
    let line = failing(&daemon).await;
    assert_eq!(line["signal"], "metrics");
    until("it failed again", || {
        daemon
            .metric(r#"mcp_auth_proxy_telemetry_exports_total{signal="metrics",outcome="failure"}"#)
            >= 3.0
    })
    .await;
    daemon.stop().await;
    let told = daemon
        .text()
        .matches("the collector takes no telemetry")
        .count();
    assert_eq!(told, 1);
    // Nor were there others like it, which are counted instead of written.
    assert!(!daemon.text().contains("the line before came"));
}

#[tokio::test]
async fn what_stands_beside_a_trace_goes_with_it() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let ask = Ask::post("/mcp", CALL)
        .header("traceparent", &parent)
        .header("tracestate", "acme=1")
        .header("baggage", "tenant=7");
    daemon.ask(ask).await;
    let seen = upstream.last();
    for (name, value) in [
        ("traceparent", parent.as_str()),
        ("tracestate", "acme=1"),
        ("baggage", "tenant=7"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{"traceparent":"{parent}","tracestate":"acme=2"}}}}}}"#
    );
    daemon.post("/mcp", &call).await;
    let seen = upstream.last();
    assert_eq!(
        (seen.header("traceparent"), seen.header("tracestate")),
        (Some(parent.as_str()), Some("acme=2"))
    );
}
