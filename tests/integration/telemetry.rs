//! Traces, as a collector reads them that decodes with OpenTelemetry's own schema.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::common::{Ask, Setup, Upstream, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;

/// Takes what is sent to `/v1/traces`; ends with the test.
struct Collector {
    address: SocketAddr,
    batches: Receiver<ExportTraceServiceRequest>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (send, batches) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                while let Some(batch) = read(&mut stream) {
                    stream
                        .get_mut()
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        .unwrap();
                    if send.send(batch).is_err() {
                        return;
                    }
                }
            }
        });
        Self { address, batches }
    }

    fn setup(&self, upstream: &Upstream) -> Setup {
        Setup::before(upstream)
            .env(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                &format!("http://{}", self.address),
            )
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
    }

    fn span(&self) -> Span {
        let batch = self.batches.recv_timeout(Duration::from_secs(20)).unwrap();
        let resource = &batch.resource_spans[0];
        let name = text(
            &resource.resource.as_ref().unwrap().attributes,
            "service.name",
        );
        assert_eq!(name.as_deref(), Some("mcp-auth-proxy"));
        resource.scope_spans[0].spans[0].clone()
    }
}

fn read(stream: &mut BufReader<std::net::TcpStream>) -> Option<ExportTraceServiceRequest> {
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).ok().filter(|read| *read > 0)?;
    assert_eq!(first, "POST /v1/traces HTTP/1.1\r\n");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(ExportTraceServiceRequest::decode(&*body).unwrap())
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
    let (collector, upstream) = (Collector::start(), Upstream::https());
    let daemon = collector.setup(&upstream).start().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let ask = Ask::post("/mcp?token=private", CALL).header("traceparent", &parent);
    assert_eq!(daemon.ask(ask).await.status, 200);
    let span = collector.span();
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
        daemon.metric(r#"mcp_auth_proxy_telemetry_exports_total{outcome="success"}"#) >= 1.0
    })
    .await;
}

#[tokio::test]
async fn a_message_may_name_its_parent_and_the_last_span_leaves_before_the_end() {
    let (collector, upstream) = (Collector::start(), Upstream::https());
    let setup = collector
        .setup(&upstream)
        .env("OTEL_BSP_SCHEDULE_DELAY", "60000");
    let mut daemon = setup.start().await;
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{"traceparent":"00-{TRACE}-00f067aa0ba902b7-01"}}}}}}"#
    );
    daemon.post("/mcp", &call).await;
    daemon.stop().await;
    let span = collector.span();
    assert_eq!(
        (span.name.as_str(), hex(&span.trace_id)),
        ("ping", TRACE.into())
    );
}

#[tokio::test]
async fn what_is_not_sampled_costs_the_collector_nothing() {
    let (collector, upstream) = (Collector::start(), Upstream::https());
    let setup = collector
        .setup(&upstream)
        .env("OTEL_TRACES_SAMPLER", "always_off");
    let mut daemon = setup.start().await;
    daemon.post("/mcp", CALL).await;
    let sent = upstream.last().header("traceparent").unwrap().to_owned();
    assert!(sent.ends_with("-00"), "{sent}");
    daemon.stop().await;
    assert!(collector.batches.try_recv().is_err());
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
        daemon.metric(r#"mcp_auth_proxy_telemetry_exports_total{outcome="failure"}"#) >= 1.0
    })
    .await;
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_is_said_and_the_daemon_serves() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let daemon = setup.start().await;
    let line = daemon
        .logged("why", |line| line["msg"] == "no traces are sent")
        .await;
    assert!(
        line["reason"].as_str().unwrap().contains("http/protobuf"),
        "{line}"
    );
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
}
