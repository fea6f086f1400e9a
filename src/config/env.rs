//! The `MCP_*` variables and the flags, laid over the files.
//!
//! They speak of "the" upstream, so they fit a configuration with one upstream
//! or none; with several, nobody could tell which one is meant, and that is said.

use zeroize::Zeroizing;

use super::Flags;
use super::decode::{Report, nearest};
use super::tree::{Node, Origin, Table, Value};
pub use crate::env::Env;

/// A setting that can come from the environment, and where it belongs in the tree.
struct Variable {
    name: &'static str,
    place: Place,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the upstream's table.
    Upstream(&'static [&'static str]),
    /// In the credential's `auth-gateway` table.
    Credential(&'static str),
    /// From the root.
    Root(&'static [&'static str]),
    /// The address of the listeners of one kind, `tcp` or `unix`.
    Listener(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The value itself.
    Plain,
    /// A secret: the tree gets the variable's name, so that no copy of it is made.
    Secret,
    /// The name of a file that holds a secret.
    SecretFile,
}

const URL: Place = Place::Upstream(&["url"]);
const KEY_ID: Place = Place::Credential("key_id");
const SECRET: Place = Place::Credential("secret");
const LOG_LEVEL: Place = Place::Root(&["log", "level"]);
const LOG_FORMAT: Place = Place::Root(&["log", "format"]);

#[rustfmt::skip]
const VARIABLES: [Variable; 16] = [
    Variable { name: "MCP_UPSTREAM_URL", place: URL, form: Form::Plain },
    Variable { name: "MCP_API_KEY", place: KEY_ID, form: Form::Secret },
    Variable { name: "MCP_API_KEY_FILE", place: KEY_ID, form: Form::SecretFile },
    Variable { name: "MCP_API_SECRET", place: SECRET, form: Form::Secret },
    Variable { name: "MCP_API_SECRET_FILE", place: SECRET, form: Form::SecretFile },
    Variable { name: "MCP_LISTEN_ADDR", place: Place::Listener("tcp"), form: Form::Plain },
    Variable { name: "MCP_SOCKET", place: Place::Listener("unix"), form: Form::Plain },
    Variable { name: "MCP_REQUEST_TIMEOUT", place: Place::Upstream(&["request_timeout"]), form: Form::Plain },
    Variable { name: "MCP_SESSION_HEADER", place: Place::Upstream(&["session", "header"]), form: Form::Plain },
    Variable { name: "MCP_SESSION_VALUE", place: Place::Upstream(&["session", "value"]), form: Form::Secret },
    Variable { name: "MCP_UPSTREAM_INSECURE", place: Place::Upstream(&["insecure_skip_verify"]), form: Form::Plain },
    Variable { name: "MCP_LOG_LEVEL", place: LOG_LEVEL, form: Form::Plain },
    Variable { name: "MCP_SERVER_READ_TIMEOUT", place: Place::Root(&["server", "read_timeout"]), form: Form::Plain },
    Variable { name: "MCP_SERVER_WRITE_TIMEOUT", place: Place::Root(&["server", "write_timeout"]), form: Form::Plain },
    Variable { name: "MCP_SERVER_IDLE_TIMEOUT", place: Place::Root(&["server", "idle_timeout"]), form: Form::Plain },
    Variable { name: "MCP_GRACEFUL_SHUTDOWN", place: Place::Root(&["server", "graceful_shutdown"]), form: Form::Plain },
];

/// Variables that hold secrets by their very name; scrubbed whether they are used or not.
pub const SECRET_VARIABLES: [&str; 3] = ["MCP_API_SECRET", "MCP_API_KEY", "MCP_SESSION_VALUE"];

/// A variable or a flag that is set.
struct Setting {
    origin: Origin,
    place: Place,
    value: Value,
}

impl Setting {
    fn node(self) -> Node {
        Node {
            origin: self.origin,
            value: self.value,
        }
    }

    fn is_about_an_upstream(&self) -> bool {
        matches!(self.place, Place::Upstream(_) | Place::Credential(_))
    }
}

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

fn from_environment(report: &Report<'_>) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    for variable in &VARIABLES {
        let origin = Origin::Variable(variable.name);
        let Some(bytes) = report.env.bytes(variable.name) else {
            continue;
        };
        if bytes.is_empty() {
            report.problem(origin, "", "is empty; give it a value or unset it");
            continue;
        }
        let earlier = settings.iter().find(|s| s.place == variable.place);
        if let Some(Setting {
            origin: Origin::Variable(other),
            ..
        }) = earlier
        {
            report.problem(
                origin,
                "",
                format!("excludes {other}; unset one of the two"),
            );
            continue;
        }
        let value = match (variable.form, report.env.get(variable.name)) {
            (Form::Secret, _) => secret_table("env", variable.name, origin),
            (Form::SecretFile, Some(path)) => secret_table("file", path, origin),
            (Form::Plain, Some(text)) => Value::string(text),
            (_, None) => {
                report.problem(origin, "", "is not UTF-8; correct the value");
                continue;
            }
        };
        settings.push(Setting {
            origin,
            place: variable.place,
            value,
        });
    }
    settings
}

fn secret_table(source: &str, value: &str, origin: Origin) -> Value {
    let mut table = Table::default();
    table.set(
        &[source],
        Node {
            origin,
            value: Value::string(value),
        },
    );
    Value::Table(table)
}

fn from_flags(flags: &Flags, report: &Report<'_>) -> Vec<Setting> {
    let given = [
        ("--upstream-url", URL, &flags.upstream_url),
        ("--listen", Place::Listener("tcp"), &flags.listen),
        ("--socket", Place::Listener("unix"), &flags.socket),
        ("--log-level", LOG_LEVEL, &flags.log_level),
        ("--log-format", LOG_FORMAT, &flags.log_format),
    ];
    let mut settings = Vec::new();
    for (name, place, value) in given {
        let origin = Origin::Flag(name);
        match value.as_deref() {
            None => {}
            Some("") => report.problem(origin, "", "is empty; give it a value or leave it out"),
            Some(text) => settings.push(Setting {
                origin,
                place,
                value: Value::string(text),
            }),
        }
    }
    settings
}

/// Only near misses: other programs have `MCP_*` variables too, and those are not ours to judge.
fn warn_of_misspelt(report: &Report<'_>) {
    let known = || {
        VARIABLES
            .iter()
            .map(|variable| variable.name)
            .chain(["MCP_CONFIG"])
    };
    for name in report.env.names().filter(|name| name.starts_with("MCP_")) {
        if known().any(|k| k == name) {
            continue;
        }
        let near = nearest(name, known()).filter(|k| strsim::damerau_levenshtein(name, k) <= 2);
        if let Some(near) = near {
            let message = format!("the variable {name:?} has no effect; did you mean {near}?");
            report.warn(Origin::Default, "", message);
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
