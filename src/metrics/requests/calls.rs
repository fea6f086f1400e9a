//! Requests by what they ask for in MCP: bounded, whatever clients make up.

use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{CLASSES, status_class};
use crate::metrics::family::Labels;

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
            methods: Default::default(),
            tools: Mutex::default(),
        }
    }
}

/// One upstream's members, each looked up in its family once.
pub struct Calls {
    upstream: String,
    families: Families,
    /// As in [`METHODS`], and the others last; made for those that come.
    methods: [OnceLock<Box<[OnceLock<Counter>; CLASSES]>>; METHODS.len() + 1],
    tools: Mutex<Vec<Tool>>,
}

struct Tool {
    /// `None` for those that came too late.
    name: Option<Box<str>>,
    counters: [Option<Counter>; CLASSES],
}

impl Calls {
    /// `class` is the hundreds of the status, 0 if there was none.
    pub fn count(&self, method: &str, name: Option<&str>, class: usize) {
        let index = METHODS.binary_search(&method).unwrap_or(METHODS.len());
        let method = METHODS.get(index).copied().unwrap_or(OTHER);
        let counters = self.methods[index].get_or_init(Box::default);
        let member = || self.member(&self.families.methods, "mcp_method", method, class);
        counters[class].get_or_init(member).inc();
        if let ("tools/call", Some(name)) = (method, name) {
            self.count_tool(name, class);
        }
    }

    fn count_tool(&self, name: &str, class: usize) {
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tools
            .iter()
            .position(|tool| tool.name.as_deref() == Some(name));
        let index = known.unwrap_or_else(|| place(&mut tools, name));
        let tool = &mut tools[index];
        let shown = tool.name.as_deref().unwrap_or(OTHER);
        let member = || self.member(&self.families.tools, "tool", shown, class);
        tool.counters[class].get_or_insert_with(member).inc();
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

/// A new place for a tool, or that which all share once there are enough.
fn place(tools: &mut Vec<Tool>, name: &str) -> usize {
    if tools.len() <= MAX_TOOLS {
        let name = (tools.len() < MAX_TOOLS).then(|| name.into());
        let counters = Default::default();
        tools.push(Tool { name, counters });
    }
    tools.len() - 1
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
