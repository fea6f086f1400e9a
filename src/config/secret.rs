//! Secrets wherever they stand: a table that names the source, or the secret itself.

use std::time::Duration;

use super::decode::{Field, Section};
use super::tree::Value;
use super::{Refreshed, Text};
use crate::file;
use crate::secret::{Command, Secret, SecretError, Source};

/// How long a program may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Variables that this process reads itself, again and again; all others that are handed on to
/// programs are taken out of its environment, as they may well hold a token.
const OWN: [&str; 3] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "TZ"];
/// More often would be a load on whoever is asked.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

/// A string that travels in a header, or a secret's table for those who hide it.
pub fn decode_text(field: &Field<'_>, what: &str) -> Option<Text> {
    let hidden = matches!(field.node.value, Value::Table(_));
    let secret = if hidden {
        decode_secret(field)?
    } else {
        Secret::new(field.text()?.as_bytes().to_vec())
    };
    let bytes = secret.expose();
    if bytes.is_empty() {
        field.problem(format!("{what} is empty; write it"));
        return None;
    }
    // Whitespace at either end is lost on the wire, and the other side would know no such value.
    if bytes.trim_ascii().len() != bytes.len() {
        field.problem(format!("{what} begins or ends with a space; remove it"));
    }
    let text = Text { secret, hidden };
    if text.header_value().is_none() {
        field.problem(format!(
            "{what} has characters that no HTTP header may hold; correct it"
        ));
        return None;
    }
    Some(text)
}

/// Reads a secret: a table that names its source, or, with a warning, the secret itself.
pub fn decode_secret(field: &Field<'_>) -> Option<Secret> {
    if let Value::Table(_) = &field.node.value {
        let mut s = field.section()?;
        let source = decode_source(&mut s);
        s.finish();
        let (source, place) = source?;
        return read(&source, field)
            .map_err(|error| place.problem(error.to_string()))
            .ok();
    }
    let text = field.text()?;
    if text.is_empty() {
        field.problem("the secret is empty; write { file = \"/path/to/it\" }");
        return None;
    }
    warn_of_plain_text(field);
    Some(Secret::new(text.as_bytes().to_vec()))
}

fn warn_of_plain_text(field: &Field<'_>) {
    let document = field.report.document(field.origin());
    let readers = match document {
        Some(document) if document.world_readable => {
            "every user of this host, and whoever copies the file,"
        }
        _ => "whoever copies the file",
    };
    field.warn(format!(
        "the secret stands in the configuration, where {readers} can read it; \
         move it to a file of its own and write {{ file = \"/path/to/it\" }}"
    ));
}

/// Reads it; what a program prints for one secret it prints for all that name it alike.
fn read(source: &Source, field: &Field<'_>) -> Result<Secret, SecretError> {
    let report = field.report;
    let Source::Command(command) = source else {
        return source.read(report.env);
    };
    if let Some(rehearsed) = &report.rehearsed {
        let mut rehearsed = rehearsed.borrow_mut();
        if !rehearsed.contains(command) {
            rehearsed.push(command.clone());
        }
        return Ok(Secret::new(b"rehearsal".to_vec()));
    }
    let known = report.printed.borrow().get(command).cloned();
    let printed = known.unwrap_or_else(|| {
        let printed = source.read(report.env);
        let mut all = report.printed.borrow_mut();
        all.insert(command.clone(), printed.clone());
        printed
    });
    if let (Ok(secret), Some(every)) = (&printed, command.refresh) {
        let mut refreshed = report.refreshed.borrow_mut();
        let place = field.path.clone();
        match refreshed.iter_mut().find(|it| it.secret.is(secret)) {
            Some(known) => known.places.push(place),
            None => refreshed.push(Refreshed {
                places: vec![place],
                command: command.clone(),
                every,
                secret: secret.clone(),
            }),
        }
    }
    printed
}

/// The source, and the field that names it.
fn decode_source<'a>(s: &mut Section<'a>) -> Option<(Source, Field<'a>)> {
    let advice = "write { file = \"/path/to/it\" }";
    let field = s.exactly_one(&["file", "env", "credential", "command"], advice);
    let insecure = s
        .field("insecure_permissions")
        .and_then(|field| field.boolean());
    let watch = s.field("watch");
    let timeout = s.field("timeout");
    let refresh = s.field("refresh");
    let pass_env = s.field("pass_env");
    let field = field?;
    if field.key() != "command" {
        for other in [&timeout, &refresh, &pass_env].into_iter().flatten() {
            only_with("command", other);
        }
    }
    if field.key() != "file"
        && let Some(watch) = &watch
    {
        only_with("file", watch);
    }
    let insecure_permissions = insecure.unwrap_or_default();
    let source = match field.key() {
        "file" => {
            let path = field.path()?;
            if watch.is_some_and(|field| field.boolean() == Some(true)) {
                let mut watched = field.report.watched.borrow_mut();
                // The first reader's: the last may have read what came later.
                let known = watched.entry(path.clone());
                known.or_insert_with(|| file::print(&path));
            }
            Source::File {
                path,
                insecure_permissions,
            }
        }
        "env" => {
            let name = field.text()?.to_owned();
            field
                .report
                .secret_variables
                .borrow_mut()
                .insert(name.clone());
            Source::Env(name)
        }
        "command" => Source::Command(decode_command(&field, timeout, refresh, pass_env)?),
        _ => Source::Credential {
            name: field.text()?.to_owned(),
            insecure_permissions,
        },
    };
    Some((source, field))
}

fn only_with(key: &str, field: &Field<'_>) {
    let own = field.key();
    field.key_problem(format!(
        "\"{own}\" belongs to secrets from a \"{key}\"; remove it"
    ));
}

fn decode_command(
    field: &Field<'_>,
    timeout: Option<Field<'_>>,
    refresh: Option<Field<'_>>,
    pass_env: Option<Field<'_>>,
) -> Option<Command> {
    let arguments = texts(field)?;
    let timeout = timeout.map_or(Some(TIMEOUT), |field| field.duration());
    let refresh = match refresh {
        Some(field) => Some(refresh_interval(&field)?),
        None => None,
    };
    let pass_env = pass_env.map_or(Some(Vec::new()), |field| texts(&field))?;
    let handed_on = pass_env.iter().filter(|name| !OWN.contains(&name.as_str()));
    field
        .report
        .secret_variables
        .borrow_mut()
        .extend(handed_on.cloned());
    let program = arguments.first().map_or("", String::as_str);
    if program.is_empty() {
        field.problem("the program is missing; write [\"/path/to/program\", \"argument\"]");
        return None;
    }
    if program.contains('/') && !program.starts_with('/') {
        field.problem(format!(
            "{program:?} depends on a directory that a daemon has not; write the whole path"
        ));
        return None;
    }
    Some(Command {
        arguments,
        timeout: timeout?,
        refresh,
        pass_env,
        run_as: field.report.run_as.borrow().clone(),
    })
}

fn refresh_interval(field: &Field<'_>) -> Option<Duration> {
    let interval = field.duration()?;
    if interval < SHORTEST_REFRESH {
        field.problem("that is too often; write \"1s\" or more");
        return None;
    }
    Some(interval)
}

fn texts(field: &Field<'_>) -> Option<Vec<String>> {
    let items = field.items()?;
    items
        .iter()
        .map(|item| item.text().map(str::to_owned))
        .collect()
}
