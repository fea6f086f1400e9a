use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::Backlog;

use super::*;

fn unix(path: &Path, mode: u32) -> UnixAddress {
    UnixAddress {
        path: path.to_owned(),
        mode,
        owner: None,
        group: None,
    }
}

fn open(path: &Path) -> Result<Bound, ListenError> {
    Bound::bind(&ListenAddress::Unix(unix(path, 0o660)))
}

fn refusal(path: &Path) -> String {
    open(path).map(|_| ()).unwrap_err().to_string()
}

/// A directory, and the path of a socket in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.sock");
    (dir, path)
}

fn leave_stale(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(fs::symlink_metadata(path).unwrap().file_type().is_socket());
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn what_a_killed_daemon_left_half_made_is_swept_away_and_nothing_else() {
    let (dir, path) = place();
    for name in [".~a1B", ".~a1C", ".~xyz", ".~four", ".abc"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    leave_stale(&dir.path().join(".~a1B/s"));
    fs::write(dir.path().join(".~xyz/s"), "somebody's").unwrap();
    let _bound = open(&path).unwrap();
    let mut left: Vec<_> = entries(dir.path());
    left.sort();
    let names = [".abc", ".~four", ".~xyz", "proxy.sock"];
    assert_eq!(left, names.map(|name| dir.path().join(name)));
}

#[tokio::test]
async fn a_client_of_the_unix_socket_is_accepted_and_known() {
    let (_dir, path) = place();
    let bound = open(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let stream = bound.accept().await.unwrap();
    let own = Peer::Unix {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        pid: Some(std::process::id() as i32),
    };
    assert_eq!(stream.peer().unwrap(), own);
    assert_eq!(bound.to_string(), path.display().to_string());
}

#[tokio::test]
async fn an_accepted_stream_is_non_blocking_and_stays_out_of_children() {
    let (_dir, path) = place();
    let bound = open(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let Stream::Unix(stream) = bound.accept().await.unwrap() else {
        panic!("not a Unix stream")
    };
    let flags = fcntl(&stream, FcntlArg::F_GETFL).unwrap();
    assert!(OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK));
    let flags = fcntl(&stream, FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC));
}

#[tokio::test]
async fn mode_and_group_are_in_force_and_nothing_else_is_left_behind() {
    let (dir, path) = place();
    let group = nix::unistd::getegid().as_raw();
    let address = UnixAddress {
        group: Some(group),
        ..unix(&path, 0o620)
    };
    let bound = Bound::bind(&ListenAddress::Unix(address)).unwrap();
    assert_eq!(mode(&path), 0o620);
    assert_eq!(fs::metadata(&path).unwrap().gid(), group);
    assert_eq!(entries(dir.path()), [path.as_path()]);
    drop(bound);
    assert!(entries(dir.path()).is_empty());
}

#[tokio::test]
async fn a_reload_changes_the_mode_of_a_live_socket() {
    let (_dir, path) = place();
    let bound = open(&path).unwrap();
    bound.set_permissions(&unix(&path, 0o600)).unwrap();
    assert_eq!(mode(&path), 0o600);
    bound.set_permissions(&unix(&path, 0o666)).unwrap();
    assert_eq!(mode(&path), 0o666);
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let (_dir, path) = place();
    leave_stale(&path);
    let _bound = open(&path).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_live_socket_is_an_error_and_goes_on_serving() {
    let (dir, path) = place();
    let living = UnixListener::bind(&path).unwrap();
    assert!(refusal(&path).contains("already in use by a running process"));
    UnixStream::connect(&path).unwrap();
    living.accept().unwrap();
    assert_eq!(entries(dir.path()), [path]);
}

#[tokio::test]
async fn a_live_socket_with_a_full_queue_is_an_error_too() {
    let (_dir, path) = place();
    let living = UnixListener::bind(&path).unwrap();
    nix::sys::socket::listen(&living, Backlog::new(0).unwrap()).unwrap();
    let _queued = UnixStream::connect(&path).unwrap();
    assert!(refusal(&path).contains("already in use"));
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_never_touched() {
    let (dir, path) = place();
    fs::write(&path, "precious").unwrap();
    assert!(refusal(&path).contains("is no socket, so it was left alone"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

    let link = dir.path().join("link.sock");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(refusal(&link).contains("is no socket"));
    assert!(refusal(dir.path()).contains("is no socket"));
    assert_eq!(entries(dir.path()).len(), 2);
}

#[tokio::test]
async fn a_missing_directory_is_made_for_those_who_may_connect() {
    let (dir, _) = place();
    let path = dir.path().join("a/b/proxy.sock");
    let _bound = open(&path).unwrap();
    let expected = if nix::unistd::geteuid().is_root() {
        0o755
    } else {
        0o700
    };
    assert_eq!(mode(&dir.path().join("a")), expected);
    assert_eq!(mode(&dir.path().join("a/b")), expected);
}

#[tokio::test]
async fn a_path_too_long_for_the_kernel_says_how_long_it_may_be() {
    let (dir, _) = place();
    let stem = dir.path().as_os_str().len() + 1;
    let limit = if cfg!(target_os = "macos") { 103 } else { 107 };
    let longest = dir.path().join("x".repeat(limit - stem));
    let bound = open(&longest).unwrap();
    UnixStream::connect(&longest).unwrap();
    drop(bound);
    let longer = dir.path().join("x".repeat(limit - stem + 1));
    assert!(refusal(&longer).contains(&format!("at most {limit} bytes")));
}

#[tokio::test]
async fn dropping_removes_only_the_own_file() {
    let (_dir, path) = place();
    let loser = open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _winner = UnixListener::bind(&path).unwrap();
    assert!(loser.set_permissions(&unix(&path, 0o600)).is_err());
    drop(loser);
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn somebody_who_locks_the_directory_cannot_keep_the_daemon_from_starting() {
    use nix::fcntl::{Flock, FlockArg};
    let (dir, path) = place();
    let directory = fs::File::open(dir.path()).unwrap();
    let _held = Flock::lock(directory, FlockArg::LockExclusive).unwrap();
    drop(open(&path).unwrap());
    assert!(!path.exists());
}

#[tokio::test]
async fn of_daemons_that_start_at_once_exactly_one_gets_the_path() {
    let (dir, path) = place();
    leave_stale(&path);
    let runtime = tokio::runtime::Handle::current();
    let results: Vec<_> = std::thread::scope(|scope| {
        let start = || {
            let _context = runtime.enter();
            open(&path)
        };
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    UnixStream::connect(&path).unwrap();
    assert_eq!(entries(dir.path()), [path]);
}

#[tokio::test]
async fn a_withdrawn_socket_is_gone_but_its_queue_is_served() {
    let (_dir, path) = place();
    let bound = open(&path).unwrap();
    let _waiting = UnixStream::connect(&path).unwrap();
    bound.withdraw();
    assert!(UnixStream::connect(&path).is_err());
    assert!(bound.try_accept().unwrap().is_some());
    assert!(bound.try_accept().unwrap().is_none());
}

#[tokio::test]
async fn a_directory_we_may_not_write_is_a_matter_of_permission() {
    if nix::unistd::geteuid().is_root() {
        return; // root may
    }
    let (dir, path) = place();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o500)).unwrap();
    assert!(open(&path).map(|_| ()).unwrap_err().is_permission());
}

#[tokio::test]
async fn tcp_listens_on_both_loopbacks_and_tells_the_port() {
    for ip in [
        Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        let configured = ListenAddress::Tcp(SocketAddr::new(ip, 0));
        let bound = match Bound::bind(&configured) {
            Ok(bound) => bound,
            Err(_) if ip.is_ipv6() => continue, // a host without IPv6
            Err(error) => panic!("{error}"),
        };
        let address = bound.local_addr().unwrap();
        assert_ne!(address.port(), 0);
        assert_eq!(bound.to_string(), address.to_string());
        assert!(bound.serves(&configured) && bound.serves(&ListenAddress::Tcp(address)));

        let client = TcpStream::connect(address).unwrap();
        let stream = bound.accept().await.unwrap();
        assert_eq!(
            stream.peer().unwrap(),
            Peer::Tcp(client.local_addr().unwrap())
        );
    }
}

#[tokio::test]
async fn a_taken_port_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Bound::bind(&ListenAddress::Tcp(address))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{address} is already in use by another process: stop that, or set MCP_LISTEN_ADDR to another address or to `off`"
        )
    );
}

#[tokio::test]
async fn an_accept_waits_for_the_next_client() {
    let (_dir, path) = place();
    let bound = open(&path).unwrap();
    let client = async { UnixStream::connect(&path).unwrap() };
    let (accepted, _client) = tokio::join!(bound.accept(), client);
    accepted.unwrap();
}

#[test]
fn a_broken_peer_is_told_from_an_exhausted_host() {
    let kind = |errno| AcceptError::from(io::Error::from(errno));
    for errno in [
        Errno::ECONNABORTED,
        Errno::EINTR,
        Errno::EPROTO,
        Errno::EHOSTUNREACH,
    ] {
        assert!(matches!(kind(errno), AcceptError::Peer(_)), "{errno}");
    }
    for errno in [
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ENOBUFS,
        Errno::ENOMEM,
        Errno::EINVAL,
    ] {
        assert!(matches!(kind(errno), AcceptError::Exhausted(_)), "{errno}");
    }
}

#[test]
fn a_peer_reads_well_in_a_log() {
    let unix = |pid| Peer::Unix {
        uid: 1000,
        gid: 100,
        pid,
    };
    assert_eq!(unix(Some(4242)).to_string(), "uid=1000 pid=4242");
    assert_eq!(unix(None).to_string(), "uid=1000");
    assert_eq!(
        Peer::Tcp("127.0.0.1:51234".parse().unwrap()).to_string(),
        "127.0.0.1:51234"
    );
}
