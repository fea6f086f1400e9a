//! What the sources say, in one shape for all of them, before anyone asks what it means.
//!
//! Every key and value remembers who wrote it, so that a problem found much later,
//! after files, fragments, environment and flags were merged, is reported at its place.

use zeroize::Zeroizing;

/// Who wrote a key or a value. The order is the order problems are printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A file, by its index in merge order; line and column count characters from 1.
    /// Line 0 is the file as a whole.
    File {
        file: usize,
        line: usize,
        column: usize,
    },
    /// An environment variable.
    Variable(&'static str),
    /// A command-line flag, with its dashes.
    Flag(&'static str),
    /// Nobody: built in, or missing.
    Default,
}

impl Origin {
    pub fn whole_file(file: usize) -> Origin {
        Origin::File {
            file,
            line: 0,
            column: 0,
        }
    }
}

#[derive(Clone)]
pub struct Node {
    pub origin: Origin,
    pub value: Value,
}

#[derive(Clone)]
pub enum Value {
    Bool(bool),
    Integer(i64),
    /// Wiped when dropped, as any of them may be a secret.
    String(Zeroizing<String>),
    Array(Vec<Node>),
    Table(Table),
    /// Something no setting is made of (a float, a date, nothing), named for messages.
    Other(&'static str),
}

impl Value {
    pub fn string(text: &str) -> Value {
        Value::String(Zeroizing::new(text.to_owned()))
    }

    /// What this is, for messages: "expected a string, found …".
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }
}

/// Keys in the order they were written, each once.
#[derive(Clone, Default)]
pub struct Table {
    entries: Vec<Entry>,
}

impl Table {
    /// Whether any table in it, however deep, has this key.
    pub fn has_key(&self, key: &str) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.key == key || entry.node.value.has_key(key))
    }
}

impl Value {
    fn has_key(&self, key: &str) -> bool {
        match self {
            Value::Table(table) => table.has_key(key),
            Value::Array(items) => items.iter().any(|item| item.value.has_key(key)),
            _ => false,
        }
    }
}

#[derive(Clone)]
pub struct Entry {
    pub key: String,
    pub key_origin: Origin,
    pub node: Node,
}

/// The sources a secret can have. Exactly one is allowed, so a later one replaces an earlier.
const SECRET_SOURCES: [&str; 4] = ["file", "env", "credential", "command"];

/// What may stand beside it.
const SECRET_OPTIONS: [&str; 5] = [
    "insecure_permissions",
    "watch",
    "timeout",
    "refresh",
    "pass_env",
];

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Adds an entry; on a key that is already there, gives the first entry's place.
    pub fn insert(&mut self, entry: Entry) -> Result<(), Origin> {
        if let Some(first) = self.get(&entry.key) {
            return Err(first.key_origin);
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Lays a later source over this one: tables merge by key, arrays named in `append`
    /// grow, everything else is replaced.
    pub fn merge(&mut self, over: Table, append: &[&str]) {
        for entry in over.entries {
            match self.get_mut(&entry.key) {
                Some(under) => under.merge(entry, append),
                None => self.entries.push(entry),
            }
        }
    }

    /// Collects the names in every `{ env = "NAME" }`, here and further down.
    pub fn secret_variables(&self, names: &mut Vec<String>) {
        if let Some(Value::String(name)) = self.get("env").map(|entry| &entry.node.value) {
            names.push(name.to_string());
        }
        for entry in &self.entries {
            if let Value::Table(table) = &entry.node.value {
                table.secret_variables(names);
            }
        }
    }

    /// Sets a value deep in the tree, making the tables on the way. A value on the way
    /// that is no table is left for the decoder to report.
    pub fn set(&mut self, path: &[&str], node: Node) {
        let mut over = Table::default();
        let Some((key, way)) = path.split_last() else {
            return;
        };
        let origin = node.origin;
        over.entries.push(Entry {
            key: (*key).to_owned(),
            key_origin: origin,
            node,
        });
        for key in way.iter().rev() {
            let node = Node {
                origin,
                value: Value::Table(over),
            };
            over = Table {
                entries: vec![Entry {
                    key: (*key).to_string(),
                    key_origin: origin,
                    node,
                }],
            };
        }
        self.merge(over, &[]);
    }

    /// The table at this path, if there is one.
    pub fn table(&self, path: &[&str]) -> Option<&Table> {
        path.iter()
            .try_fold(self, |table, key| match &table.get(key)?.node.value {
                Value::Table(inner) => Some(inner),
                _ => None,
            })
    }

    /// A secret's source: such a table is one value, and two of them do not mix.
    fn is_secret(&self) -> bool {
        let source = |entry: &Entry| {
            let named = SECRET_SOURCES.contains(&entry.key.as_str());
            named && matches!(entry.node.value, Value::String(_) | Value::Array(_))
        };
        let belongs = |entry: &Entry| source(entry) || SECRET_OPTIONS.contains(&entry.key.as_str());
        self.entries.iter().any(source) && self.entries.iter().all(belongs)
    }
}

impl Entry {
    fn merge(&mut self, over: Entry, append: &[&str]) {
        match (&mut self.node.value, over.node.value) {
            (Value::Table(under), Value::Table(over))
                if !(under.is_secret() && over.is_secret()) =>
            {
                under.merge(over, &[]);
            }
            (Value::Array(under), Value::Array(over)) if append.contains(&self.key.as_str()) => {
                under.extend(over);
            }
            (_, value) => {
                self.node = Node {
                    origin: over.node.origin,
                    value,
                };
                self.key_origin = over.key_origin;
            }
        }
    }
}
