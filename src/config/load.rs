//! From the sources to a [`Config`]: read, lay over each other, decode, report.

use super::admin::decode_admin;
use super::credential::decode_credential;
use super::decode::{Field, Report, Section};
use super::env::{SECRET_VARIABLES, default_listeners, overlay};
use super::error::Problems;
use super::files::Files;
use super::listener::decode_listeners;
use super::route::{Upstreams, decode_routes, warn_of_unreachable};
use super::server::{decode_limits, decode_log, decode_server};
use super::tree::{Origin, Table};
use super::upstream::{decode_upstream, warn_of_weakness};
use super::{Config, Credential, Sources};
use crate::paths;

pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let Files {
        documents,
        mut tree,
        faults,
    } = Files::read(sources);
    let report = Report::new(&sources.env, &documents);
    if !faults.is_empty() {
        // Half a file makes every check after it speak of what it has not seen.
        for fault in faults {
            report.fault(fault.origin, fault.message);
        }
        return Err(Problems::new(report.problems.into_inner()));
    }
    default_listeners(&mut tree, &sources.env);
    overlay(&mut tree, &sources.flags, &report);
    let decoded = decode(&report, &tree);
    let problems = report.problems.take();
    match decoded {
        Some(mut config) if problems.is_empty() => {
            config.files = documents
                .iter()
                .map(|document| document.path.clone())
                .collect();
            config.warnings = warnings(&report);
            config.secret_variables = secret_variables(&report);
            Ok(config)
        }
        _ => Err(Problems::new(problems)),
    }
}

/// `None` only if a problem was reported.
fn decode(report: &Report<'_>, tree: &Table) -> Option<Config> {
    let mut root = Section::root(report, tree);
    let credential_fields = named(&mut root, "credential");
    let credentials: Vec<Option<Credential>> =
        credential_fields.iter().map(decode_credential).collect();
    let credential_names: Vec<&str> = credential_fields.iter().map(Field::key).collect();
    let upstream_fields = named(&mut root, "upstream");
    if upstream_fields.is_empty() {
        no_upstream(report);
    }
    let upstreams = Upstreams {
        names: upstream_fields.iter().map(Field::key).collect(),
        decoded: upstream_fields
            .iter()
            .map(|f| decode_upstream(f, &credential_names))
            .collect(),
    };
    let routes = decode_routes(&mut root, &upstreams);
    warn_of_unreachable(&upstream_fields, &routes);
    for (field, upstream) in upstream_fields.iter().zip(&upstreams.decoded) {
        if let Some(upstream) = upstream {
            warn_of_weakness(field, upstream);
        }
    }
    let listeners = decode_listeners(&mut root);
    let admin = decode_admin(&mut root, &listeners);
    let (log, limits, server) = (
        decode_log(&mut root),
        decode_limits(&mut root),
        decode_server(&mut root),
    );
    root.finish();
    Some(Config {
        upstreams: upstreams.decoded.into_iter().collect::<Option<_>>()?,
        credentials: credentials.into_iter().collect::<Option<_>>()?,
        routes,
        listeners: listeners
            .into_iter()
            .map(|(listener, _)| listener)
            .collect(),
        admin,
        log,
        limits,
        server,
        files: Vec::new(),
        warnings: Vec::new(),
        secret_variables: Vec::new(),
    })
}

/// The tables under `key`, each with the name that the operator gave it.
fn named<'a>(root: &mut Section<'a>, key: &'static str) -> Vec<Field<'a>> {
    let section = root.field(key).and_then(|field| field.section());
    section
        .map(|section| section.entries().collect())
        .unwrap_or_default()
}

fn no_upstream(report: &Report<'_>) {
    let file = match report.first_document() {
        Some(document) => document.path.clone(),
        None => paths::config_candidates(report.env).swap_remove(0),
    };
    let message = format!(
        "no upstream is configured; write [upstream.NAME] with a url into {}, \
         or set MCP_UPSTREAM_URL, MCP_API_KEY and MCP_API_SECRET",
        file.display()
    );
    report.problem(Origin::Default, "", message);
}

fn warnings(report: &Report<'_>) -> Vec<String> {
    match report.warnings.take() {
        list if list.is_empty() => Vec::new(),
        list => Problems::new(list).lines().collect(),
    }
}

fn secret_variables(report: &Report<'_>) -> Vec<String> {
    let mut names = report.secret_variables.take();
    let present = SECRET_VARIABLES
        .iter()
        .filter(|name| report.env.bytes(name).is_some());
    names.extend(present.map(|name| (*name).to_owned()));
    names.into_iter().collect()
}
