//! Requests by what they ask for in MCP: bounded, whatever clients make up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Labels, status_class};

/// Every method of every revision that a client sends, sorted; others count as `other`.
const METHODS: [&str; 24] = [
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
];

/// Tools counted by name, per upstream; those that come later count as `other`.
const MAX_TOOLS: usize = 100;

const OTHER: &str = "other";

/// The families, shared by all upstreams.
#[derive(Clone, Default)]
pub struct Families {
    methods: Family<Labels<3>, Counter>,
    tools: Family<Labels<3>, Counter>,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "mcp_requests",
            "JSON-RPC messages from clients by upstream, MCP method and class of the status",
            self.methods.clone(),
        );
        registry.register(
            "tool_calls",
            "Calls by upstream, tool (the first 100 by name) and class of the status",
            self.tools.clone(),
        );
    }

    pub fn of(&self, upstream: &str) -> Calls {
        Calls {
            upstream: upstream.to_owned(),
            families: self.clone(),
            methods: Mutex::default(),
            tools: Mutex::default(),
        }
    }
}

/// One upstream's members, each looked up in its family once.
pub struct Calls {
    upstream: String,
    families: Families,
    methods: Mutex<HashMap<(&'static str, usize), Counter>>,
    tools: Mutex<Tools>,
}

#[derive(Default)]
struct Tools {
    names: Vec<Box<str>>,
    counters: HashMap<(Option<usize>, usize), Counter>,
}

impl Calls {
    /// `class` is the hundreds of the status, 0 if there was none.
    pub fn count(&self, method: &str, name: Option<&str>, class: usize) {
        let method = METHODS
            .binary_search(&method)
            .map_or(OTHER, |index| METHODS[index]);
        let mut methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        methods
            .entry((method, class))
            .or_insert_with(|| self.member(&self.families.methods, "mcp_method", method, class))
            .inc();
        drop(methods);
        if let ("tools/call", Some(name)) = (method, name) {
            self.count_tool(name, class);
        }
    }

    fn count_tool(&self, name: &str, class: usize) {
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = tools.names.iter().position(|known| **known == *name);
        if index.is_none() && tools.names.len() < MAX_TOOLS {
            tools.names.push(name.into());
            index = Some(tools.names.len() - 1);
        }
        let shown = index.map_or(OTHER, |_| name);
        tools
            .counters
            .entry((index, class))
            .or_insert_with(|| self.member(&self.families.tools, "tool", shown, class))
            .inc();
    }

    fn member(
        &self,
        family: &Family<Labels<3>, Counter>,
        label: &'static str,
        value: &str,
        class: usize,
    ) -> Counter {
        let labels = [
            ("upstream", self.upstream.clone()),
            (label, value.to_owned()),
            ("status", status_class(class)),
        ];
        family.get_or_create(&labels).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(families: &Families) -> String {
        let mut registry = Registry::default();
        families.register(&mut registry);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        page
    }

    #[test]
    fn the_methods_are_sorted_as_they_are_searched() {
        assert!(METHODS.is_sorted());
    }

    #[test]
    fn made_up_methods_and_too_many_tools_share_one_series() {
        let families = Families::default();
        let calls = families.of("acme");
        for index in 0..300 {
            calls.count(&format!("made/{index}"), None, 2);
            calls.count("tools/call", Some(&format!("tool{index}")), 2);
        }
        let page = page(&families);
        for line in [
            r#"mcp_requests_total{upstream="acme",mcp_method="other",status="2xx"} 300"#,
            r#"mcp_requests_total{upstream="acme",mcp_method="tools/call",status="2xx"} 300"#,
            r#"tool_calls_total{upstream="acme",tool="tool99",status="2xx"} 1"#,
            r#"tool_calls_total{upstream="acme",tool="other",status="2xx"} 200"#,
        ] {
            assert!(page.contains(line), "{line} is not in:\n{page}");
        }
    }

    #[test]
    fn a_name_is_a_tool_only_in_a_call() {
        let families = Families::default();
        families.of("acme").count("prompts/get", Some("greet"), 4);
        assert!(!page(&families).contains("greet"));
    }
}
