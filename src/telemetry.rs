//! Traces over OTLP (HTTP with protobuf): one span per request, where the environment names a collector.
//!
//! The official SDK samples, batches on a thread of its own and drops what the collector does not
//! take; requests never wait for it. What it sends goes through our own [`Client`], so that TLS,
//! proxies and deadlines are those of every other connection.

mod collector;
mod span;

pub use span::{End, Trace};

use std::fmt;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::client::ProxyVariables;
use crate::metrics::Metrics;

use self::collector::Collector;

/// How long an exit waits for the last spans to be sent.
const FAREWELL: Duration = Duration::from_secs(1);

pub struct Telemetry {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// What the environment asks for that is not there.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Telemetry {
    /// As the variables of the OpenTelemetry specification say; `None` if none of them names a collector.
    ///
    /// # Errors
    /// When they name one that cannot be used.
    pub fn from_env(
        env: &impl Fn(&str) -> Option<String>,
        proxies: &ProxyVariables,
        runtime: Handle,
        metrics: &Metrics,
    ) -> Result<Option<Self>, Unusable> {
        let Some(endpoint) = endpoint(env)? else {
            return Ok(None);
        };
        let unusable = |reason: String| Unusable(format!("{endpoint}: {reason}"));
        let collector = Collector::new(&endpoint, proxies, runtime, metrics).map_err(unusable)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector)
            .with_endpoint(&endpoint)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let mut resource = Resource::builder();
        let is_named = env("OTEL_SERVICE_NAME").is_some()
            || env("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
        if !is_named {
            resource = resource.with_service_name("mcp-auth-proxy");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("mcp-auth-proxy");
        Ok(Some(Self { provider, tracer }))
    }

    /// Sends what is left, for a second at most. Blocks; the runtime must go on meanwhile.
    pub fn flush(&self) {
        let _ = self.provider.shutdown_with_timeout(FAREWELL);
    }
}

/// Where spans go: OpenTelemetry, "OTLP Exporter Configuration" and "General SDK Configuration".
fn endpoint(env: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, Unusable> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let is_off = env("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || env("OTEL_TRACES_EXPORTER").is_some_and(|value| value != "otlp");
    let own = env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    let base = env("OTEL_EXPORTER_OTLP_ENDPOINT");
    let endpoint = match (own, base) {
        _ if is_off => return Ok(None),
        (None, None) => return Ok(None),
        (Some(own), _) => own,
        (None, Some(base)) => format!("{}/v1/traces", base.trim_end_matches('/')),
    };
    let protocol = env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or(env("OTEL_EXPORTER_OTLP_PROTOCOL"));
    match protocol.as_deref() {
        None | Some("http/protobuf") => Ok(Some(endpoint)),
        Some(other) => Err(Unusable(format!(
            "OTLP is spoken as http/protobuf alone, not as {other}; most collectors take it on port 4318"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint_of(variables: &[(&str, &str)]) -> Result<Option<String>, Unusable> {
        endpoint(&|name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_collector_has_to_be_named_and_may_be_switched_off() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318/");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost/own");
        let named = |variables: &[_]| endpoint_of(variables).unwrap();
        assert_eq!(named(&[]), None);
        assert_eq!(named(&[base]).unwrap(), "http://localhost:4318/v1/traces");
        assert_eq!(named(&[base, own]).unwrap(), "http://localhost/own");
        for off in [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert_eq!(named(&[base, off]), None);
        }
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert!(
            endpoint_of(&[base, grpc])
                .unwrap_err()
                .0
                .contains("http/protobuf")
        );
    }
}
