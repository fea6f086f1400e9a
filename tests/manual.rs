//! The manual pages name what the program has, and nothing that it has not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use clap::CommandFactory;
use mcp_auth_proxy::cli::Cli;
use mcp_auth_proxy::config::{Config, Env, Flags, Problems, Sources};
use mcp_auth_proxy::doctor;
use mcp_auth_proxy::metrics::{CredentialGauges, Gauges, Metrics, UpstreamGauges};
use mcp_auth_proxy::proxy::Code;

const DAEMON: &str = include_str!("../man/mcp-auth-proxy.8");
const FILE: &str = include_str!("../man/mcp-auth-proxy.toml.5");
const ARCHITECTURE: &str = include_str!("../man/mcp-auth-proxy-architecture.7");
const OPERATIONS: &str = include_str!("../man/mcp-auth-proxy-operations.7");
const PERFORMANCE: &str = include_str!("../man/mcp-auth-proxy-performance.7");
const TROUBLESHOOTING: &str = include_str!("../man/mcp-auth-proxy-troubleshooting.7");
const CREDENTIALS: &str = include_str!("../man/mcp-auth-proxy-credentials.7");
const CLIENT_CONFIG: &str = include_str!("../man/mcp-auth-proxy-client-config.1");
const PAGES: [&str; 7] = [
    DAEMON,
    FILE,
    ARCHITECTURE,
    CREDENTIALS,
    OPERATIONS,
    PERFORMANCE,
    TROUBLESHOOTING,
];

/// Variables that libraries read for us, which no line of ours names.
const READ_BY_LIBRARIES: [&str; 5] = [
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_TRACES_SAMPLER_ARG",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

type Names = BTreeSet<String>;

fn names<S: Into<String>>(list: impl IntoIterator<Item = S>) -> Names {
    list.into_iter().map(Into::into).collect()
}

/// What mdoc escapes, as the reader sees it.
fn plain(text: &str) -> String {
    text.replace("\\(dq", "\"")
        .replace("\\&", "")
        .replace("\\e", "\\")
}

/// The parts of `page` that a macro such as `.Sh` heads, by their titles.
fn parts(page: &str, heading: &str) -> BTreeMap<String, String> {
    let mark = format!("\n{heading} ");
    format!("\n{page}")
        .split(&mark)
        .skip(1)
        .map(|part| part.split_once('\n').unwrap_or((part, "")))
        .map(|(title, text)| (title.to_owned(), text.to_owned()))
        .collect()
}

fn section(page: &str, title: &str) -> String {
    parts(page, ".Sh").remove(title).unwrap()
}

/// The words of each list item that `macros` begin, such as `.It Fl`.
fn items(text: &str, macros: &str) -> Vec<String> {
    let lines = text.lines();
    lines
        .filter_map(|line| line.strip_prefix(macros)?.strip_prefix(' '))
        .map(plain)
        .collect()
}

fn listed(text: &str, macros: &str) -> Names {
    let items = items(text, macros);
    names(
        items
            .iter()
            .flat_map(|item| item.split(" , "))
            .map(str::trim),
    )
}

// Commands and flags.

/// `-long value` for each option of a command, as the manual writes it.
fn options_of(command: &clap::Command) -> Names {
    let own = command
        .get_arguments()
        .filter(|argument| !argument.is_global_set());
    let own = own.filter_map(|argument| Some((argument.get_long()?, argument)));
    own.filter(|(long, _)| !["help", "version"].contains(long))
        .map(|(long, argument)| {
            let takes_value = argument.get_action().takes_values();
            let value = argument
                .get_value_names()
                .filter(|_| takes_value)
                .map_or(String::new(), |names| {
                    format!(" {}", names[0].to_ascii_lowercase())
                });
            format!("-{long}{value}")
        })
        .collect()
}

#[test]
fn every_command_and_flag_is_described_and_exists() {
    let mut cli = Cli::command();
    cli.build();
    let described = parts(&section(DAEMON, "COMMANDS"), ".Ss");
    let commands: BTreeMap<_, _> = cli
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .map(|command| (command.get_name().to_owned(), options_of(command)))
        .collect();
    let in_manual: BTreeMap<_, _> = described
        .iter()
        .map(|(command, text)| {
            let options = listed(text, ".It Fl").into_iter();
            (
                command.clone(),
                options.map(|option| option.replace(" Ar ", " ")).collect(),
            )
        })
        .collect();
    assert_eq!(in_manual, commands);
    let synopsis = section(DAEMON, "SYNOPSIS");
    for command in commands.keys() {
        assert!(synopsis.contains(&format!("Cm {command}")), "{command}");
    }
}

#[test]
fn the_page_of_client_config_has_its_every_option_and_client() {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand("client-config").unwrap();
    let description = section(CLIENT_CONFIG, "DESCRIPTION");
    let options = listed(&description, ".It Fl").into_iter();
    let options = options.map(|option| option.replace(" Ar ", " "));
    assert_eq!(names(options), options_of(command));
    let client = command.get_arguments().find(|a| a.get_id() == "client");
    let clients = client.unwrap().get_possible_values();
    let rows = items(&parts(&description, ".Ss")["Clients"], ".It");
    let told = rows.iter().filter_map(|row| row.split(' ').next());
    assert_eq!(
        names(told.filter(|name| *name != "Em")),
        names(clients.iter().map(|client| client.get_name()))
    );
}

#[test]
fn common_flags_are_described_and_exist() {
    let cli = Cli::command();
    let described = listed(&section(DAEMON, "DESCRIPTION"), ".It Fl");
    let mut long = names(["-help", "-version"]);
    let mut short = names(["h", "V"]);
    for argument in cli.get_arguments().filter(|a| a.is_global_set()) {
        long.extend(argument.get_long().map(|name| format!("-{name}")));
        short.extend(argument.get_short().map(String::from));
    }
    let told = described.iter().flat_map(|item| item.split(' '));
    let told: Names = names(told.filter(|word| !["Fl", "Ar", "file"].contains(word)));
    assert_eq!(told, &long | &short);
}

// Configuration.

/// A directory that has every file the examples name.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        for secret in [
            "secrets/acme",
            "secrets/acme-session",
            "secrets/red",
            "secrets/blue",
            "secrets/ci-token",
            "credentials/reports",
            "acme.key",
        ] {
            place.write(secret, "s3cret of many bytes\n");
        }
        let authority = rcgen::generate_simple_self_signed(["acme.example".to_owned()]).unwrap();
        place.write("acme-ca.pem", &authority.cert.pem());
        for directory in ["", "conf.d/"] {
            place.write(&format!("{directory}server.pem"), &authority.cert.pem());
            let key = authority.signing_key.serialize_pem();
            place.write(&format!("{directory}server.key"), &key);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }

    /// Loads `text` as the daemon does, with this directory for the system's.
    fn load(&self, name: &str, text: &str) -> Result<Config, Problems> {
        let text = text.replace("/etc/mcp-auth-proxy", self.0.path().to_str().unwrap());
        // The package's group need not exist where the tests run.
        let groups = ["mcp-auth-proxy", "red", "blue"];
        let known =
            |text: String, name| text.replace(&format!("group = \"{name}\""), "group = \"0\"");
        let text = groups.iter().fold(text.to_owned(), known);
        self.write(name, &text);
        let credentials = self.path("credentials");
        Config::load(&Sources {
            file: Some(self.path(if name.starts_with("conf.d/") {
                "config.toml"
            } else {
                name
            })),
            env: Env::from_pairs([
                ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()),
                ("REPORTS_ID", "second-id"),
                ("XDG_RUNTIME_DIR", "/run/user/4711"),
            ])
            .with_euid(4711),
            flags: Flags::default(),
        })
    }
}

/// The literal blocks under a comment such as `.\" toml`, with what follows the word there.
fn examples(page: &str, language: &str) -> Vec<(String, String)> {
    let mark = format!("\n.\\\" {language}");
    page.split(&mark)
        .skip(1)
        .map(|rest| {
            let (kind, rest) = rest.split_once('\n').unwrap();
            let (_, block) = rest.split_once('\n').unwrap();
            let block = block.split("\n.Ed").next().unwrap();
            (kind.trim().to_owned(), plain(block) + "\n")
        })
        .collect()
}

/// Files that an example writes with a here-document.
fn here_documents(page: &str) -> Vec<String> {
    page.split("<<'X'\n")
        .skip(1)
        .map(|rest| plain(rest.split("\nX\n").next().unwrap()) + "\n")
        .collect()
}

#[test]
fn every_configuration_in_the_manuals_loads_without_a_warning() {
    let smallest = &examples(FILE, "toml")[0].1;
    let mut seen = 0;
    for page in PAGES {
        let mut all = Vec::new();
        for (kind, text) in examples(page, "toml") {
            let fragment = kind == "fragment";
            all.push((
                if fragment {
                    "conf.d/50.toml"
                } else {
                    "config.toml"
                },
                text,
            ));
        }
        for language in ["yaml", "json"] {
            for (_, text) in examples(page, language) {
                all.push((
                    if language == "yaml" {
                        "config.yaml"
                    } else {
                        "config.json"
                    },
                    text,
                ));
            }
        }
        all.extend(
            here_documents(page)
                .into_iter()
                .map(|text| ("config.toml", text)),
        );
        for (name, text) in all {
            let place = Place::new();
            if name.starts_with("conf.d/") {
                let base = place.load("config.toml", smallest);
                assert!(base.is_ok(), "{base:?}");
            }
            match place.load(name, &text) {
                Ok(config) => assert!(config.warnings.is_empty(), "{text}{:?}", config.warnings),
                Err(problems) => panic!("{text}{problems}"),
            }
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen} examples were found");
}

/// Where an unknown key has to be written to learn which keys there are.
const SECTIONS: &[(&str, &str)] = &[
    ("Top level", "qqqqqqqq = 1"),
    (
        "[upstream.NAME]",
        "[upstream.acme]\nurl = \"https://a/\"\nqqqqqqqq = 1",
    ),
    (
        "[upstream.NAME.retry]",
        "[upstream.acme]\nurl = \"https://a/\"\nretry.qqqqqqqq = 1",
    ),
    (
        "[upstream.NAME.breaker]",
        "[upstream.acme]\nurl = \"https://a/\"\nbreaker.qqqqqqqq = 1",
    ),
    (
        "[upstream.NAME.cache]",
        "[upstream.acme]\nurl = \"https://a/\"\ncache.qqqqqqqq = 1",
    ),
    (
        "[upstream.NAME.session]",
        "[upstream.acme]\nurl = \"https://a/\"\nsession.qqqqqqqq = 1",
    ),
    (
        "[credential.NAME]",
        "[credential.acme.qqqqqqqq]\nkey_id = \"k\"",
    ),
    (
        "[credential.NAME.auth-gateway]",
        "[credential.acme.auth-gateway]\nqqqqqqqq = 1",
    ),
    (
        "[credential.NAME.auth-gateway.previous]",
        "[credential.acme.auth-gateway.previous]\nqqqqqqqq = 1",
    ),
    (
        "[credential.NAME.bearer]",
        "[credential.acme.bearer]\nqqqqqqqq = 1",
    ),
    (
        "[credential.NAME.oauth-client-credentials]",
        "[credential.acme.oauth-client-credentials]\nqqqqqqqq = 1",
    ),
    (
        "[credential.NAME.http-signature]",
        "[credential.acme.http-signature]\nqqqqqqqq = 1",
    ),
    (
        "[credential.NAME.aws-sigv4]",
        "[credential.acme.aws-sigv4]\nqqqqqqqq = 1",
    ),
    (
        "Secrets",
        "[credential.acme.auth-gateway]\nsecret = { qqqqqqqq = 1 }",
    ),
    (
        "[[listener]]",
        "[[listener]]\ntcp = \"127.0.0.1:0\"\nqqqqqqqq = 1",
    ),
    (
        "[listener.tls]",
        "[[listener]]\ntcp = \"127.0.0.1:0\"\ntls.qqqqqqqq = 1",
    ),
    ("[[route]]", "[[route]]\nqqqqqqqq = 1"),
    ("Clients", "[[route]]\nallow.qqqqqqqq = 1"),
    (
        "[[route.policy]]",
        "[[route]]\n[[route.policy]]\nqqqqqqqq = 1",
    ),
    ("[admin]", "[admin]\nqqqqqqqq = 1"),
    ("[audit]", "[audit]\nqqqqqqqq = 1"),
    ("[telemetry]", "[telemetry]\nqqqqqqqq = 1"),
    ("[log]", "[log]\nqqqqqqqq = 1"),
    (
        "[upstream.NAME.concurrency]",
        "[upstream.acme]\nurl = \"https://a/\"\nconcurrency.qqqqqqqq = 1",
    ),
    ("[[limits.rate]]", "[[limits.rate]]\nqqqqqqqq = 1"),
    ("[limits]", "[limits]\nqqqqqqqq = 1"),
    ("[server]", "[server]\nqqqqqqqq = 1"),
];

/// The keys that the decoder asks for: it names them when it meets one that it does not know.
fn known_keys(config: &str) -> Names {
    let problems = Place::new().load("config.toml", config).unwrap_err();
    let told = problems
        .iter()
        .find(|problem| problem.key().ends_with("qqqqqqqq"))
        .unwrap_or_else(|| panic!("{problems}"));
    let (_, list) = told.message().split_once("; the ").unwrap();
    let (_, list) = list.split_once(" are ").unwrap();
    names(list.split(", "))
}

/// What the manual says of a key in parentheses: type, default, how it takes effect.
fn described_keys() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (title, text) in parts(&section(FILE, "TABLES"), ".Ss") {
        let mut keys = BTreeMap::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(key) = line.strip_prefix(".It Ic ") {
                let terms = lines.next().and_then(|line| line.strip_prefix(".Pq "));
                let terms = terms.unwrap_or_else(|| panic!("{key} has no terms"));
                keys.insert(key.to_owned(), plain(terms));
            }
        }
        all.insert(title, keys);
    }
    all
}

#[test]
fn every_key_is_described_and_exists() {
    let described: BTreeMap<_, _> = described_keys()
        .into_iter()
        .map(|(title, keys)| (title, names(keys.into_keys())))
        .collect();
    let known: BTreeMap<_, _> = SECTIONS
        .iter()
        .map(|(title, config)| ((*title).to_owned(), known_keys(config)))
        .collect();
    assert_eq!(described, known);
}

#[test]
fn every_key_says_whether_a_reload_suffices() {
    for (title, keys) in described_keys() {
        for (key, terms) in keys {
            let effect = terms.rsplit("; ").next().unwrap();
            let known = ["reload", "restart", "reload, but for workers"];
            assert!(known.contains(&effect), "{title} {key}: {terms}");
        }
    }
}

/// A default that is one value, the same everywhere.
fn literal_default(terms: &str) -> Option<&str> {
    let (_, default) = terms.split_once("; default ")?;
    let (default, _) = default.rsplit_once("; ")?;
    let quotes = default.matches('"').count();
    let quoted = quotes == 2 && default.starts_with('"') && default.ends_with('"');
    let plain = ["true", "false", "[]"].contains(&default) || default.parse::<u32>().is_ok();
    (quoted || plain).then_some(default)
}

#[test]
fn the_defaults_in_the_manual_are_those_in_force() {
    let mut promised = described_keys();
    for keys in promised.values_mut() {
        keys.retain(|_, terms| literal_default(terms).is_some());
    }
    promised.retain(|_, keys| !keys.is_empty());
    let all = examples(FILE, "toml");
    let (_, written) = all.iter().find(|(kind, _)| kind == "defaults").unwrap();
    let (mut left_out, mut title) = (String::new(), String::new());
    for line in written.lines() {
        if line.starts_with('[') {
            let header = line.split(" #").next().unwrap().trim();
            title = header.replace(".acme", ".NAME");
        }
        if let Some((key, value)) = line.split_once(" = ") {
            let (title, key) = match key.split_once('.') {
                Some((_, key)) => ("Secrets", key),
                None => (title.as_str(), key),
            };
            let terms = promised.get_mut(title).and_then(|keys| keys.remove(key));
            if let Some(terms) = terms {
                assert_eq!(literal_default(&terms), Some(value), "{title} {key}");
                continue;
            }
        }
        left_out.push_str(line);
        left_out.push('\n');
    }
    promised.retain(|_, keys| !keys.is_empty());
    assert!(promised.is_empty(), "not in the example: {promised:?}");
    let place = Place::new();
    let essence = |text: &str| {
        let config = place
            .load("config.toml", text)
            .unwrap_or_else(|problems| panic!("{text}{problems}"));
        let parts = (&config.upstreams, &config.routes, &config.listeners);
        let rest = (config.log, &config.limits, config.server, &config.admin);
        format!("{parts:#?}{rest:#?}")
    };
    assert_eq!(essence(written), essence(&left_out));
}

// What the program reads, writes and returns.

fn sources(directory: &Path, text: &mut String) {
    let mut entries: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if !path.ends_with("tests") {
                sources(&path, text);
            }
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            let source = fs::read_to_string(&path).unwrap();
            text.push_str(source.split("#[cfg(test)]").next().unwrap());
        }
    }
}

/// The program's own source, without its tests.
fn source() -> String {
    let mut text = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root, &mut text);
    text
}

#[test]
fn every_environment_variable_is_described_and_read() {
    let described = [DAEMON, FILE]
        .iter()
        .flat_map(|page| listed(&section(page, "ENVIRONMENT"), ".It Ev"));
    let described: Names = described.collect();
    let source = source();
    let literals = source.split('"');
    let is_variable = |text: &&str| {
        let shape = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        text.chars().all(shape)
            && text.trim_matches('_').contains('_')
            && !text.ends_with('_')
            && !text.starts_with("CARGO_")
    };
    let mut read: Names = names(literals.filter(is_variable));
    // Two have no underscore to tell them by.
    let home = source.split("absolute(env, \"").skip(1);
    read.extend(home.map(|rest| rest.split('"').next().unwrap().to_owned()));
    read.extend(READ_BY_LIBRARIES.map(str::to_owned));
    assert_eq!(described, read);
}

#[test]
fn every_exit_code_is_described_and_returned() {
    let codes = include_str!("../src/exit.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(" = "))
        .map(|(_, number)| number.trim_end_matches(';'));
    let described = items(&section(DAEMON, "EXIT STATUS"), ".It");
    assert_eq!(names(described), names(codes));
}

#[test]
fn every_error_code_is_described_with_its_status_and_exists() {
    let described = listed(&section(TROUBLESHOOTING, "ERROR CODES"), ".It Sy");
    let codes = Code::ALL
        .iter()
        .map(|code| format!("{} Pq {}", code.as_str(), code.status().as_u16()));
    assert_eq!(described, names(codes));
}

#[test]
fn every_field_of_the_access_log_is_described_and_written() {
    let described = listed(&section(DAEMON, "LOGGING"), ".It Li");
    let written = include_str!("../src/proxy/exchange.rs")
        .split("Key::from(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap());
    assert_eq!(described, names(written));
}

/// The metrics' names as they stand on the page, with one request of each kind behind it.
fn exported() -> Names {
    let metrics = Metrics::default();
    let upstream = metrics.upstream("acme");
    upstream.finished(
        200,
        Duration::from_millis(3),
        Some("tools/call"),
        Some("echo"),
    );
    upstream.retry("reads");
    metrics.route("/acme", "acme").count(&http::Method::POST, 2);
    metrics.export("traces", "success");
    upstream.clock_skew(0);
    upstream.url_down("https://a.example", false);
    metrics.proxy_error("no_route");
    metrics.reloaded(true, SystemTime::now());
    metrics.credential("acme").fetched(true);
    metrics.session_recovery("acme", "recovered");
    metrics.stream_recovery("acme", "recovered");
    let mut page = String::new();
    let gauges = Gauges {
        in_flight: 0,
        connections: 0,
        sessions: 0,
        event_streams: 0,
        log_dropped: 0,
        audit_lost: 0,
        audit_failing: false,
        cache_bytes: 0,
        cache_entries: 0,
        upstreams: vec![UpstreamGauges {
            name: "acme",
            certificate_expiry: Some(SystemTime::now()),
            credential: Some(CredentialGauges {
                name: "key",
                since: SystemTime::now(),
                expiry: Some(SystemTime::now()),
            }),
        }],
    };
    metrics.write(&mut page, &gauges).unwrap();
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.strip_prefix("mcp_auth_proxy_").unwrap_or(name), kind))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect()
}

#[test]
fn every_metric_is_described_and_exported() {
    let described = &parts(&section(OPERATIONS, "MONITORING"), ".Ss")["Metrics"];
    assert_eq!(listed(described, ".It Li"), exported());
}

const ALERTS: &str = include_str!("../packaging/monitoring/alerts.yaml");
const DASHBOARD: &str = include_str!("../packaging/monitoring/dashboard.json");

/// The metrics that an expression of Prometheus names, as [`exported`] writes them.
fn metrics_in(text: &str) -> Names {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter_map(|word| match word.strip_prefix("mcp_auth_proxy_") {
        Some(name) => Some(name),
        None => word.starts_with("process_").then_some(word),
    });
    ours.map(|name| name.strip_suffix("_bucket").unwrap_or(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_alerts_and_the_dashboard_name_metrics_that_are_exported() {
    let exported = exported();
    for (file, text) in [("alerts", ALERTS), ("dashboard", DASHBOARD)] {
        let named = metrics_in(text);
        assert!(named.len() >= 6, "{file} names but {named:?}");
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

#[test]
fn every_error_code_that_an_alert_waits_for_exists() {
    let patterns = ALERTS.split("code").skip(1).filter_map(|rest| {
        let rest = rest.trim_start_matches(['=', '~']).strip_prefix('"')?;
        Some(rest.split('"').next().unwrap())
    });
    let mut seen = 0;
    for pattern in patterns {
        let words = pattern
            .split(['|', '(', ')'])
            .filter(|word| !word.is_empty());
        for word in words.map(|word| word.trim_end_matches(".*")) {
            let is_part = |code: &Code| code.as_str().contains(word);
            assert!(Code::ALL.iter().any(is_part), "no code has {word}");
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen}");
}

#[test]
fn the_alerts_are_yaml_the_dashboard_json_and_both_are_whole() {
    for event in saphyr_parser::Parser::new_from_str(ALERTS) {
        event.unwrap();
    }
    let alerts = ALERTS.matches("- alert: ").count();
    for part in ["expr: ", "severity: ", "summary: ", "description: "] {
        assert_eq!(ALERTS.matches(part).count(), alerts, "{part}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            assert!(!metrics_in(expression).is_empty(), "{expression}");
        }
    }
}

/// The words of a sentence that stand for something else, such as `FILE`, `...` or an example.
fn is_placeholder(word: &str) -> bool {
    let letters = || word.chars().filter(|c| c.is_alphabetic());
    let upper = letters().count() > 0 && letters().all(char::is_uppercase);
    upper || word.contains("...") || word.contains(['"', '('].as_slice()) || {
        word.contains(|c: char| c.is_ascii_digit())
    }
}

#[test]
fn the_sentences_that_the_manual_quotes_are_those_of_the_program() {
    // A sentence may go over several lines, and quotes in it are escaped.
    let mut source = source().replace("\\\"", "\"");
    while let Some(at) = source.find("\\\n") {
        let rest = source[at + 2..].trim_start().to_owned();
        source.truncate(at);
        source.push_str(&rest);
    }
    let quoted: Vec<_> = ["START AND RELOAD", "COMMANDS"]
        .iter()
        .flat_map(|title| items(&section(TROUBLESHOOTING, title), ".It Dq"))
        .collect();
    assert!(quoted.len() > 40);
    let mut unknown = Vec::new();
    for sentence in quoted {
        let mut pieces = vec![String::new()];
        for word in sentence.split(' ') {
            match is_placeholder(word) {
                true => pieces.push(String::new()),
                false => {
                    let piece = pieces.last_mut().unwrap();
                    piece.push_str(if piece.is_empty() { "" } else { " " });
                    piece.push_str(word);
                }
            }
        }
        for piece in pieces.iter().filter(|piece| piece.len() >= 8) {
            let words: Vec<_> = piece.split(' ').collect();
            // A placeholder may stand in the midst of it, or a sentence of its own follow.
            let begins = |from: usize| source.contains(&format!("{} {{", words[..from].join(" ")));
            let goes_on = |to: usize| {
                let rest = words[to..].join(" ");
                ["} ", "}; ", "\""]
                    .iter()
                    .any(|before| source.contains(&format!("{before}{rest}")))
            };
            let around = |at: usize| begins(at) && (at..words.len().min(at + 3)).any(goes_on);
            let found = source.contains(piece) || (1..words.len()).any(around);
            if !found {
                unknown.push(format!("{sentence}: {piece}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn every_finding_of_the_doctor_is_explained_and_exists() {
    let explained = listed(&section(TROUBLESHOOTING, "FINDINGS OF DOCTOR"), ".It Sy");
    let codes = doctor::Code::ALL.iter();
    let told = codes.filter(|code| code.verdict() != doctor::Verdict::Pass);
    assert_eq!(explained, names(told.map(|code| code.as_str())));
}

// The pages themselves.

#[test]
fn references_between_the_pages_lead_somewhere() {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    for page in PAGES {
        let references = page
            .lines()
            .filter_map(|line| line.strip_prefix(".Xr mcp-auth-proxy"));
        for reference in references {
            let mut words = reference.split(' ');
            let (name, number) = (words.next().unwrap(), words.next().unwrap());
            let file = man.join(format!("mcp-auth-proxy{name}.{number}"));
            assert!(file.exists(), "{}", file.display());
        }
    }
}

#[test]
fn mandoc_finds_no_fault() {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let pages = fs::read_dir(man)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let lint = Command::new("mandoc")
        .args(["-Tlint", "-Wwarning"])
        .args(pages)
        .output();
    match lint {
        Ok(lint) => {
            let said = String::from_utf8_lossy(&lint.stdout).into_owned();
            assert!(lint.status.success() && said.is_empty(), "{said}");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("mandoc is not installed: the pages were not linted");
        }
        Err(error) => panic!("{error}"),
    }
}
