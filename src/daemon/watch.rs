//! Secret files that are watched: a change is a reason to reload.
//!
//! What counts is what the path leads to, followed through every link. On Linux the kernel says
//! when to look, in each directory on the way: files are replaced by renaming, and Kubernetes
//! swaps a link two directories up. Elsewhere, and for file systems that tell nothing, the clock does.

use std::collections::BTreeSet;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, info, warn};
use tokio::time::{sleep, timeout};

use crate::file::{self, Print};
use crate::state::State;

/// A writer that is not done yet gets this long.
const SETTLE: Duration = Duration::from_millis(200);
/// How often we look without being told to.
const LOOK: Duration = Duration::from_secs(if cfg!(target_os = "linux") { 30 } else { 3 });
/// How long a look may take before that is worth a word.
const PATIENCE: Duration = Duration::from_secs(10);
/// More links than this lead nowhere, says the kernel too.
const MAX_LINKS: usize = 40;

/// Never ends. Follows the configuration as reloads change it.
pub async fn run(state: Arc<State>) {
    let mut known: Vec<(PathBuf, Print)> = Vec::new();
    let (mut watched, mut seen): (Vec<PathBuf>, Vec<Print>) = Default::default();
    let mut hints = Hints::default();
    let mut replaced = state.proxy.replacements();
    loop {
        let now = state.proxy.snapshot().config.watched.clone();
        if now != known {
            // As they were when they were read: what has changed since is news.
            (watched, seen) = now.iter().cloned().unzip();
            known = now;
        }
        if watched.is_empty() {
            // Another configuration may name some.
            let _ = replaced.changed().await;
            continue;
        }
        if let Err(error) = hints.watch(&state.proxy.log, &watched).await {
            warn!(state.proxy.log, "the system does not tell of changed files; looking now and then";
                "reason" => error.to_string());
        }
        // Looked at first: it may have changed before the system was asked to tell.
        if look(&state.proxy.log, &watched).await == seen {
            tokio::select! {
                _ = hints.wait() => {}
                _ = replaced.changed() => continue,
            }
            if look(&state.proxy.log, &watched).await == seen {
                continue;
            }
        }
        sleep(SETTLE).await;
        seen = look(&state.proxy.log, &watched).await;
        info!(state.proxy.log, "a watched secret file has changed");
        state.reload().await;
    }
}

async fn look(log: &Logger, watched: &[PathBuf]) -> Vec<Print> {
    let watched = watched.to_owned();
    let look = move || watched.iter().map(|path| file::print(path)).collect();
    aside(log, look).await
}

/// Touches files on a thread where one that hangs holds up the watching alone: not signals, not
/// the watchdog. Says so when it takes long, and does not begin a second one meanwhile.
async fn aside<T: Default + Send + 'static>(
    log: &Logger,
    touch: impl FnOnce() -> T + Send + 'static,
) -> T {
    let mut touching = tokio::task::spawn_blocking(touch);
    let touched = match timeout(PATIENCE, &mut touching).await {
        Ok(touched) => touched,
        Err(_) => {
            warn!(log, "a watched secret file does not answer; its changes go unseen until it does";
                "reason" => "its file system hangs");
            touching.await
        }
    };
    touched.unwrap_or_default()
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

/// The directories on the way to all of `paths`, each with what tells it from another of its name.
#[cfg(target_os = "linux")]
fn directories_of(paths: &[PathBuf]) -> BTreeSet<Directory> {
    use std::os::unix::fs::MetadataExt;
    let all: BTreeSet<_> = paths.iter().flat_map(|path| directories(path)).collect();
    let identified = all.into_iter().map(|path| {
        let identity = std::fs::metadata(&path).ok();
        let identity = identity.map(|meta| (meta.dev(), meta.ino()));
        (path, identity)
    });
    identified.collect()
}

#[cfg(target_os = "linux")]
type Directory = (PathBuf, Option<(u64, u64)>);

#[cfg(target_os = "linux")]
#[derive(Default)]
struct Hints {
    kernel: Option<tokio::net::unix::pipe::Receiver>,
    /// Those that the kernel watches.
    directories: BTreeSet<Directory>,
}

#[cfg(target_os = "linux")]
impl Hints {
    /// Watches anew where the directories have changed: one that was replaced is another one.
    async fn watch(&mut self, log: &Logger, paths: &[PathBuf]) -> std::io::Result<()> {
        use tokio::net::unix::pipe;

        let (paths, known) = (paths.to_owned(), std::mem::take(&mut self.directories));
        let watch = move || {
            let directories = directories_of(&paths);
            let is_new = directories != known;
            let kernel = is_new.then(|| watch_directories(&directories));
            (directories, kernel)
        };
        let (directories, kernel) = aside(log, watch).await;
        if let Some(kernel) = kernel {
            self.kernel = None;
            // No pipe, but waited for as one.
            self.kernel = Some(pipe::Receiver::from_owned_fd_unchecked(kernel?)?);
        }
        self.directories = directories;
        Ok(())
    }

    /// Returns when something may have changed.
    async fn wait(&self) {
        match &self.kernel {
            Some(kernel) => {
                let _ = timeout(LOOK, kernel.readable()).await;
                // What it has to say of names and kinds tells less than a look does.
                let mut events = [0; 4096];
                while kernel.try_read(&mut events).is_ok_and(|length| length > 0) {}
            }
            None => sleep(LOOK).await,
        }
    }
}

#[cfg(target_os = "linux")]
fn watch_directories(directories: &BTreeSet<Directory>) -> std::io::Result<OwnedFd> {
    use std::os::fd::AsFd;

    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let what = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_ONLYDIR;
    for (directory, _) in directories {
        // One that is gone or closed to us is looked at by the clock.
        let _ = inotify.add_watch(directory, what);
    }
    inotify.as_fd().try_clone_to_owned()
}

#[cfg(not(target_os = "linux"))]
#[derive(Default)]
struct Hints;

#[cfg(not(target_os = "linux"))]
impl Hints {
    async fn watch(&mut self, log: &Logger, paths: &[PathBuf]) -> std::io::Result<()> {
        let _ = (log, paths, directories as fn(&Path) -> BTreeSet<PathBuf>);
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
