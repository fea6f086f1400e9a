//! The numbers of `/metrics`, sent to the collector: they are counted once, whoever asks for them.
//!
//! Names and labels stay as they are; types and units become those of OTLP (OpenTelemetry,
//! "Prometheus and OpenMetrics Compatibility").

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value as Text,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use prost::Message;

use super::collector::Collector;
use super::{Surroundings, resource};
use crate::config;

pub struct Metering {
    pub interval: Duration,
    collector: Collector,
    resource: Resource,
    since: u64,
}

impl Metering {
    /// `None` if no metrics are wanted.
    pub fn start<E: Fn(&str) -> Option<String>>(
        config: &config::Telemetry,
        around: &Surroundings<'_, E>,
    ) -> Option<Self> {
        let otlp = config.metrics.as_ref()?;
        let attributes = ResourceAttributesWithSchema::from(&resource(around.env)).attributes;
        Some(Self {
            interval: config.metrics_interval,
            collector: Collector::new("metrics", otlp, around),
            resource: Resource {
                attributes: attributes.0,
                ..Resource::default()
            },
            since: nanoseconds(SystemTime::now()),
        })
    }

    /// Sends a page of OpenMetrics text. What is not taken is not lost: the next one counts on.
    pub async fn send(&self, page: &str) {
        let metrics = Reader {
            since: self.since,
            now: nanoseconds(SystemTime::now()),
            metrics: Vec::new(),
        };
        let scope = InstrumentationScope {
            name: "mcp-auth-proxy".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope),
                    metrics: metrics.read(page),
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        let _ = self
            .collector
            .deliver(Bytes::from(request.encode_to_vec()))
            .await;
    }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// From the text, which we wrote ourselves, to metrics.
struct Reader {
    since: u64,
    now: u64,
    metrics: Vec<Metric>,
}

impl Reader {
    fn read(mut self, page: &str) -> Vec<Metric> {
        let mut help = "";
        for line in page.lines() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("HELP"), Some(_), Some(text)) => help = text,
                (Some("#"), Some("TYPE"), Some(name), Some(word)) => {
                    self.metrics.push(self.family(name, help, word));
                }
                (Some("#"), Some("UNIT"), Some(_), Some(unit)) => {
                    if let Some(metric) = self.metrics.last_mut() {
                        metric.unit = unit_of(unit).to_owned();
                    }
                }
                (Some("#"), ..) => {}
                _ => drop(self.sample(line)),
            }
        }
        self.metrics.retain(|metric| !is_empty(metric));
        self.metrics
    }

    fn family(&self, name: &str, help: &str, kind: &str) -> Metric {
        let data = match kind {
            "counter" => Data::Sum(Sum {
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
                ..Sum::default()
            }),
            "histogram" => Data::Histogram(Histogram {
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                ..Histogram::default()
            }),
            _ => Data::Gauge(Gauge::default()),
        };
        Metric {
            name: name.to_owned(),
            description: help.trim_end_matches('.').to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    /// `None`: a line that is no sample.
    fn sample(&mut self, line: &str) -> Option<()> {
        let (labelled, number) = line.rsplit_once(' ')?;
        let (name, labels) = labelled.split_once('{').unwrap_or((labelled, "}"));
        let mut attributes = attributes(labels.strip_suffix('}')?);
        let (since, now) = (self.since, self.now);
        let point = |attributes| NumberDataPoint {
            attributes,
            start_time_unix_nano: since,
            time_unix_nano: now,
            value: value(number),
            ..NumberDataPoint::default()
        };
        let metric = self.metrics.last_mut()?;
        match metric.data.as_mut()? {
            Data::Sum(sum) => sum.data_points.push(point(attributes)),
            Data::Gauge(gauge) => {
                let gauge_point = NumberDataPoint {
                    start_time_unix_nano: 0,
                    ..point(attributes)
                };
                gauge.data_points.push(gauge_point);
            }
            Data::Histogram(histogram) => {
                let bound = attributes.iter().position(|label| label.key == "le");
                let bound = bound.map(|index| attributes.remove(index));
                let points = &mut histogram.data_points;
                if points
                    .last()
                    .is_none_or(|last| last.attributes != attributes)
                {
                    points.push(HistogramDataPoint {
                        attributes,
                        start_time_unix_nano: since,
                        time_unix_nano: now,
                        ..HistogramDataPoint::default()
                    });
                }
                let part = name.strip_prefix(metric.name.as_str())?;
                add(points.last_mut()?, part, bound, number)?;
            }
            _ => {}
        }
        Some(())
    }
}

/// Buckets of OpenMetrics count what is below their bound, those of OTLP what is between two.
fn add(
    point: &mut HistogramDataPoint,
    part: &str,
    bound: Option<KeyValue>,
    number: &str,
) -> Option<()> {
    match part {
        "_sum" => point.sum = Some(number.parse().ok()?),
        "_count" => point.count = number.parse().ok()?,
        "_bucket" => {
            let below: u64 = point.bucket_counts.iter().sum();
            let up_to: u64 = number.parse().ok()?;
            point.bucket_counts.push(up_to.checked_sub(below)?);
            let bound = text_of(&bound?)?.parse::<f64>().ok()?;
            if bound.is_finite() {
                point.explicit_bounds.push(bound);
            }
        }
        _ => return None,
    }
    Some(())
}

fn text_of(label: &KeyValue) -> Option<&str> {
    match label.value.as_ref()?.value.as_ref()? {
        Text::StringValue(text) => Some(text),
        _ => None,
    }
}

fn is_empty(metric: &Metric) -> bool {
    match &metric.data {
        Some(Data::Sum(sum)) => sum.data_points.is_empty(),
        Some(Data::Gauge(gauge)) => gauge.data_points.is_empty(),
        Some(Data::Histogram(histogram)) => histogram.data_points.is_empty(),
        _ => true,
    }
}

fn value(number: &str) -> Option<Value> {
    match number.parse() {
        Ok(whole) => Some(Value::AsInt(whole)),
        Err(_) => number.parse().ok().map(Value::AsDouble),
    }
}

/// UCUM has shorter names.
fn unit_of(unit: &str) -> &str {
    match unit {
        "seconds" => "s",
        "bytes" => "By",
        other => other,
    }
}

/// `name="value"` pairs with commas between them.
fn attributes(mut labels: &str) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    while let Some((name, rest)) = labels.split_once("=\"") {
        let (value, rest) = quoted(rest);
        attributes.push(KeyValue {
            key: name.trim_start_matches(',').to_owned(),
            value: Some(AnyValue {
                value: Some(Text::StringValue(value)),
            }),
            ..KeyValue::default()
        });
        labels = rest;
    }
    attributes
}

/// What stands before the closing quote, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, other)) => value.push(other),
                None => {}
            },
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::histogram::Histogram as Observed;
    use prometheus_client::registry::{Registry, Unit};

    fn read(registry: &Registry) -> Vec<Metric> {
        let mut page = String::new();
        encode(&mut page, registry).unwrap();
        let reader = Reader {
            since: 1,
            now: 2,
            metrics: Vec::new(),
        };
        reader.read(&page)
    }

    #[test]
    fn a_counter_keeps_its_labels_whatever_is_in_them() {
        let mut registry = Registry::default();
        let family = Family::<[(&'static str, String); 2], Counter>::default();
        registry.register("calls", "Calls", family.clone());
        registry.register(
            "none",
            "Never used",
            Family::<[(&'static str, String); 1], Counter>::default(),
        );
        let odd = "a\"b\\c\nd, e=\"{} 7";
        let labels = [("tool", odd.to_owned()), ("upstream", "acme".to_owned())];
        family.get_or_create(&labels).inc_by(3);
        let metrics = read(&registry);
        assert_eq!(metrics.len(), 1);
        assert_eq!(
            (&*metrics[0].name, &*metrics[0].description),
            ("calls", "Calls")
        );
        let Some(Data::Sum(sum)) = &metrics[0].data else {
            panic!("{metrics:?}")
        };
        assert!(sum.is_monotonic);
        let point = &sum.data_points[0];
        assert_eq!(point.value, Some(Value::AsInt(3)));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
        let texts: Vec<_> = point.attributes.iter().filter_map(text_of).collect();
        assert_eq!(texts, [odd, "acme"]);
    }

    #[test]
    fn a_histogram_counts_what_is_between_two_bounds() {
        let mut registry = Registry::default();
        let family = Family::<[(&'static str, String); 1], Observed>::new_with_constructor(|| {
            Observed::new([0.1, 1.0])
        });
        registry.register_with_unit("time", "Time", Unit::Seconds, family.clone());
        for (upstream, seconds) in [("a", 0.05), ("a", 0.5), ("a", 0.5), ("a", 7.0), ("b", 0.5)] {
            let labels = [("upstream", upstream.to_owned())];
            family.get_or_create(&labels).observe(seconds);
        }
        let metrics = read(&registry);
        assert_eq!(
            (&*metrics[0].name, &*metrics[0].unit),
            ("time_seconds", "s")
        );
        let Some(Data::Histogram(histogram)) = &metrics[0].data else {
            panic!("{metrics:?}")
        };
        assert_eq!(histogram.data_points.len(), 2);
        let is_a = |point: &&HistogramDataPoint| text_of(&point.attributes[0]) == Some("a");
        let a = histogram.data_points.iter().find(is_a).unwrap();
        assert_eq!((a.count, a.sum), (4, Some(8.05)));
        assert_eq!(a.explicit_bounds, [0.1, 1.0]);
        assert_eq!(a.bucket_counts, [1, 2, 1]);
    }
}
