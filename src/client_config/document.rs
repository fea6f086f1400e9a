//! A client's file as a text with servers in it, whatever its format.

use serde_json::Value;

use super::clients::{Spec, Syntax};
use super::entry::{Body, Entry};
use super::text::Fault;
use super::{json, toml};

/// A file that could be read.
pub struct Document<'a> {
    file: File<'a>,
    text: &'a str,
    spec: &'a Spec,
}

enum File<'a> {
    Json(json::File<'a>),
    Toml(toml::File<'a>),
}

impl<'a> Document<'a> {
    /// # Errors
    /// Where the text is not what the client could read.
    pub fn parse(text: &'a str, spec: &'a Spec) -> Result<Document<'a>, Fault> {
        let file = match spec.syntax {
            Syntax::Json => File::Json(json::File::parse(text, spec.servers, false)?),
            Syntax::Jsonc => File::Json(json::File::parse(text, spec.servers, true)?),
            Syntax::Toml => File::Toml(toml::File::parse(text, spec.servers)?),
        };
        Ok(Document { file, text, spec })
    }

    /// All of the file; numbers as they are written.
    pub fn value(&self) -> Value {
        match &self.file {
            File::Json(file) => file.value(),
            File::Toml(file) => file.value(),
        }
    }

    /// The server `name`, if there is one.
    ///
    /// # Errors
    /// There are two.
    pub fn entry(&self, name: &str) -> Result<Option<Value>, Fault> {
        if let File::Json(file) = &self.file {
            file.raw(name)?;
        }
        Ok(self.value()[self.spec.servers].get(name).cloned())
    }

    pub fn has_table(&self) -> bool {
        !self.value()[self.spec.servers].is_null()
    }

    /// Where the server `name` is, in bytes.
    pub fn place(&self, name: &str) -> usize {
        match &self.file {
            File::Json(file) => file.place(name),
            File::Toml(file) => file.place(name),
        }
    }

    /// The text with the server `name`, which takes the place of one of that name.
    ///
    /// # Errors
    /// The text cannot be changed without harm.
    pub fn put(&self, name: &str, entry: &Entry) -> Result<String, Fault> {
        let text = self.put_body(name, Body::Entry(entry))?;
        self.checked(text, name, Some(entry))
    }

    fn put_body(&self, name: &str, body: Body<'_>) -> Result<String, Fault> {
        match &self.file {
            File::Json(file) => file.put(name, body),
            File::Toml(file) => {
                let without = file.remove(name);
                let file = toml::File::parse(&without, self.spec.servers)?;
                Ok(file.put(name, body))
            }
        }
    }

    /// The text with what `entry` says in the server `name`, and all its other keys.
    ///
    /// # Errors
    /// The text cannot be changed without harm.
    pub fn update(&self, name: &str, entry: &Entry) -> Result<String, Fault> {
        let text = match &self.file {
            File::Json(file) => file.update(name, entry)?,
            File::Toml(file) => file.update(name, entry),
        };
        self.checked(text, name, Some(entry))
    }

    /// The text without the server `name`. A table that is empty then goes too, unless `before`,
    /// an earlier version of the text, had one.
    ///
    /// # Errors
    /// The text cannot be changed without harm.
    pub fn remove(&self, name: &str, before: Option<&Document<'_>>) -> Result<String, Fault> {
        let text = match &self.file {
            File::Json(file) => file.remove(name, before.is_some_and(Document::has_table))?,
            File::Toml(file) => file.remove(name),
        };
        self.checked(text, name, None)
    }

    /// Whether this text is `before` with these servers put in by [`Document::put`], and no
    /// other change.
    pub fn came_from(&self, before: &Document<'_>, names: &[&str]) -> bool {
        self.redone(before, names).as_deref() == Some(self.text)
    }

    fn redone(&self, before: &Document<'_>, names: &[&str]) -> Option<String> {
        let mut text = before.text.to_owned();
        for name in names {
            let raw = match &self.file {
                File::Json(file) => file.raw(name).ok().flatten(),
                File::Toml(file) => file.raw(name),
            };
            let document = Document::parse(&text, self.spec).ok()?;
            text = document.put_body(name, Body::Verbatim(raw?)).ok()?;
        }
        Some(text)
    }

    /// The last word before a file is written: what was not meant is as it was.
    fn checked(&self, text: String, name: &str, meant: Option<&Entry>) -> Result<String, Fault> {
        let refuse = || {
            let message = format!(
                "{}.{name} is written in a way that this command cannot change; change it by hand",
                self.spec.servers
            );
            Fault::new(self.place(name), message)
        };
        let document = Document::parse(&text, self.spec).map_err(|_| refuse())?;
        let found = document.entry(name)?;
        let is_meant = match (&found, meant) {
            (Some(found), Some(meant)) => meant.is_in(found),
            (None, None) => true,
            _ => false,
        };
        if is_meant && document.others(name) == self.others(name) {
            Ok(text)
        } else {
            Err(refuse())
        }
    }

    /// All but the server `name`.
    fn others(&self, name: &str) -> Value {
        let mut all = self.value();
        let Some(root) = all.as_object_mut() else {
            return Value::Object(serde_json::Map::new());
        };
        if let Some(Value::Object(servers)) = root.get_mut(self.spec.servers) {
            servers.remove(name);
            if servers.is_empty() {
                root.remove(self.spec.servers);
            }
        }
        all
    }
}
