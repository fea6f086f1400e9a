//! The process environment, read once.
//!
//! Reloads work from the snapshot: after [`scrub`] the process's own copy of a
//! secret is gone, and changing the environment of a running process is no
//! way to reconfigure it.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A snapshot of the environment; cheap to clone, wiped when the last clone goes.
#[derive(Clone)]
pub struct Env {
    values: Arc<BTreeMap<String, Zeroizing<Vec<u8>>>>,
    euid: u32,
}

impl Env {
    /// Takes what the process was started with. Variables whose name is not UTF-8
    /// are left out: no setting can name them.
    pub fn capture() -> Env {
        let pairs = std::env::vars_os().filter_map(|(name, value)| {
            let value = Zeroizing::new(value.into_vec());
            Some((name.into_string().ok()?, value))
        });
        Env {
            values: Arc::new(pairs.collect()),
            euid: effective_uid(),
        }
    }

    /// An environment of the caller's making, for tests and for `demo`.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Env
    where
        N: Into<String>,
        V: Into<Vec<u8>>,
    {
        let pairs = pairs
            .into_iter()
            .map(|(n, v)| (n.into(), Zeroizing::new(v.into())));
        Env {
            values: Arc::new(pairs.collect()),
            euid: effective_uid(),
        }
    }

    /// The same environment as another user would see it; default paths depend on who asks.
    #[must_use]
    pub fn with_euid(mut self, euid: u32) -> Env {
        self.euid = euid;
        self
    }

    /// A variable's value; `None` too when it is not UTF-8 (see [`Env::bytes`]).
    pub fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// A variable's value as the kernel handed it over.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(|value| value.as_slice())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The effective user id that the process runs under.
    pub fn euid(&self) -> u32 {
        self.euid
    }
}

impl fmt::Debug for Env {
    /// Names only: any value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Overwrites the values of these variables where the kernel put them, then removes
/// the variables: `/proc/PID/environ` and `ps e` show that memory to whoever may
/// look, for as long as the process lives.
///
/// # Safety
///
/// No other thread may exist: the C library's environment has no lock.
#[expect(
    unsafe_code,
    reason = "no safe interface reaches the environment block in place"
)]
pub unsafe fn scrub(names: impl IntoIterator<Item = impl AsRef<str>>) {
    for name in names {
        let name = name.as_ref();
        let Ok(c_name) = CString::new(name) else {
            continue;
        };
        if name.is_empty() || name.contains('=') {
            continue; // remove_var panics on a name that no environment can hold
        }
        // SAFETY: the caller promises that no other thread reads or changes the
        // environment; getenv's pointer is to a NUL-terminated, writable string, and
        // only the bytes before its NUL are written.
        unsafe {
            let value = libc::getenv(c_name.as_ptr());
            if value.is_null() {
                continue;
            }
            for i in 0..libc::strlen(value) {
                // Volatile: nobody reads these bytes again, so plain stores might be left out.
                value.add(i).write_volatile(0);
            }
            std::env::remove_var(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_names_and_no_values() {
        let env = Env::from_pairs([("MCP_API_SECRET", "hunter2")]);
        assert_eq!(format!("{env:?}"), r#"{"MCP_API_SECRET"}"#);
    }

    #[test]
    fn a_value_that_is_not_utf8_is_reachable_as_bytes_only() {
        let env = Env::from_pairs([("X", vec![0xff, 0xfe])]);
        assert_eq!(env.get("X"), None);
        assert_eq!(env.bytes("X"), Some(&[0xff, 0xfe][..]));
    }

    /// Runs itself again as a child, because scrubbing needs an environment that a
    /// kernel has laid out, and must not touch that of the other tests.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_scrubbed_variable_is_gone_from_proc_environ() {
        const SECRET: &str = "swordfish-in-the-environment";
        if std::env::var_os("SCRUB_TEST_CHILD").is_some() {
            let env = Env::capture();
            // SAFETY: the child runs this one test; its main thread only waits for it.
            #[expect(unsafe_code, reason = "see above")]
            unsafe {
                scrub(["SCRUB_TEST_SECRET", "SCRUB_TEST_UNSET", "", "A=B"]);
            }
            let block = std::fs::read("/proc/self/environ").unwrap();
            let block = String::from_utf8_lossy(&block);
            assert!(block.contains("SCRUB_TEST_CHILD=1"), "{block}");
            assert!(!block.contains(SECRET), "{block}");
            assert_eq!(std::env::var_os("SCRUB_TEST_SECRET"), None);
            assert_eq!(env.get("SCRUB_TEST_SECRET"), Some(SECRET));
            return;
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "env::tests::a_scrubbed_variable_is_gone_from_proc_environ",
            ])
            .args(["--test-threads", "1", "--quiet"])
            .env("SCRUB_TEST_CHILD", "1")
            .env("SCRUB_TEST_SECRET", SECRET)
            .output()
            .unwrap();
        assert!(
            child.status.success(),
            "{}",
            String::from_utf8_lossy(&child.stdout)
        );
    }
}
