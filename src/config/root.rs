//! The root of the tree: its sections, and where one speaks of another.

use super::admin::decode_admin;
use super::audit::decode_audit;
use super::credential::decode_credential;
use super::decode::{Field, Section};
use super::limits::decode_limits;
use super::listener::{Routing, decode_listeners};
use super::report::Report;
use super::route::{Upstreams, decode_routes, warn_of_unreachable};
use super::server::{decode_log, decode_server};
use super::suggest::nearest;
use super::telemetry::decode_telemetry;
use super::tree::{Origin, Table};
use super::upstream::decode_upstream;
use super::{Config, Credential, Listener, Route};
use crate::paths;

/// `None` only if a problem was reported.
pub fn decode_root(report: &Report<'_>, tree: &Table) -> Option<Config> {
    let mut root = Section::root(report, tree);
    // First: it says whose the programs are that print secrets.
    let server = decode_server(&mut root);
    report.run_as.replace(server.run_as.clone());
    let credential_fields = named(&mut root, "credential");
    let credentials: Vec<Option<Credential>> =
        credential_fields.iter().map(decode_credential).collect();
    let credential_names: Vec<&str> = credential_fields.iter().map(Field::key).collect();
    let upstream_fields = named(&mut root, "upstream");
    if upstream_fields.is_empty() {
        root.missing(&["upstream"], no_upstream(report));
    }
    let upstreams = Upstreams {
        decoded: upstream_fields
            .iter()
            .map(|f| decode_upstream(f, &credential_names))
            .collect(),
        fields: upstream_fields,
        credentials: &credential_names,
    };
    let mut own = Routing {
        upstreams: &upstreams,
        routes: Vec::new(),
    };
    let mut listeners = decode_listeners(&mut root, Some(&mut own));
    let are_needed = listeners.is_empty() || listeners.iter().any(|(l, _)| l.routes.is_none());
    let mut routes = decode_routes(&mut root, &upstreams, are_needed);
    let shared_routes = routes.len();
    routes.extend(own.routes);
    for own in listeners.iter_mut().filter_map(|(l, _)| l.routes.as_mut()) {
        *own = own.start + shared_routes..own.end + shared_routes;
    }
    warn_of_unreachable(&upstreams.fields, &routes);
    warn_of_unused(&credential_fields, &upstreams, &routes);
    warn_of_unknown_clients(report, &listeners);
    let mut admin = decode_admin(&mut root, &listeners);
    let audit = decode_audit(&mut root);
    let telemetry = decode_telemetry(&mut root);
    let (log, limits) = (decode_log(&mut root), decode_limits(&mut root));
    root.finish();
    if let Some(run_as) = &server.run_as {
        let of_clients = listeners
            .iter_mut()
            .filter_map(|(it, _)| it.address.unix_mut());
        for unix in of_clients.chain(&mut admin.unix) {
            unix.belong_to(run_as);
        }
    }
    Some(Config {
        upstreams: upstreams.decoded.into_iter().collect::<Option<_>>()?,
        credentials: credentials.into_iter().collect::<Option<_>>()?,
        routes,
        shared_routes,
        listeners_are_default: listeners
            .iter()
            .all(|(_, origin)| matches!(origin, Origin::Default)),
        listeners: listeners
            .into_iter()
            .map(|(listener, _)| listener)
            .collect(),
        admin,
        audit,
        telemetry,
        log,
        limits,
        server,
        files: Vec::new(),
        warnings: Vec::new(),
        secret_variables: Vec::new(),
        commands: Vec::new(),
        refreshed: Vec::new(),
        watched: Vec::new(),
    })
}

/// The tables under `key`, each with the name that the operator gave it.
fn named<'a>(root: &mut Section<'a>, key: &'static str) -> Vec<Field<'a>> {
    let section = root.field(key).and_then(|field| field.section());
    section
        .map(|section| section.entries().collect())
        .unwrap_or_default()
}

fn warn_of_unused(credentials: &[Field<'_>], upstreams: &Upstreams<'_>, routes: &[Route]) {
    for (index, field) in credentials.iter().enumerate() {
        let mut decoded = upstreams.decoded.iter().flatten();
        let is_offered = routes
            .iter()
            .any(|route| route.credentials.contains(&index));
        if !is_offered && !decoded.any(|upstream| upstream.credential == Some(index)) {
            let message =
                "no upstream uses this credential; name it in one (credential = ...) or remove it";
            field.report.warn(field.key_origin, &field.path, message);
        }
    }
}

/// A client whose name is misspelt is neither allowed nor denied, and nobody would notice.
fn warn_of_unknown_clients(report: &Report<'_>, listeners: &[(Listener, Origin)]) {
    let mut shown = listeners.iter().filter_map(|(it, _)| it.tls.as_ref());
    // Certificates may have any name.
    if shown.any(|tls| !tls.client_roots.is_empty()) {
        return;
    }
    let known = || listeners.iter().flat_map(|(it, _)| it.tokens.clients());
    for (origin, key, name) in report.named_clients.take() {
        if known().any(|client| client == name) {
            continue;
        }
        let advice = match nearest(&name, known()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "give it one in a listener's tokens, or remove it here".to_owned(),
        };
        let message = format!("no client {name:?} has a token; {advice}");
        report.warn(origin, &key, message);
    }
}

fn no_upstream(report: &Report<'_>) -> String {
    let file = match report.first_document() {
        Some(document) => document.path.clone(),
        None => paths::config_candidates(report.env).swap_remove(0),
    };
    format!(
        "no upstream is configured; write [upstream.NAME] with a url into {}, \
         or set MCP_UPSTREAM_URL, MCP_API_KEY and MCP_API_SECRET",
        file.display()
    )
}
