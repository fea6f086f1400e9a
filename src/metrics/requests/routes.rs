//! Requests by route and HTTP method: a series appears with its first request, and their number
//! is bounded, however often routes are renamed by reloads.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::Method;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{CLASSES, status_class};
use crate::metrics::family::Labels;

/// Routes counted by path in the life of the process; those that come later count as `other`.
const MAX_ROUTES: usize = 2_000;

const METHODS: [&str; 4] = ["POST", "GET", "DELETE", "other"];

#[derive(Default)]
pub struct Routes {
    requests: Family<Labels<4>, Counter>,
    known: Mutex<HashSet<Box<str>>>,
}

impl Routes {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "route_requests",
            "Requests by route (the first 2000), upstream, HTTP method and class of the status",
            self.requests.clone(),
        );
    }

    /// `path` is the route's, as it is configured.
    pub fn of(&self, path: &str, upstream: &str) -> Arc<RouteMetrics> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_counted = known.contains(path) || known.len() < MAX_ROUTES;
        if is_counted {
            known.insert(path.into());
        }
        let path = match path {
            _ if !is_counted => "other",
            "" => "/",
            path => path,
        };
        Arc::new(RouteMetrics {
            path: path.into(),
            upstream: upstream.into(),
            requests: self.requests.clone(),
            counters: Default::default(),
        })
    }
}

/// One route's members, each looked up in the family at its first request.
pub struct RouteMetrics {
    path: Box<str>,
    upstream: Box<str>,
    requests: Family<Labels<4>, Counter>,
    counters: [[OnceLock<Counter>; CLASSES]; METHODS.len()],
}

impl RouteMetrics {
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// `class` is the hundreds of the status, 0 if there was none.
    pub fn count(&self, method: &Method, class: usize) {
        let method = match *method {
            Method::POST => 0,
            Method::GET => 1,
            Method::DELETE => 2,
            _ => 3,
        };
        let counter = self.counters[method][class].get_or_init(|| {
            let labels = [
                ("route", self.path.to_string()),
                ("upstream", self.upstream.to_string()),
                ("method", METHODS[method].to_owned()),
                ("status", status_class(class)),
            ];
            self.requests.get_or_create(&labels).clone()
        });
        counter.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn a_thousand_routes_cost_only_what_is_used_and_endless_new_ones_share_a_series() {
        let routes = Routes::default();
        let mut registry = Registry::default();
        routes.register(&mut registry);
        for index in 0..MAX_ROUTES + 10 {
            let route = routes.of(&format!("/{index}"), "acme");
            if index % 500 == 0 || index >= MAX_ROUTES {
                route.count(&Method::POST, 2);
            }
        }
        // A reload asks for the same routes again.
        routes.of("/500", "acme").count(&Method::POST, 2);
        routes.of("/500", "acme").count(&Method::PATCH, 0);
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        let series: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(series.len(), 6, "{page}");
        for line in [
            r#"route_requests_total{route="/500",upstream="acme",method="POST",status="2xx"} 2"#,
            r#"route_requests_total{route="/500",upstream="acme",method="other",status="none"} 1"#,
            r#"route_requests_total{route="other",upstream="acme",method="POST",status="2xx"} 10"#,
        ] {
            assert!(series.contains(&line), "{line} is not in:\n{page}");
        }
    }
}
