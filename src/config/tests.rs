//! Whole configurations, loaded as the daemon loads them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

mod access;
mod cases;
mod layers;
mod listeners;
mod meaning;
mod places;
mod privacy;
mod syntax;
mod upstreams;

/// A directory with a configuration, the environment and the flags.
struct Setup {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
    flags: Flags,
    main: Option<&'static str>,
}

/// The shortest whole configuration; tests append to it.
const SMALL: &str = r#"
[upstream.acme]
url = "https://mcp.acme.example/"
credential = "acme"
[credential.acme.auth-gateway]
key_id = "550e8400"
secret = { file = "key" }
"#;

impl Setup {
    fn empty() -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup {
            dir,
            env: Vec::new(),
            flags: Flags::default(),
            main: None,
        };
        // Defaults must depend neither on who runs the tests nor on what is installed here.
        let home = setup.path("home");
        setup
            .file("home/mcp-auth-proxy/config.toml", "")
            .env("XDG_RUNTIME_DIR", "/run/user/4711")
            .env("XDG_CONFIG_HOME", home.to_str().unwrap())
    }

    /// A main file of this name; `key` beside it holds a secret.
    fn named(name: &'static str, text: &str) -> Setup {
        let mut setup = Setup::empty().file(name, text).private("key", "s3cret\n");
        setup.main = Some(name);
        setup
    }

    fn toml(text: &str) -> Setup {
        Setup::named("config.toml", text)
    }

    /// The small configuration and more.
    fn small_and(text: &str) -> Setup {
        Setup::toml(&format!("{SMALL}{text}"))
    }

    fn file(self, name: &str, text: &str) -> Setup {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self
    }

    fn private(self, name: &str, text: &str) -> Setup {
        let setup = self.file(name, text);
        fs::set_permissions(setup.path(name), Permissions::from_mode(0o600)).unwrap();
        setup
    }

    fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sources(&self) -> Sources {
        Sources {
            file: self.main.map(|name| self.path(name)),
            env: Env::from_pairs(self.env.clone()).with_euid(4711),
            flags: self.flags.clone(),
        }
    }

    fn load(&self) -> Config {
        Config::load(&self.sources()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The terminal's report, with the directory's name left out.
    fn report(&self) -> String {
        let problems = Config::load(&self.sources()).expect_err("this must not load");
        self.shorten(&problems.to_string())
    }

    /// The report's one-line forms.
    fn problems(&self) -> Vec<String> {
        let problems = Config::load(&self.sources()).expect_err("this must not load");
        problems.lines().map(|line| self.shorten(&line)).collect()
    }

    fn only_problem(&self) -> String {
        let mut problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.remove(0)
    }

    fn warnings(&self) -> Vec<String> {
        self.load()
            .warnings
            .iter()
            .map(|line| self.shorten(line))
            .collect()
    }

    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}
