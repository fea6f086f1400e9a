//! A private directory with everything the daemon is configured from; it goes when the demo ends.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A socket's whole path may have 103 bytes on some systems.
const LONGEST_BASE: usize = 60;

/// Removed when dropped.
pub struct Home(PathBuf);

impl Home {
    /// Makes the directory, for this user alone, and writes key, authority and configuration.
    pub fn furnish(
        upstream: SocketAddr,
        ca_pem: &str,
        key_id: &str,
        secret: &str,
    ) -> io::Result<Self> {
        let home = Self::make()?;
        home.write("ca.pem", ca_pem)?;
        home.write("secret", secret)?;
        home.write("config.toml", &home.configuration(upstream, key_id)?)?;
        Ok(home)
    }

    fn make() -> io::Result<Self> {
        let mut base = std::env::temp_dir();
        if base.as_os_str().len() > LONGEST_BASE {
            base = PathBuf::from("/tmp");
        }
        let template = base.join("mcp-auth-proxy-demo.XXXXXX");
        nix::unistd::mkdtemp(&template).map(Self).map_err(|error| {
            let base = base.display();
            io::Error::other(format!(
                "no directory can be made in {base} ({error}); set TMPDIR to another one"
            ))
        })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(self.file(name))?
            .write_all(format!("{text}\n").as_bytes())
    }

    fn configuration(&self, upstream: SocketAddr, key_id: &str) -> io::Result<String> {
        let path = |name: &str| quoted(&self.file(name));
        let (ca, secret) = (path("ca.pem")?, path("secret")?);
        let (proxy, admin) = (path("proxy.sock")?, path("admin.sock")?);
        Ok(format!(
            r#"[upstream.demo]
url = "https://{upstream}/"
credential = "demo"
ca_file = {ca}

[credential.demo.auth-gateway]
key_id = "{key_id}"
secret = {{ file = {secret} }}

[[listener]]
unix = {proxy}
mode = "0600"

[[listener]]
tcp = "127.0.0.1:0"

[admin]
unix = {admin}

[log]
level = "info"
format = "text""#
        ))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// As a TOML string; JSON's escapes are TOML's.
fn quoted(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some(text) => Ok(serde_json::Value::from(text).to_string()),
        None => Err(io::Error::other(format!(
            "{} is not UTF-8; set TMPDIR to another directory",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nobody_else_reads_the_secret_and_nothing_stays_behind() {
        let home = Home::furnish(([127, 0, 0, 1], 1).into(), "ca", "k", "s").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home.0), 0o700);
        assert_eq!(mode(&home.file("secret")), 0o600);
        let directory = home.0.clone();
        drop(home);
        assert!(!directory.exists());
    }
}
