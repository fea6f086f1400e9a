//! Secret files that are watched: a change is a reason to reload.
//!
//! What counts is what the path leads to, followed through every link. On Linux the kernel says
//! when to look, in each directory on the way: files are replaced by renaming, and Kubernetes
//! swaps a link two directories up. Elsewhere, and for file systems that tell nothing, the clock does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use slog::{info, warn};
use tokio::time::{sleep, timeout};

use crate::state::State;

/// A writer that is not done yet gets this long.
const SETTLE: Duration = Duration::from_millis(200);
/// How often we look without being told to.
const LOOK: Duration = Duration::from_secs(if cfg!(target_os = "linux") { 30 } else { 3 });
/// More links than this lead nowhere, says the kernel too.
const MAX_LINKS: usize = 40;

/// What tells one state of a file from another: device, inode, size, and when it was changed.
type Print = Option<(u64, u64, u64, i64, i64)>;

/// Never ends. Follows the configuration as reloads change it.
pub async fn run(state: Arc<State>) {
    let mut watched: Vec<PathBuf> = Vec::new();
    let mut seen: Vec<Print> = Vec::new();
    let mut hints = Hints::default();
    let mut replaced = state.proxy.replacements();
    loop {
        let now = state.proxy.snapshot().config.watched.clone();
        if now != watched {
            seen = prints(&now);
            watched = now;
        }
        if watched.is_empty() {
            // Another configuration may name some.
            let _ = replaced.changed().await;
            continue;
        }
        if let Err(error) = hints.watch(&watched) {
            warn!(state.proxy.log, "the system does not tell of changed files; looking now and then";
                "reason" => error.to_string());
        }
        // Looked at first: it may have changed before the system was asked to tell.
        if prints(&watched) == seen {
            tokio::select! {
                _ = hints.wait() => {}
                _ = replaced.changed() => continue,
            }
            if prints(&watched) == seen {
                continue;
            }
        }
        sleep(SETTLE).await;
        seen = prints(&watched);
        info!(state.proxy.log, "a watched secret file has changed");
        state.reload().await;
    }
}

fn prints(paths: &[PathBuf]) -> Vec<Print> {
    use std::os::unix::fs::MetadataExt;
    let print = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.ctime(),
            meta.ctime_nsec(),
        ))
    };
    paths.iter().map(print).collect()
}

/// Every directory that an entry of decides where `path` leads.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut follow = vec![path.to_path_buf()];
    let mut links = 0;
    while let Some(path) = follow.pop() {
        let mut walked = PathBuf::new();
        for part in path.components() {
            let parent = walked.clone();
            walked.push(part);
            let Ok(target) = std::fs::read_link(&walked) else {
                continue;
            };
            links += 1;
            found.insert(parent.clone());
            if links <= MAX_LINKS {
                let rest = path.strip_prefix(&walked).unwrap_or(Path::new(""));
                follow.push(parent.join(target).join(rest));
            }
        }
        found.extend(path.parent().map(Path::to_path_buf));
    }
    found.retain(|directory| !directory.as_os_str().is_empty());
    found
}

#[cfg(target_os = "linux")]
#[derive(Default)]
struct Hints(Option<tokio::net::unix::pipe::Receiver>);

#[cfg(target_os = "linux")]
impl Hints {
    /// Watches anew: a directory that was replaced is another one.
    fn watch(&mut self, paths: &[PathBuf]) -> std::io::Result<()> {
        use std::os::fd::AsFd;

        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        use tokio::net::unix::pipe;

        self.0 = None;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        for directory in paths.iter().flat_map(|path| directories(path)) {
            // One that is gone or closed to us is looked at by the clock.
            let _ = inotify.add_watch(&directory, what);
        }
        let descriptor = inotify.as_fd().try_clone_to_owned()?;
        // No pipe, but waited for as one.
        self.0 = Some(pipe::Receiver::from_owned_fd_unchecked(descriptor)?);
        Ok(())
    }

    /// Returns when something may have changed.
    async fn wait(&self) {
        match &self.0 {
            Some(inotify) => drop(timeout(LOOK, inotify.readable()).await),
            None => sleep(LOOK).await,
        }
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Default)]
struct Hints;

#[cfg(not(target_os = "linux"))]
impl Hints {
    fn watch(&mut self, paths: &[PathBuf]) -> std::io::Result<()> {
        let _ = (paths, directories as fn(&Path) -> BTreeSet<PathBuf>);
        Ok(())
    }

    async fn wait(&self) {
        let _ = timeout(LOOK, std::future::pending::<()>()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_directory_on_the_way_through_links_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        // As Kubernetes lays a mounted secret out.
        std::fs::create_dir(root.join("..2026")).unwrap();
        std::fs::write(root.join("..2026/key"), "s").unwrap();
        symlink("..2026", root.join("..data")).unwrap();
        symlink("..data/key", root.join("key")).unwrap();
        let found = directories(&root.join("key"));
        assert!(found.contains(&root), "{found:?}");
        assert!(found.contains(&root.join("..2026")), "{found:?}");
    }

    #[test]
    fn links_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(directories(&dir.path().join("a")).len() <= 3);
    }
}
