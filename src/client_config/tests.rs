mod documents;
mod properties;
mod table;

use crate::cli::Client;
use crate::env::Env;

use super::clients::{Spec, spec};
use super::document::Document;
use super::entry::Entry;

/// The entry that most people have.
fn stdio(spec: &Spec) -> Entry {
    let args = [
        "stdio",
        "--socket",
        "/run/user/1000/mcp-auth-proxy/proxy.sock",
    ];
    let args = args.map(str::to_owned).to_vec();
    spec.stdio("/usr/bin/mcp-auth-proxy".to_owned(), args)
}

fn http(spec: &Spec) -> Option<Entry> {
    spec.http("http://127.0.0.1:8080/mcp".to_owned()).ok()
}

fn put(client: Client, text: &str, entry: &Entry) -> String {
    let document = Document::parse(text, spec(client)).unwrap();
    document.put("acme", entry).unwrap()
}

fn remove(client: Client, text: &str, before: Option<&str>) -> String {
    let spec = spec(client);
    let before = before.map(|text| Document::parse(text, spec).unwrap());
    let document = Document::parse(text, spec).unwrap();
    document.remove("acme", before.as_ref()).unwrap()
}

fn env(pairs: &[(&str, &str)]) -> Env {
    Env::from_pairs(pairs.iter().copied())
}
