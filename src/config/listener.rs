//! `[[listener]]`: where the daemon can be reached, and by whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use nix::unistd::Gid;

use super::access::decode_access;
use super::browser::{decode_hosts, decode_origins};
use super::decode::{Field, Section};
use super::route::{Upstreams, decode_set};
use super::server_tls::decode_server_tls;
use super::target::listening_path;
use super::tokens::decode_tokens;
use super::tree::Origin;
use super::{ListenAddress, Listener, Route, ServerTls, Tokens, UnixAddress};
use crate::paths;

/// Members of this group may use the system's daemon.
const SYSTEM_GROUP: &str = "mcp-auth-proxy";

/// A listener, and where its address is written.
pub type Placed = (Listener, Origin);

/// What a listener's own routes are decoded with, and added to.
pub struct Routing<'a> {
    pub upstreams: &'a Upstreams<'a>,
    pub routes: Vec<Route>,
}

/// Decodes every listener. Their places are for [`super::admin`].
///
/// Without `routing` the addresses alone count: no file that they name is read.
pub fn decode_listeners(
    root: &mut Section<'_>,
    mut routing: Option<&mut Routing<'_>>,
) -> Vec<Placed> {
    let Some(field) = root.field("listener") else {
        return Vec::new();
    };
    let Some(items) = field.items() else {
        return Vec::new();
    };
    let mut listeners: Vec<Placed> = Vec::new();
    for item in &items {
        let Some((listener, origin)) = decode_listener(item, routing.as_deref_mut()) else {
            continue;
        };
        let clash = listeners
            .iter()
            .find(|(other, _)| same(&other.address, &listener.address));
        if let Some((_, first)) = clash {
            let place = item.report.place(*first, origin);
            item.report.problem(
                origin,
                &item.path,
                format!("this address is listened on already ({place}); remove one"),
            );
        }
        listeners.push((listener, origin));
    }
    if items.is_empty() {
        field.report.problem(
            field.key_origin,
            "listener",
            "there is no listener, so nobody could connect; give an address for a socket or a port",
        );
    }
    listeners
}

/// Port 0 asks the kernel for a free one, so two of those do not clash.
pub fn same(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a.path == b.path,
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => a == b && a.port() != 0,
        _ => false,
    }
}

fn decode_listener(item: &Field<'_>, routing: Option<&mut Routing<'_>>) -> Option<Placed> {
    let mut s = item.section()?;
    let advice = "write unix = \"/path/to.sock\" or tcp = \"127.0.0.1:8080\"";
    let field = s.exactly_one(&["unix", "tcp"], advice);
    let allow_non_loopback = s.field("allow_non_loopback").and_then(|f| f.boolean());
    let address = match &field {
        Some(field) if field.key() == "tcp" => {
            refuse_unix_keys(&mut s);
            field.parse(ip_and_port).map(ListenAddress::Tcp)
        }
        Some(field) => decode_unix(&mut s, field).map(ListenAddress::Unix),
        None => {
            // Asked for only to be known: the listener's kind is the problem, not these.
            for key in ["mode", "owner", "group"] {
                s.field(key);
            }
            None
        }
    };
    let allowed_hosts = s.field("allowed_hosts").and_then(|f| decode_hosts(&f));
    let allowed_origins = s.field("allowed_origins").and_then(|f| decode_origins(&f));
    let access = decode_access(&mut s);
    let wants_tls = s.field("tls").is_some();
    let (tokens, tls) = match &routing {
        Some(_) => decode_security(&mut s, address.as_ref()),
        None => (s.field("tokens").and(None), s.field("tls").and(None)),
    };
    let is_whole = routing.is_some();
    let own_routes = s.field("route");
    let routes = own_routes.zip(routing).map(|(field, routing)| {
        let begin = routing.routes.len();
        routing.routes.extend(decode_set(&field, routing.upstreams));
        begin..routing.routes.len()
    });
    s.finish();
    let listener = Listener {
        address: address?,
        allowed_hosts: allowed_hosts.unwrap_or_default(),
        allowed_origins: allowed_origins.unwrap_or_default(),
        routes,
        access: access?,
        tokens: tokens.unwrap_or_default(),
        tls,
        wants_tls,
    };
    let field = field?;
    if is_whole && let ListenAddress::Tcp(tcp) = &listener.address {
        check_openness(
            &field,
            *tcp,
            allow_non_loopback.unwrap_or_default(),
            &listener,
        );
    }
    Some((listener, field.origin()))
}

fn refuse_unix_keys(s: &mut Section<'_>) {
    for key in ["mode", "owner", "group"] {
        if let Some(field) = s.field(key) {
            field.key_problem("a TCP port has no owner or mode; remove this, or use a Unix socket");
        }
    }
}

/// How clients prove who they are, and how they see who we are.
fn decode_security(
    s: &mut Section<'_>,
    address: Option<&ListenAddress>,
) -> (Option<Tokens>, Option<ServerTls>) {
    let tokens = s.field("tokens").and_then(|field| decode_tokens(&field));
    let field = s.field("tls");
    if let (Some(field), Some(ListenAddress::Unix(_))) = (&field, address) {
        field.key_problem("nobody listens in on a Unix socket; remove this, or use a TCP port");
        return (tokens, None);
    }
    let tls = field.and_then(|field| decode_server_tls(&field, tokens.is_some()));
    (tokens, tls)
}

/// Whoever can connect is signed for, so the network may not come in unknown.
fn check_openness(field: &Field<'_>, address: SocketAddr, allowed: bool, listener: &Listener) {
    if address.ip().is_loopback() {
        return;
    }
    let mut missing = Vec::new();
    if !allowed {
        missing.push("allow_non_loopback = true");
    }
    if listener.tls.is_none() {
        missing.push("tls = { cert = ..., key = ... }");
    }
    if !listener.asks_who() {
        missing.push("tokens or tls.client_ca");
    }
    if !missing.is_empty() {
        field.problem(format!(
            "{} is not a loopback address, and whoever can connect is signed for; add {}, or write {}:{}",
            address.ip(),
            missing.join(" and "),
            loopback_of(address.ip()),
            address.port()
        ));
    } else if listener.allowed_hosts.is_empty() {
        field.warn(
            "no request will be let in but those to a loopback name; list the names that clients use in allowed_hosts",
        );
    }
}

/// A loopback address and port.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = ip_and_port(text)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "{} is not a loopback address, and this must be one; write {}:{}",
        address.ip(),
        loopback_of(address.ip()),
        address.port()
    ))
}

fn ip_and_port(text: &str) -> Result<SocketAddr, String> {
    let port = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok());
    if let Some(port) = port {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        format!("{text:?} is no IP address with a port; write it as in \"127.0.0.1:8080\" or \"[::1]:8080\"")
    })
}

fn loopback_of(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "127.0.0.1" } else { "[::1]" }
}

fn decode_unix(s: &mut Section<'_>, field: &Field<'_>) -> Option<UnixAddress> {
    let path = field.parse(|text| listening_path(Path::new(text)));
    let mode = s.field("mode").and_then(|f| f.parse(octal));
    let ids = &field.report.ids;
    let owner = s
        .field("owner")
        .and_then(|f| f.parse(|name| ids.user(name)));
    let group = s
        .field("group")
        .and_then(|f| f.parse(|name| ids.group(name)));
    let system = paths::runtime_dir_is_system(field.report.env);
    Some(UnixAddress {
        path: path?,
        mode: mode.unwrap_or(if system { 0o660 } else { 0o600 }),
        owner,
        group: group.or_else(|| system.then(|| system_group(field)).flatten()),
    })
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err(format!(
            "{text:?} is no file mode; write octal digits, such as \"0660\""
        )),
    }
}

/// The package's group, if it exists and this process may give a file to it: a default
/// must not make the start fail.
fn system_group(field: &Field<'_>) -> Option<u32> {
    let gid = Gid::from_raw(field.report.ids.group(SYSTEM_GROUP).ok()?);
    let member = gid == nix::unistd::getegid() || is_supplementary(gid);
    (field.report.env.euid() == 0 || member).then_some(gid.as_raw())
}

#[cfg(target_os = "macos")]
fn is_supplementary(_: Gid) -> bool {
    false // getgroups tells only part of a user's groups there
}

#[cfg(not(target_os = "macos"))]
fn is_supplementary(gid: Gid) -> bool {
    nix::unistd::getgroups().is_ok_and(|groups| groups.contains(&gid))
}
