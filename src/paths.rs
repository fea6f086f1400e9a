//! Where things are when nobody says otherwise.
//!
//! Everything here is derived from an [`Env`], so that tests and `check` can ask
//! for another user's answer.

use std::path::{Path, PathBuf};

use crate::env::Env;

/// The directory name used under `/run`, `/etc`, and each user's own directories.
const NAME: &str = "mcp-auth-proxy";

/// The system service's runtime directory. macOS has no /run and empties /var/run at boot, and
/// launchd makes no directories for its sockets: there they lie in one that an installation makes.
const SYSTEM_RUNTIME: &str = if cfg!(target_os = "macos") {
    "/var/db/mcp-auth-proxy"
} else {
    "/run/mcp-auth-proxy"
};

/// The directory for sockets; `None` when this user has no private place for them.
pub fn runtime_dir(env: &Env) -> Option<PathBuf> {
    if let Some(list) = env.get("RUNTIME_DIRECTORY") {
        // systemd joins several directories with colons; the first is the unit's main one.
        let first = list.split(':').next().unwrap_or_default();
        if first.starts_with('/') {
            return Some(PathBuf::from(first));
        }
    }
    if env.euid() == 0 {
        return Some(PathBuf::from(SYSTEM_RUNTIME));
    }
    user_runtime_dir(env)
}

/// Whether [`runtime_dir`] is the system's, shared with other users of the host,
/// rather than inside one user's private directory.
pub fn runtime_dir_is_system(env: &Env) -> bool {
    let Some(dir) = runtime_dir(env) else {
        return false;
    };
    let users = user_runtime_base(env).is_some_and(|base| dir.starts_with(base));
    !users && !dir.starts_with("/run/user")
}

/// The proxy's default Unix socket.
pub fn proxy_socket(env: &Env) -> Option<PathBuf> {
    runtime_dir(env).map(|dir| dir.join("proxy.sock"))
}

/// The default admin socket.
pub fn admin_socket(env: &Env) -> Option<PathBuf> {
    runtime_dir(env).map(|dir| dir.join("admin.sock"))
}

/// Where a client on this host looks for the proxy: the user's own daemon, then the system's.
pub fn proxy_socket_candidates(env: &Env) -> Vec<PathBuf> {
    candidates(env, "proxy.sock")
}

/// Where `status` and `reload` look for a daemon: the user's own, then the system's.
pub fn admin_socket_candidates(env: &Env) -> Vec<PathBuf> {
    candidates(env, "admin.sock")
}

fn candidates(env: &Env, socket: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for dir in runtime_dir(env)
        .into_iter()
        .chain([PathBuf::from(SYSTEM_RUNTIME)])
    {
        let path = dir.join(socket);
        if !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

fn user_runtime_dir(env: &Env) -> Option<PathBuf> {
    user_runtime_base(env).map(|base| base.join(NAME))
}

fn user_runtime_base(env: &Env) -> Option<PathBuf> {
    // The XDG base directory specification says to ignore relative paths.
    if let Some(dir) = absolute(env, "XDG_RUNTIME_DIR") {
        return Some(dir);
    }
    let by_uid = PathBuf::from(format!("/run/user/{}", env.euid()));
    if by_uid.is_dir() {
        return Some(by_uid);
    }
    // macOS gives every user a private TMPDIR; elsewhere it is shared and no place for a socket.
    if cfg!(target_os = "macos") {
        absolute(env, "TMPDIR")
    } else {
        None
    }
}

/// Where a configuration is looked for when neither `--config` nor `MCP_CONFIG` names one.
pub fn config_candidates(env: &Env) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if env.euid() != 0
        && let Some(base) = user_config_base(env)
    {
        found.push(base.join(NAME).join("config.toml"));
    }
    let prefixes: &[&str] = if cfg!(target_os = "macos") {
        &["/opt/homebrew/etc", "/usr/local/etc", "/etc"]
    } else {
        &["/etc"]
    };
    found.extend(
        prefixes
            .iter()
            .map(|etc| Path::new(etc).join(NAME).join("config.toml")),
    );
    found
}

/// The first of [`config_candidates`] that exists.
pub fn config_file(env: &Env) -> Option<PathBuf> {
    // Anything that is there counts, readable or not: a file that cannot be read must
    // become an error, not a quiet fall through to the next place.
    config_candidates(env)
        .into_iter()
        .find(|path| path.symlink_metadata().is_ok())
}

/// Where a user's own configuration files are, of whatever program.
pub fn user_config_base(env: &Env) -> Option<PathBuf> {
    absolute(env, "XDG_CONFIG_HOME").or_else(|| home(env).map(|home| home.join(".config")))
}

/// The user's home directory.
pub fn home(env: &Env) -> Option<PathBuf> {
    absolute(env, "HOME")
}

/// What a variable names, if that is an absolute path.
pub fn absolute(env: &Env, variable: &str) -> Option<PathBuf> {
    env.get(variable)
        .filter(|value| value.starts_with('/'))
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user id that has no /run/user directory anywhere.
    const NOBODY: u32 = 3_999_999_999;

    fn env(euid: u32, pairs: &[(&str, &str)]) -> Env {
        Env::from_pairs(pairs.iter().copied()).with_euid(euid)
    }

    #[test]
    fn systemd_says_where_the_runtime_directory_is() {
        let env = env(
            998,
            &[
                ("RUNTIME_DIRECTORY", "/run/a:/run/b"),
                ("XDG_RUNTIME_DIR", "/x"),
            ],
        );
        assert_eq!(proxy_socket(&env), Some("/run/a/proxy.sock".into()));
        assert!(runtime_dir_is_system(&env));
    }

    #[test]
    fn a_systemd_user_unit_is_not_the_system() {
        let pairs = [("RUNTIME_DIRECTORY", "/x/7/p"), ("XDG_RUNTIME_DIR", "/x/7")];
        assert!(!runtime_dir_is_system(&env(7, &pairs)));
        assert!(!runtime_dir_is_system(&env(
            7,
            &[("RUNTIME_DIRECTORY", "/run/user/7/p")]
        )));
    }

    #[test]
    fn root_uses_the_system_directory_even_with_a_session_of_its_own() {
        let env = env(0, &[("XDG_RUNTIME_DIR", "/run/user/0")]);
        assert_eq!(
            admin_socket(&env),
            Some(Path::new(SYSTEM_RUNTIME).join("admin.sock"))
        );
        assert!(runtime_dir_is_system(&env));
        assert_eq!(
            admin_socket_candidates(&env),
            [Path::new(SYSTEM_RUNTIME).join("admin.sock")]
        );
    }

    #[test]
    fn a_user_looks_for_its_own_daemon_first() {
        let env = env(NOBODY, &[("XDG_RUNTIME_DIR", "/run/user/1000")]);
        assert!(!runtime_dir_is_system(&env));
        assert_eq!(
            proxy_socket_candidates(&env),
            [
                PathBuf::from("/run/user/1000/mcp-auth-proxy/proxy.sock"),
                Path::new(SYSTEM_RUNTIME).join("proxy.sock")
            ]
        );
    }

    #[test]
    #[cfg(not(target_os = "macos"))]
    fn a_user_without_a_private_directory_has_no_default_socket() {
        let env = env(
            NOBODY,
            &[("XDG_RUNTIME_DIR", "relative"), ("TMPDIR", "/tmp")],
        );
        assert_eq!(runtime_dir(&env), None);
        assert_eq!(
            proxy_socket_candidates(&env),
            [Path::new(SYSTEM_RUNTIME).join("proxy.sock")]
        );
    }

    #[test]
    fn a_users_configuration_comes_before_the_systems_and_root_has_none() {
        let home = [("HOME", "/home/u")];
        let user = config_candidates(&env(NOBODY, &home));
        assert_eq!(
            user[0],
            Path::new("/home/u/.config/mcp-auth-proxy/config.toml")
        );
        assert_eq!(
            user.last().unwrap(),
            Path::new("/etc/mcp-auth-proxy/config.toml")
        );
        let root = config_candidates(&env(0, &home));
        assert!(root.iter().all(|path| !path.starts_with("/home")));
        let xdg = config_candidates(&env(NOBODY, &[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]));
        assert_eq!(xdg[0], Path::new("/c/mcp-auth-proxy/config.toml"));
    }
}
