//! Percentiles from the buckets that `/metrics` counts in.

use std::collections::BTreeMap;

const NAME: &str = "mcp_auth_proxy_request_duration_seconds_bucket{";

/// By upstream: requests up to each bucket's limit in seconds, cumulative, in order.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Latencies(BTreeMap<String, Vec<(f64, f64)>>);

impl Latencies {
    /// Reads an OpenMetrics page; series of one upstream are added up.
    pub fn of(page: &str) -> Self {
        let mut all: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for line in page.lines().filter_map(|line| line.strip_prefix(NAME)) {
            let Some((labels, rest)) = line.split_once("} ") else {
                continue;
            };
            let limit = label(labels, "le").and_then(|le| le.parse::<f64>().ok());
            let count = rest.split(' ').next().and_then(|n| n.parse::<f64>().ok());
            let (Some(upstream), Some(limit), Some(count)) =
                (label(labels, "upstream"), limit, count)
            else {
                continue;
            };
            let buckets = all.entry(upstream.to_owned()).or_default();
            match buckets.iter_mut().find(|(known, _)| *known == limit) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((limit, count)),
            }
        }
        for buckets in all.values_mut() {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Self(all)
    }

    /// What came since `before`, which a restart of the daemon makes void.
    pub fn since(&self, before: &Self) -> Self {
        let mut rest = self.clone();
        for (upstream, buckets) in &mut rest.0 {
            let Some(before) = before.0.get(upstream) else {
                continue;
            };
            let is_later = before.len() == buckets.len()
                && before
                    .iter()
                    .zip(&*buckets)
                    .all(|(then, now)| then.1 <= now.1);
            if is_later {
                for (now, then) in buckets.iter_mut().zip(before) {
                    now.1 -= then.1;
                }
            }
        }
        rest
    }

    /// `12 requests, 50 % within 3 ms, …`; `None` where there was no request.
    pub fn describe(&self, upstream: &str) -> Option<String> {
        let buckets = self.0.get(upstream)?;
        let total = buckets.last().map(|(_, count)| *count)?;
        if total < 1.0 {
            return None;
        }
        let within = |percent: u32| {
            let limit = quantile(buckets, total * f64::from(percent) / 100.0);
            format!("{percent} % within {limit}")
        };
        let shares = [50, 95, 99].map(within).join(", ");
        Some(format!("{total} requests, {shares}"))
    }
}

/// The value of one label; ours need no escapes that matter here.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mark = format!("{name}=\"");
    let mut starts = labels.match_indices(&*mark).map(|(at, _)| at);
    let at = starts.find(|&at| at == 0 || labels[..at].ends_with(','))?;
    labels[at + mark.len()..].split('"').next()
}

/// Where the `rank`th request lies, taken to be spread evenly over its bucket.
fn quantile(buckets: &[(f64, f64)], rank: f64) -> String {
    let mut below = (0.0, 0.0);
    for &(limit, count) in buckets {
        if count >= rank {
            if limit.is_infinite() {
                return format!("over {}", time(below.0));
            }
            let share = (rank - below.1) / (count - below.1).max(1.0);
            return time(below.0 + (limit - below.0) * share);
        }
        below = (limit, count);
    }
    "?".to_owned()
}

fn time(seconds: f64) -> String {
    if seconds < 0.01 {
        format!("{:.1} ms", seconds * 1000.0)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(counts: [u64; 3]) -> Latencies {
        let [one, two, all] = counts;
        let name = NAME;
        Latencies::of(&format!(
            "{name}le=\"0.001\",upstream=\"a\"}} {one}\n\
             {name}upstream=\"a\",le=\"0.1\"}} {two}\n\
             {name}upstream=\"a\",le=\"+Inf\"}} {all}\n\
             {name}upstream=\"b\",le=\"+Inf\"}} 0\nother 1\n"
        ))
    }

    #[test]
    fn percentiles_lie_within_their_buckets() {
        let text = page([50, 98, 100]).describe("a").unwrap();
        assert_eq!(
            text,
            "100 requests, 50 % within 1.0 ms, 95 % within 94 ms, 99 % within over 100 ms"
        );
        assert_eq!(page([0, 0, 0]).describe("a"), None);
        assert_eq!(page([0, 0, 0]).describe("b"), None);
        assert_eq!(page([0, 0, 0]).describe("c"), None);
    }

    #[test]
    fn only_what_came_between_counts_unless_the_daemon_is_another() {
        let between = page([5, 9, 9]).since(&page([1, 3, 3]));
        assert_eq!(between, page([4, 6, 6]));
        assert_eq!(page([1, 1, 1]).since(&page([5, 9, 9])), page([1, 1, 1]));
    }
}
