//! `[admin]`: where operators reach the daemon.

use std::path::{Path, PathBuf};

use super::decode::{Field, Section};
use super::listener::{Placed, loopback, same};
use super::report::Report;
use super::target::listening_path;
use super::tree::Origin;
use super::{Admin, ListenAddress, UnixAddress};
use crate::paths;

pub fn decode_admin(root: &mut Section<'_>, listeners: &[Placed]) -> Admin {
    let report = root.report;
    let section = root.field("admin").and_then(|field| field.section());
    let (unix, tcp) = match section {
        None => (default_socket(report, listeners), None),
        Some(mut s) => {
            let unix = match s.field("unix") {
                None => default_socket(report, listeners),
                Some(field) => given(&field, |text| listening_path(Path::new(text))),
            };
            let tcp = s.field("tcp").and_then(|field| given(&field, loopback));
            s.finish();
            (unix, tcp)
        }
    };
    let unix = unix.map(|(path, origin)| (private(path), origin));
    let addresses = [
        (
            "admin.unix",
            unix.clone()
                .map(|(unix, origin)| (ListenAddress::Unix(unix), origin)),
        ),
        (
            "admin.tcp",
            tcp.map(|(tcp, origin)| (ListenAddress::Tcp(tcp), origin)),
        ),
    ];
    for (key, (address, origin)) in addresses.iter().filter_map(|(k, a)| Some((k, a.as_ref()?))) {
        if let Some((_, first)) = listeners
            .iter()
            .find(|(other, _)| same(&other.address, address))
        {
            let place = report.place(*first, *origin);
            let message = format!("a listener has this address already ({place}); choose another");
            report.problem(*origin, key, message);
        }
    }
    Admin {
        unix: unix.map(|(unix, _)| unix),
        tcp: tcp.map(|(tcp, _)| tcp),
    }
}

/// An address and its place; nothing if it is `off`.
fn given<T>(
    field: &Field<'_>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<(T, Origin)> {
    if field.is("off") {
        return None;
    }
    field.parse(parse).map(|address| (address, field.origin()))
}

/// Beside the first Unix socket of the proxy's, else where sockets are by default.
fn default_socket(report: &Report<'_>, listeners: &[Placed]) -> Option<(PathBuf, Origin)> {
    let beside = listeners
        .iter()
        .find_map(|(listener, origin)| match &listener.address {
            ListenAddress::Unix(unix) => Some((unix.path.with_file_name("admin.sock"), *origin)),
            ListenAddress::Tcp(_) => None,
        });
    let by_default = || Some((paths::admin_socket(report.env)?, Origin::Default));
    let (path, origin) = beside.or_else(by_default)?;
    if let Err(message) = listening_path(&path) {
        let message = format!(
            "for the admin socket {}: {message}, or set admin.unix",
            path.display()
        );
        report.problem(origin, "admin.unix", message);
    }
    Some((path, origin))
}

/// For its owner alone: whoever reaches it can reload the daemon and read its state.
fn private(path: PathBuf) -> UnixAddress {
    UnixAddress {
        path,
        mode: 0o600,
        owner: None,
        group: None,
    }
}
