//! Finds why it does not work: from the configuration to the MCP handshake, in the order of the way.
//!
//! What the daemon does, this does with the daemon's own functions: loading, connecting,
//! signing. What can be known of this host is looked at first, so that much is found
//! without a network and without a daemon.

mod ask;
mod era;
mod finding;
mod host;
mod listener;
mod mcp;
mod network;
mod page;
mod refusal;
mod service;
mod stream;
mod tls;
mod upstream;

use std::process::ExitCode;

use crate::cli::DoctorArgs;
use crate::client::ProxyVariables;
use crate::config::{Config, Sources};
use crate::exit;
use crate::metrics::Metrics;
use crate::snapshot::{Site, Snapshot};

pub use self::finding::{Code, Finding, Verdict};

/// Everything that was found, in the order of the checks.
#[derive(Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// The findings about one upstream.
    fn extend(&mut self, upstream: &str, findings: Findings) {
        self.0.extend(findings.0.into_iter().map(|mut finding| {
            finding.upstream = Some(upstream.to_owned());
            finding
        }));
    }

    /// That of the worst: what is wrong with the configuration explains what fails after it.
    fn exit(&self) -> u8 {
        let failed = self.0.iter().filter(|f| f.code.verdict() == Verdict::Fail);
        failed.map(|f| f.code.exit()).max().unwrap_or(exit::OK)
    }
}

pub fn run(sources: &Sources, args: &DoctorArgs) -> ExitCode {
    let mut findings = Findings::default();
    let config = host::configuration(sources, &mut findings);
    if let Some(config) = &config {
        host::files(config, &mut findings);
    }
    let daemon = host::daemon(sources, &args.admin, config.as_ref(), &mut findings);
    listener::all(sources, daemon.as_ref(), &mut findings);
    if let Some(config) = config
        && let Err(error) = upstreams(sources, args, config, &mut findings)
    {
        // What was found so far may well be why.
        let message = format!("no upstream could be looked at: {error}");
        let finding = Finding::new(Code::ConfigurationWrong, message);
        findings.add(finding.next("correct that, then: mcp-auth-proxy check"));
    }
    if args.json {
        println!("{}", page::json(&findings));
    } else {
        print!("{}", page::human(&findings));
    }
    findings.exit().into()
}

fn upstreams(
    sources: &Sources,
    args: &DoctorArgs,
    config: Config,
    findings: &mut Findings,
) -> std::io::Result<()> {
    let proxies = ProxyVariables::new(|name| sources.env.get(name).map(str::to_owned));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let context = runtime.enter();
    let snapshot = Snapshot::new(config, None, &proxies, &Metrics::default(), &log)
        .map_err(std::io::Error::other)?;
    runtime.block_on(async {
        for index in 0..snapshot.upstreams.len() {
            let route = args.route.as_ref().map(|route| route.path());
            for site in snapshot.upstreams[index].sites() {
                let found = upstream::examine(&snapshot, index, site, &proxies, route).await;
                let name = &site.config.name;
                match &site.site {
                    Some(Site { label, .. }) => findings.extend(&format!("{name} {label}"), found),
                    None => findings.extend(name, found),
                }
            }
        }
    });
    drop(context);
    // A name that is still being resolved must not keep the report back.
    runtime.shutdown_background();
    Ok(())
}
