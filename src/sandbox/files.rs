//! Landlock: which files may be read, and where sockets may be made.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};

/// What programs and the resolver need. Directories, not files: `/etc/resolv.conf` is replaced,
/// and a rule is bound to the file that it was made for.
pub const SYSTEM: [&str; 20] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/opt",
    "/nix",
    "/snap",
    "/proc",
    "/sys/fs/cgroup",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/nscd",
    "/var/lib/sss",
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
];

/// The first with `REFER`, without which no socket could be moved to its place.
const NEEDED: ABI = ABI::V2;
const WANTED: ABI = ABI::V6;

/// `appended`: the directory of a file that is made and written, if there is one.
pub fn restrict(
    readable: &[PathBuf],
    sockets: &[PathBuf],
    appended: Option<&Path>,
) -> Result<(), String> {
    let programs = AccessFs::from_read(WANTED);
    let plain = AccessFs::ReadFile | AccessFs::ReadDir;
    // Making and removing sockets and the directories where they get ready; no file is written there.
    let sockets_made = AccessFs::MakeSock
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
        | AccessFs::ReadDir;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))
        .map(|ruleset| ruleset.set_compatibility(CompatLevel::BestEffort))
        .and_then(|ruleset| ruleset.handle_access(AccessFs::from_all(WANTED)))
        .and_then(|ruleset| ruleset.scope(Scope::Signal))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rules(path_beneath_rules(SYSTEM, programs)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(readable, plain)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(sockets, sockets_made)))
        .and_then(|rules| {
            let made = AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::ReadDir;
            rules.add_rules(path_beneath_rules(appended, made))
        })
        .and_then(|rules| {
            let null = AccessFs::ReadFile | AccessFs::WriteFile;
            rules.add_rules(path_beneath_rules(["/dev/null"], null))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| format!("Landlock: {error}"))?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("the kernel has no Landlock".to_owned()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}
