//! One request's span, by the semantic conventions for HTTP and MCP.

use std::collections::HashMap;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::Span;

use super::Tracing;
use crate::mcp;

/// From the request's head to the end of its answer.
pub struct Trace {
    begun_at: SystemTime,
    parent: Context,
    span: Option<Span>,
}

/// What a request turned out to be.
pub struct End<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub route: Option<&'a str>,
    pub upstream: Option<&'a str>,
    pub mcp_method: Option<&'a str>,
    pub mcp_name: Option<&'a str>,
    pub is_local_socket: bool,
    pub status: u16,
    pub attempts: u32,
    /// Our own code, or how the answer was broken off.
    pub error: Option<&'a str>,
}

impl Trace {
    pub fn begin(headers: &HeaderMap) -> Self {
        Self {
            begun_at: SystemTime::now(),
            parent: parent(&HeaderExtractor(headers)),
            span: None,
        }
    }

    /// The `traceparent` for the upstream. `message` may say whose child the request is, where its
    /// head does not (MCP, `_meta`).
    pub fn open(&mut self, telemetry: &Tracing, message: Option<&[u8]>) -> Option<HeaderValue> {
        let is_orphan = !self.parent.span().span_context().is_valid();
        if let Some(meta) = message.filter(|_| is_orphan).and_then(meta) {
            self.parent = parent(&meta);
        }
        let span = telemetry
            .tracer
            .span_builder("request")
            .with_kind(SpanKind::Server)
            .with_start_time(self.begun_at);
        let span = span.start_with_context(&telemetry.tracer, &self.parent);
        let context = self.span.insert(span).span_context();
        traceparent(context)
    }

    pub fn end(mut self, telemetry: &Tracing, end: &End<'_>) {
        if self.span.is_none() {
            self.open(telemetry, None);
        }
        let Some(mut span) = self.span.filter(|span| span.is_recording()) else {
            return;
        };
        span.update_name(end.name());
        span.set_attributes(end.attributes());
        if end.error.is_some() || end.status >= 500 {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

fn parent(carrier: &dyn Extractor) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), carrier)
}

/// The keys of a JSON-RPC message that say whose child it is.
fn meta(message: &[u8]) -> Option<HashMap<String, String>> {
    let keys = mcp::trace_keys(message)?;
    let mut carrier = HashMap::from([("traceparent".to_owned(), keys.traceparent)]);
    carrier.extend(
        keys.tracestate
            .map(|state| ("tracestate".to_owned(), state)),
    );
    Some(carrier)
}

fn traceparent(context: &SpanContext) -> Option<HeaderValue> {
    let (trace, span) = (context.trace_id(), context.span_id());
    let flags = context.trace_flags().to_u8();
    let text = format!("00-{trace}-{span}-{flags:02x}");
    context
        .is_valid()
        .then(|| HeaderValue::try_from(text).ok())?
}

impl End<'_> {
    /// Few different ones: neither a resource's address nor a path the client made up.
    fn name(&self) -> String {
        match (self.mcp_method, self.mcp_name) {
            (Some(method @ ("tools/call" | "prompts/get")), Some(name)) => {
                format!("{method} {name}")
            }
            (Some(method), _) => method.to_owned(),
            (None, _) => match self.route {
                Some(route) => format!("{} {route}", self.method),
                None => self.method.to_string(),
            },
        }
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let text =
            |key, value: Option<&str>| value.map(|value| KeyValue::new(key, value.to_owned()));
        let number = |key, value: i64| (value > 0).then(|| KeyValue::new(key, value));
        let tool = self
            .mcp_name
            .filter(|_| self.mcp_method == Some("tools/call"));
        let prompt = self
            .mcp_name
            .filter(|_| self.mcp_method == Some("prompts/get"));
        let status = self.status.to_string();
        let error = self
            .error
            .or((self.status >= 500).then_some(status.as_str()));
        let transport = if self.is_local_socket { "unix" } else { "tcp" };
        [
            text("http.request.method", Some(self.method.as_str())),
            text("url.scheme", Some("http")),
            text("url.path", Some(self.path)),
            text("http.route", self.route),
            text("network.transport", Some(transport)),
            number("http.response.status_code", self.status.into()),
            number("http.request.resend_count", i64::from(self.attempts) - 1),
            text("mcp.method.name", self.mcp_method),
            text("gen_ai.tool.name", tool),
            text("gen_ai.prompt.name", prompt),
            text("mcp_auth_proxy.upstream", self.upstream),
            text("error.type", error),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
