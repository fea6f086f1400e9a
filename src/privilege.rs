//! Giving up root: what it takes to open sockets is gone before the first client is served.
//!
//! In two steps. What threads inherit goes before there are any; users and groups go once the
//! sockets are open, for all threads at once, as the C library does it.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getegid, geteuid, setgid, setuid};

/// Everything that makes a process somebody else's, resolved when the configuration is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunAs {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary ones, with `gid` among them.
    pub groups: Box<[u32]>,
    /// Name and home in the user database.
    pub entry: Option<(String, PathBuf)>,
}

impl RunAs {
    /// Becomes this user, with all threads, and for ever if it was root.
    ///
    /// # Errors
    /// The call that failed; something of it may have been done.
    pub fn become_it(&self) -> Result<(), (&'static str, Errno)> {
        set_groups(&self.groups).map_err(|error| ("setgroups", error))?;
        // Of root these two set the real and the saved ids as well.
        setgid(Gid::from_raw(self.gid)).map_err(|error| ("setgid", error))?;
        setuid(Uid::from_raw(self.uid)).map_err(|error| ("setuid", error))
    }
}

/// Whether this process has to become somebody else, which is said before anything is opened.
///
/// # Errors
/// It would have to, and cannot.
pub fn check(run_as: Option<&RunAs>) -> Result<(), String> {
    let Some(run_as) = run_as else { return Ok(()) };
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if uid == 0 || (uid, gid) == (run_as.uid, run_as.gid) {
        return Ok(());
    }
    Err(format!(
        "server.user is uid {} with gid {}, and only root can become that, not uid {uid} with gid {gid}; \
         start the daemon as root or as that user, or leave server.user out",
        run_as.uid, run_as.gid
    ))
}

/// Why this process stays root, if it does.
///
/// # Errors
/// The reason, with what to do.
pub fn outlook(run_as: Option<&RunAs>) -> Result<(), String> {
    if geteuid().is_root() && run_as.is_none() {
        return Err("it runs as root; name another user in server.user".to_owned());
    }
    Ok(())
}

/// What threads inherit and programs could win back; before any thread is started.
///
/// Best effort: without capabilities of its own no process wins one back through these.
pub fn shed(run_as: Option<&RunAs>) {
    #[cfg(target_os = "linux")]
    if run_as.is_some() && geteuid().is_root() {
        use rustix::thread::{
            CapabilitySet, capabilities, clear_ambient_capability_set,
            remove_capability_from_bounding_set, set_capabilities,
        };
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            // Beyond the kernel's last there is nothing to remove.
            let _ = remove_capability_from_bounding_set(one);
        }
        let _ = clear_ambient_capability_set();
        if let Ok(mut sets) = capabilities(None) {
            sets.inheritable = CapabilitySet::empty();
            let _ = set_capabilities(None, sets);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = run_as;
}

/// The way out of root, with the directories that will have been made as root.
pub struct Departure<'a> {
    run_as: &'a RunAs,
    missing: Vec<PathBuf>,
}

impl<'a> Departure<'a> {
    /// `None`: this process stays who it is. To be made before the sockets are.
    pub fn of<'b>(
        run_as: Option<&'a RunAs>,
        sockets: impl Iterator<Item = &'b Path>,
    ) -> Option<Self> {
        let run_as = run_as.filter(|_| geteuid().is_root())?;
        let directories = sockets.flat_map(|path| path.ancestors().skip(1));
        let missing = directories.filter(|directory| !directory.exists());
        Some(Self {
            run_as,
            missing: missing.map(Path::to_owned).collect(),
        })
    }

    /// Becomes the user, without a way back.
    ///
    /// # Errors
    /// Something of root is left; the process must end.
    pub fn leave(self) -> Result<(), String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            format!(
                "the daemon cannot give up root ({what}: {error}); \
                 let it keep CAP_SETUID and CAP_SETGID until it has, or start it as another user"
            )
        };
        let RunAs { uid, gid, .. } = self.run_as;
        // Or it could neither remove its sockets nor make new ones there.
        for directory in &self.missing {
            chown(directory, Some(*uid), Some(*gid))
                .map_err(|error| failed(&format!("chown {}", directory.display()), &error))?;
        }
        let become_it = self.run_as.become_it();
        become_it.map_err(|(call, error)| failed(call, &error))?;
        left(self.run_as).map_err(|what| failed("afterwards", &what))
    }
}

/// Looks whether all of it is gone.
fn left(run_as: &RunAs) -> Result<(), &'static str> {
    use nix::unistd::{getgid, getuid, seteuid};
    let ids = [getuid(), geteuid()].map(Uid::as_raw);
    let groups = [getgid(), getegid()].map(Gid::as_raw);
    if ids != [run_as.uid; 2] || groups != [run_as.gid; 2] {
        return Err("it is not that user");
    }
    if seteuid(Uid::from_raw(0)).is_ok() {
        return Err("it can be root again");
    }
    #[cfg(target_os = "linux")]
    {
        let sets = rustix::thread::capabilities(None).map_err(|_| "the kernel does not tell")?;
        // Left by securebits that somebody set before us.
        if !(sets.permitted | sets.effective | sets.inheritable).is_empty() {
            return Err("capabilities are left");
        }
    }
    Ok(())
}

#[cfg(not(target_vendor = "apple"))]
fn set_groups(groups: &[u32]) -> nix::Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups)
}

#[cfg(target_vendor = "apple")]
fn set_groups(groups: &[u32]) -> nix::Result<()> {
    let count = libc::c_int::try_from(groups.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads `count` numbers at `groups`, which has as many.
    #[expect(unsafe_code, reason = "no library offers the call there")]
    Errno::result(unsafe { libc::setgroups(count, groups.as_ptr()) }).map(drop)
}
