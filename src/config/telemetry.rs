//! `[telemetry]`, and the variables of the OpenTelemetry specification, which come before it
//! ("OTLP Exporter Configuration", "General SDK Configuration").
//!
//! The variables are often set for every program of a host: what is wrong with them is a warning,
//! as the specification wants it, and costs the signal that they speak of.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Uri};

use super::decode::{Field, Section};
use super::report::Report;
use super::secret::decode_text;
use super::tls::{certificates, read_certificates};
use super::tree::Origin;
use super::{Target, Text, Tls};
use crate::path;
use crate::secret::Secret;

/// How the exporters of one generation of the daemon are set up; a restart changes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    pub traces: Option<Otlp>,
    pub metrics: Option<Otlp>,
    /// Of the traces that begin here. `None`: as the environment says, or all.
    pub sample_percent: Option<u32>,
    pub metrics_interval: Duration,
}

/// Where one signal goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    pub url: String,
    pub target: Target,
    pub protocol: OtlpProtocol,
    pub headers: Vec<(HeaderName, Text)>,
    pub timeout: Duration,
    pub tls: Arc<Tls>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OtlpProtocol {
    #[default]
    HttpProtobuf,
    Grpc,
}

impl OtlpProtocol {
    const CHOICES: [(&str, Self); 2] =
        [("http/protobuf", Self::HttpProtobuf), ("grpc", Self::Grpc)];
}

/// Variables that may hold a token.
pub const SECRET_VARIABLES: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_HEADERS",
    TRACES.headers,
    METRICS.headers,
];

/// What is told of one signal alone.
struct Signal {
    exporter: &'static str,
    endpoint: &'static str,
    protocol: &'static str,
    headers: &'static str,
    timeout: &'static str,
    certificate: &'static str,
    /// Behind the endpoint.
    path: &'static str,
    /// The path of its gRPC method.
    method: &'static str,
}

const TRACES: Signal = Signal {
    exporter: "OTEL_TRACES_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    headers: "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    timeout: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    certificate: "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    path: "/v1/traces",
    method: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
};

const METRICS: Signal = Signal {
    exporter: "OTEL_METRICS_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    headers: "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    timeout: "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    certificate: "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
    path: "/v1/metrics",
    method: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
};

/// What the table says.
#[derive(Default)]
struct Written {
    endpoint: Option<String>,
    protocol: Option<OtlpProtocol>,
    traces: Option<bool>,
    metrics: Option<bool>,
    sample_percent: Option<u32>,
    metrics_interval: Option<Duration>,
    timeout: Option<Duration>,
    headers: Vec<(HeaderName, Text)>,
    tls: Arc<Tls>,
}

/// `None`: nothing is sent.
pub fn decode_telemetry(root: &mut Section<'_>) -> Option<Telemetry> {
    let env = Variables(root.report);
    let field = root.field("telemetry");
    let written = field.as_ref().and_then(|field| written(field, &env));
    let is_off = |value: &str| value.eq_ignore_ascii_case("true");
    if env.get("OTEL_SDK_DISABLED").is_some_and(is_off) {
        return None;
    }
    let written = written.unwrap_or_default();
    let traces = env.otlp(&TRACES, &written, written.traces);
    let metrics = env.otlp(&METRICS, &written, written.metrics);
    if traces.is_none() && metrics.is_none() {
        return None;
    }
    let interval = env.milliseconds("OTEL_METRIC_EXPORT_INTERVAL");
    let samples_by_variable = env.get("OTEL_TRACES_SAMPLER").is_some();
    Some(Telemetry {
        traces,
        metrics,
        sample_percent: written.sample_percent.filter(|_| !samples_by_variable),
        metrics_interval: interval
            .or(written.metrics_interval)
            .unwrap_or(Duration::from_secs(60)),
    })
}

fn written(field: &Field<'_>, env: &Variables<'_>) -> Option<Written> {
    let mut s = field.section()?;
    let endpoint = s.field("endpoint").and_then(|field| {
        let url = field.text()?.trim_end_matches('/').to_owned();
        field.parse(|_| Target::endpoint(&url))?;
        Some(url)
    });
    let is_named = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        TRACES.endpoint,
        METRICS.endpoint,
    ];
    if endpoint.is_none() && !is_named.iter().any(|name| env.get(name).is_some()) {
        let advice = "\"endpoint\" is missing; write the collector's URL, such as endpoint = \"http://localhost:4318\"";
        s.missing(&["endpoint"], advice.to_owned());
    }
    let protocol = s.field("protocol");
    let percent = s.field("sample_percent");
    let ca_file = s.field("ca_file").and_then(|field| certificates(&field));
    let written = Written {
        endpoint,
        protocol: protocol.and_then(|field| field.choice(&OtlpProtocol::CHOICES)),
        traces: s.field("traces").and_then(|field| field.boolean()),
        metrics: s.field("metrics").and_then(|field| field.boolean()),
        sample_percent: percent.and_then(|field| field.number(0, 100)),
        metrics_interval: s
            .field("metrics_interval")
            .and_then(|field| field.duration()),
        timeout: s.field("timeout").and_then(|field| field.duration()),
        headers: s
            .field("headers")
            .map(|field| headers(&field))
            .unwrap_or_default(),
        tls: Arc::new(Tls {
            extra_roots: ca_file.unwrap_or_default(),
            ..Tls::default()
        }),
    };
    s.finish();
    Some(written)
}

fn headers(field: &Field<'_>) -> Vec<(HeaderName, Text)> {
    let Some(section) = field.section() else {
        return Vec::new();
    };
    let header = |field: Field<'_>| {
        let Ok(name) = field.key().parse() else {
            field.key_problem("is no header name; write one such as \"authorization\"");
            return None;
        };
        Some((name, decode_text(&field, "the value")?))
    };
    section.entries().filter_map(header).collect()
}

struct Variables<'a>(&'a Report<'a>);

impl<'a> Variables<'a> {
    /// An empty one counts as unset.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.env.get(name).filter(|value| !value.is_empty())
    }

    fn warn(&self, name: &'static str, message: impl Into<String>) {
        self.0.warn(Origin::Variable(name), "", message);
    }

    /// The first of these that is set, and its name.
    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, &'a str)> {
        names
            .into_iter()
            .find_map(|name| Some((name, self.get(name)?)))
    }

    fn milliseconds(&self, name: &'static str) -> Option<Duration> {
        let number = self.get(name)?.parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            self.warn(name, "has no effect: it is no number of milliseconds");
        }
        number.map(Duration::from_millis)
    }

    fn otlp(&self, signal: &Signal, written: &Written, is_wanted: Option<bool>) -> Option<Otlp> {
        let is_wanted = match self.get(signal.exporter) {
            Some("otlp") => true,
            Some("none") => false,
            Some(_) => {
                self.warn(
                    signal.exporter,
                    "nothing is sent: the exporters here are otlp and none",
                );
                false
            }
            None => is_wanted.unwrap_or(true),
        };
        if !is_wanted {
            return None;
        }
        let (url, origin) = self.endpoint(signal, written)?;
        let protocol = self.protocol(signal, written)?;
        let url = match protocol {
            OtlpProtocol::HttpProtobuf => url,
            OtlpProtocol::Grpc => with_path(&url, signal.method)?,
        };
        let target = Target::endpoint(&url);
        let target = target.map_err(|reason| origin.map(|name| self.warn(name, reason)));
        let timeout = self
            .milliseconds(signal.timeout)
            .or_else(|| self.milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT"))
            .or(written.timeout);
        Some(Otlp {
            target: target.ok()?,
            url,
            protocol,
            headers: self.headers(signal, written),
            timeout: timeout.unwrap_or(Duration::from_secs(10)),
            tls: self.tls(signal).unwrap_or_else(|| Arc::clone(&written.tls)),
        })
    }

    /// With the variable that names it, if it was not the file.
    fn endpoint(
        &self,
        signal: &Signal,
        written: &Written,
    ) -> Option<(String, Option<&'static str>)> {
        const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        if let Some(own) = self.get(signal.endpoint) {
            return Some((own.to_owned(), Some(signal.endpoint)));
        }
        let (base, origin) = match (self.get(BASE), &written.endpoint) {
            (Some(base), _) => (base, Some(BASE)),
            (None, Some(base)) => (base.as_str(), None),
            (None, None) => return None,
        };
        let base = base.trim_end_matches('/');
        Some((format!("{base}{}", signal.path), origin))
    }

    fn protocol(&self, signal: &Signal, written: &Written) -> Option<OtlpProtocol> {
        let named = self.first([signal.protocol, "OTEL_EXPORTER_OTLP_PROTOCOL"]);
        let Some((name, value)) = named else {
            return Some(written.protocol.unwrap_or_default());
        };
        let choice = OtlpProtocol::CHOICES
            .iter()
            .find(|(word, _)| *word == value);
        if choice.is_none() {
            self.warn(
                name,
                "nothing is sent: the protocols here are http/protobuf and grpc",
            );
        }
        choice.map(|(_, protocol)| *protocol)
    }

    /// `name=value` pairs with commas between them, percent-encoded.
    fn headers(&self, signal: &Signal, written: &Written) -> Vec<(HeaderName, Text)> {
        let named = self.first([signal.headers, "OTEL_EXPORTER_OTLP_HEADERS"]);
        let Some((variable, list)) = named else {
            return written.headers.clone();
        };
        let header = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            let text = Text {
                secret: Secret::new(path::decode(value.trim()).into_owned()),
                hidden: true,
            };
            text.header_value()?;
            Some((name.trim().parse().ok()?, text))
        };
        let pairs = list.split(',').filter(|pair| !pair.trim().is_empty());
        let headers: Option<Vec<_>> = pairs.map(header).collect();
        headers.unwrap_or_else(|| {
            self.warn(
                variable,
                "has no effect: write name=value, with commas between several",
            );
            Vec::new()
        })
    }

    fn tls(&self, signal: &Signal) -> Option<Arc<Tls>> {
        let (name, path) = self.first([signal.certificate, "OTEL_EXPORTER_OTLP_CERTIFICATE"])?;
        let roots = read_certificates(Path::new(path));
        let roots = roots.map_err(|message| self.warn(name, format!("has no effect: {message}")));
        Some(Arc::new(Tls {
            extra_roots: roots.ok()?,
            ..Tls::default()
        }))
    }
}

/// gRPC knows hosts and ports; what stands behind them in the URL is not sent.
fn with_path(url: &str, path: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(format!("{}://{}{path}", uri.scheme()?, uri.authority()?))
}
