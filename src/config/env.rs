//! The settings that the `MCP_*` variables and the flags make.

use super::Flags;
use super::report::Report;
use super::suggest::nearest;
use super::tree::{Node, Origin, Table, Value};
pub use crate::env::Env;

/// A setting that can come from the environment, and where it belongs in the tree.
struct Variable {
    name: &'static str,
    place: Place,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
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

pub const URL: Place = Place::Upstream(&["url"]);
pub const KEY_ID: Place = Place::Credential("key_id");
pub const SECRET: Place = Place::Credential("secret");
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
pub struct Setting {
    pub origin: Origin,
    pub place: Place,
    pub value: Value,
}

impl Setting {
    pub fn node(self) -> Node {
        Node {
            origin: self.origin,
            value: self.value,
        }
    }

    pub fn is_about_an_upstream(&self) -> bool {
        matches!(self.place, Place::Upstream(_) | Place::Credential(_))
    }
}

pub fn from_environment(report: &Report<'_>) -> Vec<Setting> {
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

pub fn from_flags(flags: &Flags, report: &Report<'_>) -> Vec<Setting> {
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
pub fn warn_of_misspelt(report: &Report<'_>) {
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
