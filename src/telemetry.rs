//! Traces and metrics over OTLP, where a collector is named.
//!
//! The official SDK samples and batches spans on a thread of its own and drops what the collector
//! does not take; requests never wait for it. The numbers of `/metrics` are counted once, and sent
//! as they stand. Both leave through our own [`Client`](crate::client::Client), so that TLS,
//! proxies and deadlines are those of every other connection.

mod collector;
mod grpc;
mod metering;
mod span;

pub use metering::Metering;
pub use span::{End, Trace};

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use slog::Logger;
use tokio::runtime::Handle;

use crate::client::ProxyVariables;
use crate::config;
use crate::metrics::Metrics;

use self::collector::Collector;

/// How long an exit waits for the last of it to be sent.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// What exporters need of the daemon around them.
pub struct Surroundings<'a, E> {
    pub env: &'a E,
    pub proxies: &'a ProxyVariables,
    pub runtime: Handle,
    pub metrics: &'a Metrics,
    pub log: &'a Logger,
}

/// Where requests leave their spans.
pub struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Tracing {
    /// `None` if no traces are wanted.
    ///
    /// # Errors
    /// A sentence, when the SDK refuses what it was told.
    pub fn start<E: Fn(&str) -> Option<String>>(
        config: &config::Telemetry,
        around: &Surroundings<'_, E>,
    ) -> Result<Option<Self>, String> {
        let Some(otlp) = &config.traces else {
            return Ok(None);
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new("traces", otlp, around))
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_endpoint(&otlp.url)
            .with_timeout(otlp.timeout)
            .build()
            .map_err(|error| format!("{}: {error}", otlp.url))?;
        let mut provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(around.env));
        if let Some(percent) = config.sample_percent {
            let share = Sampler::TraceIdRatioBased(f64::from(percent) / 100.0);
            provider = provider.with_sampler(Sampler::ParentBased(Box::new(share)));
        }
        let provider = provider.build();
        let tracer = provider.tracer("mcp-auth-proxy");
        Ok(Some(Self { provider, tracer }))
    }

    /// Sends what is left, for a second at most. Blocks; the runtime must go on meanwhile.
    pub fn flush(&self) {
        let _ = self.provider.shutdown_with_timeout(FAREWELL);
    }
}

/// Who it is that sends; the environment may say more (`OTEL_RESOURCE_ATTRIBUTES`).
fn resource(env: &impl Fn(&str) -> Option<String>) -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let mut resource = Resource::builder().with_attribute(version);
    let is_named = env("OTEL_SERVICE_NAME").is_some()
        || env("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
    if !is_named {
        resource = resource.with_service_name("mcp-auth-proxy");
    }
    resource.build()
}
