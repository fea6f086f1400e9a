//! The `MCP_*` variables and the flags, laid over the files.
//!
//! They speak of "the" upstream, so they fit a configuration with one upstream
//! or none; with several, nobody could tell which one is meant, and that is said.

use zeroize::Zeroizing;

use super::Flags;
use super::env::{
    KEY_ID, Place, SECRET, Setting, URL, from_environment, from_flags, warn_of_misspelt,
};
use super::report::Report;
use super::tree::{Node, Origin, Table, Value};
use crate::env::Env;

/// Lays the environment, then the flags, over what the files say.
pub fn overlay(tree: &mut Table, flags: &Flags, report: &Report<'_>) {
    let mut settings = from_environment(report);
    settings.extend(from_flags(flags, report));
    warn_of_misspelt(report);
    let (upstream, rest): (Vec<_>, Vec<_>) = settings
        .into_iter()
        .partition(Setting::is_about_an_upstream);
    overlay_upstream(tree, upstream, report);
    for setting in rest {
        match setting.place {
            Place::Listener(kind) => overlay_listener(tree, kind, setting.node()),
            Place::Root(path) => tree.set(path, setting.node()),
            Place::Upstream(_) | Place::Credential(_) => {}
        }
    }
}

fn overlay_upstream(tree: &mut Table, settings: Vec<Setting>, report: &Report<'_>) {
    let names: Vec<String> = tree
        .table(&["upstream"])
        .map(|t| t.keys().map(str::to_owned).collect())
        .unwrap_or_default();
    let url = settings
        .iter()
        .rev()
        .find(|s| s.place == URL)
        .map(|s| s.origin);
    let upstream = match (names.as_slice(), url) {
        ([only], _) => only.clone(),
        ([], Some(_)) => "default".to_owned(),
        // Without a URL there is nothing to apply the rest to; "no upstream" is reported later.
        ([], None) => return,
        (several, _) => {
            for setting in settings {
                let message = format!(
                    "cannot tell which upstream it means, as there are {}; set this in the file",
                    several.join(", ")
                );
                report.problem(setting.origin, "", message);
            }
            return;
        }
    };
    let made_here = names.is_empty();
    let (credential, rest): (Vec<_>, Vec<_>) = settings
        .into_iter()
        .partition(|s| matches!(s.place, Place::Credential(_)));
    for setting in rest {
        if let Place::Upstream(keys) = setting.place {
            let path: Vec<&str> = ["upstream", &upstream]
                .into_iter()
                .chain(keys.iter().copied())
                .collect();
            tree.set(&path, setting.node());
        }
    }
    overlay_credential(
        tree,
        &upstream,
        made_here.then_some(url).flatten(),
        credential,
        report,
    );
}

/// `made_by` is the origin of an upstream that the files do not know.
fn overlay_credential(
    tree: &mut Table,
    upstream: &str,
    made_by: Option<Origin>,
    settings: Vec<Setting>,
    report: &Report<'_>,
) {
    let of_file: Vec<String> = tree
        .table(&["credential"])
        .map(|t| t.keys().map(str::to_owned).collect())
        .unwrap_or_default();
    let named = tree
        .table(&["upstream", upstream])
        .and_then(|t| t.get("credential"));
    let is_named = named.is_some();
    let name = match (
        named.map(|entry| &entry.node.value),
        of_file.as_slice(),
        made_by,
    ) {
        (Some(Value::String(name)), ..) => name.to_string(),
        (Some(_), ..) => return, // no string: the decoder says so
        (None, [only], Some(_)) => only.clone(),
        (None, [_, _, ..], Some(origin)) => {
            let message = format!(
                "cannot tell which credential to use, as there are {}; write the upstream into the file",
                of_file.join(", ")
            );
            return report.problem(origin, "", message);
        }
        _ => "default".to_owned(),
    };
    let origin = match (settings.first(), made_by) {
        (Some(setting), _) => setting.origin,
        (None, Some(origin)) => origin,
        (None, None) => return,
    };
    if !of_file.contains(&name) && !both_halves(&settings, report) {
        return;
    }
    if !is_named {
        let node = Node {
            origin,
            value: Value::string(&name),
        };
        tree.set(&["upstream", upstream, "credential"], node);
    }
    for setting in settings {
        if let Place::Credential(key) = setting.place {
            tree.set(&["credential", &name, "auth-gateway", key], setting.node());
        }
    }
}

/// A credential that the environment makes needs both of its halves from there.
fn both_halves(settings: &[Setting], report: &Report<'_>) -> bool {
    let halves = [
        (KEY_ID, "MCP_API_KEY", "the key's identifier"),
        (SECRET, "MCP_API_SECRET", "the key's secret"),
    ];
    let mut complete = true;
    for (place, name, what) in halves {
        // Set but empty or doubled has been reported already.
        let set = |name: &str| report.env.bytes(name).is_some();
        if settings.iter().any(|s| s.place == place) || set(name) || set(&format!("{name}_FILE")) {
            continue;
        }
        let message = format!(
            "is not set; set it to {what}, or {name}_FILE to the name of a file that holds it"
        );
        report.problem(Origin::Variable(name), "", message);
        complete = false;
    }
    complete
}

/// Gives the first listener of this kind the new address (its other keys stay) and
/// drops the rest; `off` drops them all.
fn overlay_listener(tree: &mut Table, kind: &'static str, address: Node) {
    let Some(Value::Array(listeners)) = tree.get_mut("listener").map(|entry| &mut entry.node.value)
    else {
        return; // no array: the decoder says so
    };
    let off = matches!(&address.value, Value::String(text) if text.as_str() == "off");
    let mut address = (!off).then_some(address);
    listeners.retain_mut(|listener| {
        let Value::Table(table) = &mut listener.value else {
            return true;
        };
        if table.get(kind).is_none() {
            return true;
        }
        match address.take() {
            Some(address) => table.set(&[kind], address),
            None => return false,
        }
        true
    });
    if let Some(address) = address {
        listeners.push(listener_node(kind, address));
    }
}

fn listener_node(kind: &str, address: Node) -> Node {
    let origin = address.origin;
    let mut table = Table::default();
    table.set(&[kind], address);
    Node {
        origin,
        value: Value::Table(table),
    }
}

/// Without any `[[listener]]`: the default socket, where this user has a place for one,
/// and the default port.
pub fn default_listeners(tree: &mut Table, env: &Env) {
    if tree.get("listener").is_some() {
        return;
    }
    let node = |value| Node {
        origin: Origin::Default,
        value,
    };
    let socket =
        crate::paths::proxy_socket(env).and_then(|path| path.into_os_string().into_string().ok());
    let unix = socket.map(|path| listener_node("unix", node(Value::String(Zeroizing::new(path)))));
    let tcp = listener_node("tcp", node(Value::string("127.0.0.1:8080")));
    let both = unix.into_iter().chain([tcp]).collect();
    tree.set(&["listener"], node(Value::Array(both)));
}
