//! `client-config`: an MCP client's entry for this proxy, printed or merged into the client's file.

mod clients;
mod diff;
mod document;
mod entry;
mod json;
mod server;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod toml;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::{ClientConfigArgs, Scope};
use crate::config::Sources;
use crate::exit;

use self::clients::{Platform, Spec};
use self::document::Document;
use self::entry::{Entry, is_ours};
use self::server::Server;
use self::store::Store;

/// A sentence and an exit code.
#[derive(Debug)]
struct Failure {
    exit: u8,
    message: String,
}

impl Failure {
    fn new(exit: u8, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure { exit, message }
    }

    fn of_file(exit: u8, path: &Path, message: &str) -> Failure {
        Failure::new(exit, format!("{} {message}", path.display()))
    }

    fn of_io(path: &Path, what: &str, error: &io::Error) -> Failure {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                exit::NO_PERMISSION
            }
            _ => exit::UNAVAILABLE,
        };
        let message = format!("{what}: {error}; nothing was changed");
        Failure::of_file(exit, path, &message)
    }
}

pub fn run(sources: &Sources, args: &ClientConfigArgs) -> ExitCode {
    match act(sources, args) {
        Ok(()) => exit::OK.into(),
        Err(failure) => {
            eprintln!("mcp-auth-proxy: {}", failure.message);
            failure.exit.into()
        }
    }
}

fn act(sources: &Sources, args: &ClientConfigArgs) -> Result<(), Failure> {
    let changes = args.write || args.remove;
    for (flag, given) in [("--dry-run", args.dry_run), ("--force", args.force)] {
        if given && !changes {
            let message = format!("{flag} goes with --write or --remove");
            return Err(Failure::new(exit::USAGE, message));
        }
    }
    let spec = clients::spec(args.client);
    let server = Server::new(sources, args);
    let path = file(sources, args, spec)?;
    let job = Job {
        spec,
        args,
        server: &server,
        path: &path,
    };
    if args.remove {
        return job.remove();
    }
    let entries = job.entries()?;
    for warning in server.warnings() {
        eprintln!("warning: {warning}");
    }
    if args.write {
        job.write(&entries)
    } else {
        job.print(&entries)
    }
}

fn file(sources: &Sources, args: &ClientConfigArgs, spec: &Spec) -> Result<PathBuf, Failure> {
    let here = std::env::current_dir();
    if let Some(file) = &args.file {
        let absolute = std::path::absolute(file);
        return absolute.map_err(|e| Failure::new(exit::USAGE, format!("--file: {e}")));
    }
    let here = here.unwrap_or_default();
    spec.file(args.scope, &sources.env, Platform::HERE, &here)
        .map_err(|message| Failure::new(exit::USAGE, message))
}

/// One run of the command.
struct Job<'a> {
    spec: &'static Spec,
    args: &'a ClientConfigArgs,
    server: &'a Server<'a>,
    path: &'a Path,
}

impl Job<'_> {
    fn entries(&self) -> Result<Vec<(String, Entry)>, Failure> {
        let mut entries = Vec::new();
        for (name, route) in self.server.names()? {
            let entry = self.server.entry(self.spec, &name, route)?;
            entries.push((name, entry));
        }
        Ok(entries)
    }

    /// The snippet goes to stdout alone, so that it can be piped; the sentence about it does not.
    fn print(&self, entries: &[(String, Entry)]) -> Result<(), Failure> {
        let mut snippet = String::new();
        for (name, entry) in entries {
            let document = self.parse(&snippet)?;
            snippet = document
                .put(name, entry)
                .map_err(|fault| self.fault(&snippet, &fault))?;
        }
        eprintln!(
            "{}'s entry, for {} (--write puts it there):",
            self.spec.title,
            self.path.display()
        );
        show(&snippet)
    }

    fn write(&self, entries: &[(String, Entry)]) -> Result<(), Failure> {
        let store = self.open()?;
        let old = store.text().unwrap_or_default();
        let mut new = old.to_owned();
        for (name, entry) in entries {
            new = self.merged(&new, name, entry)?;
        }
        let what = names(entries.iter().map(|(name, _)| name));
        if store.text() == Some(&new) {
            println!("{} has {what} already; nothing to do", store.path.display());
            return Ok(());
        }
        if self.args.dry_run {
            return show(&diff::diff(&store.path, store.text(), Some(&new)));
        }
        let backup = store.write(&new)?;
        println!("wrote {what} to {}", store.path.display());
        if let Some(backup) = backup {
            println!("the file as it was: {}", backup.display());
        }
        println!("in {}: {}", self.spec.title, self.spec.then);
        Ok(())
    }

    fn merged(&self, text: &str, name: &str, entry: &Entry) -> Result<String, Failure> {
        let document = self.parse(text)?;
        let fault = |fault: &text::Fault| self.fault(text, fault);
        let found = document.entry(name).map_err(|f| fault(&f))?;
        let new = match found {
            None => document.put(name, entry),
            Some(found) if entry.is_in(&found) => return Ok(text.to_owned()),
            Some(found) if is_ours(&found, &self.server.authorities()) => {
                document.update(name, entry)
            }
            Some(_) if self.args.force => document.put(name, entry),
            Some(_) => return Err(self.foreign(text, &document, name)),
        };
        new.map_err(|f| fault(&f))
    }

    fn remove(&self) -> Result<(), Failure> {
        let store = self.open()?;
        let names_asked = self.server.names()?;
        let what = names(names_asked.iter().map(|(name, _)| name));
        let Some(old) = store.text() else {
            println!("{} does not exist; nothing to do", store.path.display());
            return Ok(());
        };
        let backup = store.backup();
        let mut new = old.to_owned();
        for (name, _) in &names_asked {
            new = self.without(&new, name, backup.as_deref())?;
        }
        if new == old {
            println!("{} has no {what}; nothing to do", store.path.display());
            return Ok(());
        }
        let names: Vec<_> = names_asked.iter().map(|(name, _)| &name[..]).collect();
        let undone = self.undone(old, &names, backup.as_deref());
        let result = match undone {
            Some(Undone::Before(before)) => Some(before),
            Some(Undone::NoFile) => None,
            None => Some(&new[..]),
        };
        if self.args.dry_run {
            return show(&diff::diff(&store.path, Some(old), result));
        }
        let kept = match undone {
            Some(_) => store.restore(result).map(|()| None)?,
            None => store.write(&new)?,
        };
        println!("removed {what} from {}", store.path.display());
        if let Some(kept) = kept {
            println!("the file as it was: {}", kept.display());
        }
        Ok(())
    }

    fn without(&self, text: &str, name: &str, backup: Option<&str>) -> Result<String, Failure> {
        let document = self.parse(text)?;
        let fault = |fault: &text::Fault| self.fault(text, fault);
        let Some(found) = document.entry(name).map_err(|f| fault(&f))? else {
            return Ok(text.to_owned());
        };
        if !self.args.force && !is_ours(&found, &self.server.authorities()) {
            return Err(self.foreign(text, &document, name));
        }
        let before = backup.and_then(|text| Document::parse(text, self.spec).ok());
        document
            .remove(name, before.as_ref())
            .map_err(|f| fault(&f))
    }

    /// What was there before this command, if nobody changed the file since.
    fn undone<'t>(
        &self,
        text: &str,
        names: &[&str],
        backup: Option<&'t str>,
    ) -> Option<Undone<'t>> {
        let now = Document::parse(text, self.spec).ok()?;
        let before = Document::parse(backup.unwrap_or_default(), self.spec).ok()?;
        let authorities = self.server.authorities();
        for name in names {
            // An older entry of this command's is to go as well.
            if is_ours(&before.entry(name).ok()?.unwrap_or_default(), &authorities) {
                return None;
            }
        }
        now.came_from(&before, names).then_some(match backup {
            Some(backup) => Undone::Before(backup),
            None => Undone::NoFile,
        })
    }

    fn open(&self) -> Result<Store, Failure> {
        Store::open(self.path, self.args.scope == Scope::User)
    }

    fn parse<'t>(&self, text: &'t str) -> Result<Document<'t>, Failure> {
        Document::parse(text, self.spec).map_err(|fault| self.fault(text, &fault))
    }

    fn fault(&self, text: &str, fault: &text::Fault) -> Failure {
        let (line, column) = fault.place(text);
        let message = format!(
            "{}:{line}:{column}: {}; nothing was changed",
            self.path.display(),
            fault.message
        );
        Failure::new(exit::CONFIG, message)
    }

    fn foreign(&self, text: &str, document: &Document<'_>, name: &str) -> Failure {
        let message = format!(
            "{}.{name} is an entry that this command did not make; choose another name with --name, \
             or replace or remove it with --force",
            self.spec.servers
        );
        self.fault(text, &text::Fault::new(document.place(name), message))
    }
}

/// What a removal goes back to.
#[derive(Clone, Copy)]
enum Undone<'t> {
    Before(&'t str),
    NoFile,
}

fn names<'n>(names: impl Iterator<Item = &'n String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn show(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let message = format!("the output cannot be written: {error}");
            Err(Failure::new(exit::UNAVAILABLE, message))
        }
        _ => Ok(()),
    }
}
