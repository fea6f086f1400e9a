//! One upstream, step by step along the way to it; the first step that fails ends the way.

use http::Version;
use http::uri::{PathAndQuery, Scheme};

use super::ask::{Answer, Peer, Trouble};
use super::mcp::{self, Place};
use super::{Code, Finding, Findings, era, network, tls};
use crate::client::{Client, Kind, ProxyVariables};
use crate::config::{HttpVersion, TargetPath};
use crate::path;
use crate::snapshot::{Snapshot, Upstream};

/// `upstream` is one of the URLs of the one with this index.
pub async fn examine(
    snapshot: &Snapshot,
    index: usize,
    upstream: &Upstream,
    proxies: &ProxyVariables,
    wanted: Option<&str>,
) -> Findings {
    let mut findings = Findings::default();
    if !reach(upstream, &mut findings).await {
        return findings;
    }
    let places = places(snapshot, index, upstream, wanted);
    if places.is_empty() {
        let message = "no route leads here, so no client can ask for it";
        findings.add(
            Finding::new(Code::NoRoute, message)
                .next("write a [[route]] for it, or name its path with --route"),
        );
        return findings;
    }
    if upstream.auth.is_none() {
        findings.add(
            Finding::new(Code::Unsigned, "requests go out unsigned")
                .next("add credential = \"NAME\" if the upstream wants one"),
        );
    }
    let peer = Peer {
        upstream,
        client: &upstream.client,
    };
    if let Err(trouble) = mcp::speak(&peer, &places, &mut findings).await {
        let finding = explain(upstream, proxies, &places[0].upstream, trouble).await;
        findings.add(finding);
    }
    findings
}

/// Name, address, proxy, TLS.
async fn reach(upstream: &Upstream, findings: &mut Findings) -> bool {
    let config = &upstream.config;
    let patience = config.connect_timeout;
    if let Some(path) = &config.target.unix {
        return network::unix(path, findings).await;
    }
    let is_tls = config.target.scheme == Scheme::HTTPS;
    let reached = match upstream.client.proxy() {
        Some((host, port)) => {
            let message = format!("requests go through the proxy {host}:{port} of the environment");
            findings.add(Finding::new(Code::ProxyUsed, message));
            network::tcp(&host, port, patience, findings).await
        }
        None => {
            let authority = &config.target.authority;
            let port = if is_tls { 443 } else { 80 };
            let host = authority.host().trim_matches(['[', ']']);
            network::tcp(
                host,
                authority.port_u16().unwrap_or(port),
                patience,
                findings,
            )
            .await
        }
    };
    reached && (!is_tls || tls::look(config, &upstream.client, findings).await)
}

/// Where an MCP endpoint may be: as a client asks for it, and as the upstream gets it.
fn places(
    snapshot: &Snapshot,
    index: usize,
    upstream: &Upstream,
    wanted: Option<&str>,
) -> Vec<Place> {
    let route = |route: &usize| &snapshot.config.routes[*route];
    let place = |number: usize, asked: String| {
        let upstream = upstream.path_for(route(&number), &asked, None)?;
        Some(Place { asked, upstream })
    };
    if let Some(wanted) = wanted {
        let decoded = path::decode(wanted);
        let mut found = snapshot
            .routers()
            .filter_map(|router| router.find(&decoded));
        return found
            .find(|number| route(number).upstream == index)
            .and_then(|number| place(number, wanted.to_owned()))
            .into_iter()
            .collect();
    }
    let number = (0..snapshot.config.routes.len()).find(|number| route(number).upstream == index);
    let Some(number) = number else {
        return Vec::new();
    };
    let prefix = &route(&number).path;
    let asked = match upstream.config.target.path {
        TargetPath::Endpoint(_) => vec![prefix.clone()],
        TargetPath::Base(_) if prefix.ends_with("/mcp") => {
            vec![prefix.clone(), format!("{prefix}/mcp")]
        }
        TargetPath::Base(_) if prefix.is_empty() => vec!["/mcp".to_owned(), "/".to_owned()],
        TargetPath::Base(_) => vec![format!("{prefix}/mcp"), prefix.clone()],
    };
    asked
        .into_iter()
        .filter_map(|asked| place(number, asked))
        .collect()
}

/// A connection was there, and then there was no HTTP.
async fn explain(
    upstream: &Upstream,
    proxies: &ProxyVariables,
    path: &PathAndQuery,
    trouble: Trouble,
) -> Finding {
    let failure = match trouble {
        Trouble::Late(patience) => {
            let message = format!("no answer within request_timeout ({patience:?})");
            return Finding::new(Code::NoAnswer, message)
                .next("does the upstream work? then raise its request_timeout");
        }
        Trouble::NoCredential(reason) => {
            let message = format!("there is nothing to sign with: {reason}");
            return Finding::new(Code::CredentialUnavailable, message)
                .next("look at the credential's token_url or issuer, its client_id and secret");
        }
        Trouble::Failed(failure) => failure,
    };
    let cause = &failure.cause;
    if upstream.config.http_version != HttpVersion::Http1
        && let Some(answer) = over_h1(upstream, proxies, path).await
        && answer.version <= Version::HTTP_11
    {
        let message = format!("HTTP/2 fails ({cause}), and HTTP/1.1 works");
        return Finding::new(Code::Http2Broken, message)
            .next("set the upstream's http_version = \"1.1\", then: mcp-auth-proxy reload");
    }
    match failure.kind {
        Kind::BadResponse => Finding::new(
            Code::NotHttp,
            format!("what answers there is no HTTP: {cause}"),
        )
        .next("is the url right, and its port? is it https://?"),
        Kind::Reset => Finding::new(
            Code::ConnectionReset,
            format!("the connection ends before an answer: {cause}"),
        )
        .next("is it https://? does the upstream want client_cert? its log may say why"),
        _ => Finding::new(
            Code::ConnectFailed,
            format!("the connection failed: {cause}"),
        )
        .next("does the upstream work? try again"),
    }
}

async fn over_h1(
    upstream: &Upstream,
    proxies: &ProxyVariables,
    path: &PathAndQuery,
) -> Option<Answer> {
    let mut config = upstream.config.clone();
    config.http_version = HttpVersion::Http1;
    let client = Client::new(&config, proxies);
    let peer = Peer {
        upstream,
        client: &client,
    };
    era::discover(&peer, path).await.ok()
}
