//! `[admin]`: where operators reach the daemon.

use std::path::{Path, PathBuf};

use super::decode::{Field, Section};
use super::listener::{Placed, loopback, same};
use super::target::socket_path;
use super::tree::Origin;
use super::{Admin, ListenAddress, UnixAddress};
use crate::paths;

pub fn decode_admin(root: &mut Section<'_>, listeners: &[Placed]) -> Admin {
    let Some(mut s) = root.field("admin").and_then(|field| field.section()) else {
        return Admin {
            unix: default_socket(root, listeners),
            tcp: None,
        };
    };
    let unix = match s.field("unix") {
        None => default_socket(root, listeners),
        Some(field) => given(&field, |text| socket_path(Path::new(text))).map(private),
    };
    let tcp = s
        .field("tcp")
        .and_then(|field| given(&field, |text| loopback(text, false)));
    s.finish();
    let admin = Admin { unix, tcp };
    refuse_clashes(root, &admin, listeners);
    admin
}

/// An address, or `off`.
fn given<T>(field: &Field<'_>, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    field
        .parse(|text| {
            if text == "off" {
                Ok(None)
            } else {
                parse(text).map(Some)
            }
        })
        .flatten()
}

/// Beside the first Unix socket of the proxy's, else where sockets are by default.
fn default_socket(root: &Section<'_>, listeners: &[Placed]) -> Option<UnixAddress> {
    let beside = listeners
        .iter()
        .find_map(|(listener, origin)| match &listener.address {
            ListenAddress::Unix(unix) => Some((unix.path.with_file_name("admin.sock"), *origin)),
            ListenAddress::Tcp(_) => None,
        });
    let (path, origin) = match beside {
        Some(found) => found,
        None => (paths::admin_socket(root.report.env)?, Origin::Default),
    };
    if let Err(message) = socket_path(&path) {
        let message = format!(
            "for the default {}: {message}, or set admin.unix",
            path.display()
        );
        root.report.problem(origin, "admin.unix", message);
    }
    Some(private(path))
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

fn refuse_clashes(root: &Section<'_>, admin: &Admin, listeners: &[Placed]) {
    let unix = admin.unix.clone().map(ListenAddress::Unix);
    let tcp = admin.tcp.map(ListenAddress::Tcp);
    for (address, key) in [(unix, "admin.unix"), (tcp, "admin.tcp")] {
        let Some(address) = address else { continue };
        for (_, origin) in listeners
            .iter()
            .filter(|(other, _)| same(&other.address, &address))
        {
            let message =
                format!("this is the address of {key} too; choose another for one of the two");
            root.report.problem(*origin, "listener", message);
        }
    }
}
