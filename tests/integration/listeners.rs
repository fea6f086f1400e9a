//! Where the daemon can be reached, by whom, and what it leaves behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::daemon::{die_with_parent, ended_with};
use crate::common::{Ask, Client, Daemon, Http, Setup, Upstream, Way};

const UNIX: Way = Way::Unix(Http::One);

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// Names of everything in a directory.
fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn unix_socket_and_tcp_port_serve_at_the_same_time() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        assert_eq!(
            daemon.ask_by(way, Ask::get("/both")).await.status,
            200,
            "{way:?}"
        );
    }
    let peers: Vec<_> = {
        let status = daemon.status();
        let listeners = status["listeners"].as_array().unwrap();
        listeners
            .iter()
            .map(|l| l["for"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(peers, ["clients", "clients", "admin"]);
}

#[tokio::test]
async fn several_listeners_of_each_kind_may_be_had() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let second = setup.path("second.sock");
    let setup = setup.more(&format!(
        "[[listener]]\nunix = {second:?}\n[[listener]]\ntcp = \"[::1]:0\"\n[[listener]]\ntcp = \"127.0.0.1:0\"\n"
    ));
    let daemon = setup.start().await;
    let answer = Client::unix(&second, Http::One)
        .await
        .ask(Ask::get("/"))
        .await;
    assert_eq!(answer.status, 200);
    let status = daemon.status();
    for listener in status["listeners"].as_array().unwrap() {
        if let Ok(address) = listener["address"].as_str().unwrap().parse() {
            let answer = Client::tcp(address, Http::One)
                .await
                .ask(Ask::get("/"))
                .await;
            assert_eq!(answer.status, 200, "{address}");
        }
    }
    let forwarded: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.header("x-forwarded-for").map(str::to_owned))
        .collect();
    assert!(forwarded.contains(&Some("::1".to_owned())), "{forwarded:?}");
}

#[tokio::test]
async fn the_kernel_says_who_the_peer_is() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    daemon
        .ask_by(UNIX, Ask::get("/").header("x-request-id", "by-unix"))
        .await;
    let line = daemon.logged_request("by-unix").await;
    assert_eq!(line["peer_uid"], nix::unistd::geteuid().as_raw());
    assert_eq!(line["peer_pid"], std::process::id());
    daemon
        .ask(Ask::get("/").header("x-request-id", "by-tcp"))
        .await;
    let line = daemon.logged_request("by-tcp").await;
    assert!(
        line["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line}"
    );
}

#[tokio::test]
async fn the_sockets_mode_is_as_configured_and_the_admin_sockets_is_0600() {
    let upstream = Upstream::https();
    // Members of a group share the system's daemon; a user's is for nobody else.
    let default = if is_root() { 0o660 } else { 0o600 };
    for (configured, expected) in [
        ("", default),
        ("mode = \"0660\"", 0o660),
        ("mode = \"0666\"", 0o666),
    ] {
        let setup = Setup::before(&upstream)
            .env("RUNTIME_DIRECTORY", "")
            .env("XDG_RUNTIME_DIR", "")
            .unix_listener(configured);
        let daemon = setup.start().await;
        assert_eq!(mode(&daemon.socket()), expected);
        assert_eq!(mode(&daemon.admin_socket()), 0o600);
    }
}

#[tokio::test]
async fn owner_and_group_are_as_configured() {
    if !is_root() {
        return;
    }
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .unix_listener("mode = \"0640\"\nowner = \"65534\"\ngroup = \"12345\"");
    let daemon = setup.start().await;
    let found = fs::metadata(daemon.socket()).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), mode(&daemon.socket())),
        (65534, 12345, 0o640)
    );
    // The owner of the process is root, and its admin socket is for root alone.
    assert_eq!(fs::metadata(daemon.admin_socket()).unwrap().uid(), 0);
}

/// `curl` as another user of this host; `None` where that cannot be had.
fn as_another(socket: &Path, user: u32, group: u32) -> Option<bool> {
    let tools = ["setpriv", "curl"];
    let is_there = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if !is_root() || !tools.into_iter().all(is_there) {
        return None;
    }
    let status = Command::new("setpriv")
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={group}"))
        .arg("--clear-groups")
        .args(["curl", "-s", "-o", "/dev/null", "--unix-socket"])
        .arg(socket)
        .arg("http://localhost/healthz")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    Some(status.success())
}

#[tokio::test]
async fn who_is_not_meant_to_connect_cannot() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).unix_listener("mode = \"0660\"\ngroup = \"12345\"");
    if !is_root() {
        return;
    }
    fs::set_permissions(setup.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = setup.start().await;
    let socket = daemon.socket();
    if let Some(of_group) = as_another(&socket, 65534, 12345) {
        assert!(of_group, "a member of the group may");
        assert_eq!(
            as_another(&socket, 65534, 65534),
            Some(false),
            "a stranger may not"
        );
        let admin = as_another(&daemon.admin_socket(), 65534, 12345);
        assert_eq!(
            admin,
            Some(false),
            "and not even the group on the admin socket"
        );
    }
}

#[tokio::test]
async fn nobody_reaches_a_socket_before_its_permissions_are_in_force() {
    // Whatever appears in the directory while a daemon starts, nobody but its owner may use.
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).unix_listener("mode = \"0600\"");
    let dir = setup.dir().to_path_buf();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let watching = std::thread::spawn(move || {
        let mut seen_open = Vec::new();
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            for entry in fs::read_dir(&dir).unwrap().flatten() {
                let Ok(found) = entry.metadata() else {
                    continue;
                };
                let open = found.permissions().mode() & 0o077 != 0;
                if found.file_type().is_socket() && open && entry.file_name() == "proxy.sock" {
                    seen_open.push(found.permissions().mode());
                }
            }
        }
        seen_open
    });
    let daemon = setup.start().await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(watching.join().unwrap(), Vec::<u32>::new());
    drop(daemon);
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    for name in ["proxy.sock", "admin.sock"] {
        drop(UnixListener::bind(setup.path(name)).unwrap());
        assert!(setup.path(name).exists());
    }
    let daemon = setup.start().await;
    assert_eq!(daemon.ask_by(UNIX, Ask::get("/")).await.status, 200);
}

#[tokio::test]
async fn a_socket_that_somebody_serves_is_an_error_and_left_alone() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let other = UnixListener::bind(setup.path("proxy.sock")).unwrap();
    let mut daemon = Daemon::spawn(setup);
    let (code, said) = ended_with(&mut daemon).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("proxy.sock is already in use"), "{said}");
    // The other still has its socket, and nothing else is left behind.
    UnixStream::connect(daemon.socket()).unwrap();
    drop(other);
    assert!(!daemon.admin_socket().exists());
}

#[tokio::test]
async fn a_second_daemon_does_not_take_the_sockets_of_the_first() {
    let upstream = Upstream::https();
    let mut first = Setup::before(&upstream).start().await;
    let ended = first.setup.run(&["serve"]);
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.stderr.contains("already in use"), "{ended:?}");
    assert_eq!(first.ask_by(UNIX, Ask::get("/")).await.status, 200);
    assert!(first.stop().await.success());
}

#[tokio::test]
async fn what_is_no_socket_is_never_touched() {
    let upstream = Upstream::https();
    for name in ["proxy.sock", "admin.sock"] {
        let setup = Setup::before(&upstream);
        setup.file(name, "somebody's data");
        let mut daemon = Daemon::spawn(setup);
        let (code, said) = ended_with(&mut daemon).await;
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains("exists and is no socket"), "{said}");
        assert_eq!(
            fs::read_to_string(daemon.path(name)).unwrap(),
            "somebody's data"
        );
    }
    let setup = Setup::before(&upstream);
    fs::create_dir(setup.path("proxy.sock")).unwrap();
    let mut daemon = Daemon::spawn(setup);
    assert_eq!(ended_with(&mut daemon).await.0, Some(69));
    assert!(daemon.socket().is_dir());
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_a_matter_of_permission() {
    if is_root() {
        return;
    }
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let locked = setup.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    let setup = setup.more(&format!(
        "[[listener]]\nunix = {:?}\n",
        locked.join("s.sock")
    ));
    let mut daemon = Daemon::spawn(setup);
    let (code, said) = ended_with(&mut daemon).await;
    assert_eq!(code, Some(77), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let upstream = Upstream::https();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let setup = Setup::before(&upstream).more(&format!("[[listener]]\ntcp = \"{address}\"\n"));
    let mut daemon = Daemon::spawn(setup);
    let (code, said) = ended_with(&mut daemon).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&address.to_string()), "{said}");
    // The sockets it had opened already are gone again.
    assert!(!daemon.socket().exists() && !daemon.admin_socket().exists());
}

#[tokio::test]
async fn a_missing_directory_is_made() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let deep = setup.path("run/deep/s.sock");
    let setup = setup.more(&format!("[[listener]]\nunix = {deep:?}\n"));
    let _daemon = setup.start().await;
    let answer = Client::unix(&deep, Http::One)
        .await
        .ask(Ask::get("/"))
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_sockets_are_removed_at_exit_and_nothing_is_left() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).start().await;
    let dir = daemon.setup.dir().to_path_buf();
    assert!(entries(&dir).contains(&"proxy.sock".to_owned()));
    assert!(daemon.stop().await.success());
    assert_eq!(
        entries(&dir),
        ["ca.pem", "config.toml", "notify.sock", "secret"]
    );
}

#[tokio::test]
async fn a_socket_that_another_put_in_our_place_is_not_removed() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).start().await;
    fs::remove_file(daemon.socket()).unwrap();
    let other = UnixListener::bind(daemon.socket()).unwrap();
    assert!(daemon.stop().await.success());
    UnixStream::connect(daemon.socket()).unwrap();
    drop(other);
}

#[tokio::test]
async fn the_admin_socket_takes_so_many_connections_and_no_more() {
    use std::io::Read;
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let admin = daemon.path("admin.sock");
    let held: Vec<_> = (0..64)
        .map(|_| UnixStream::connect(&admin).unwrap())
        .collect();
    let refused = std::thread::spawn(move || {
        let mut answer = String::new();
        let mut one_more = UnixStream::connect(&admin).unwrap();
        let patience = Some(std::time::Duration::from_secs(10));
        one_more.set_read_timeout(patience).unwrap();
        one_more.read_to_string(&mut answer).map(|_| answer)
    });
    let answer = refused.join().unwrap().unwrap();
    assert!(answer.contains("too_many_connections"), "{answer}");
    // Clients are not counted with them.
    assert_eq!(daemon.ask_by(UNIX, Ask::get("/")).await.status, 200);
    drop(held);
    crate::common::until("it serves again", || {
        crate::common::admin::ask(&daemon.path("admin.sock"), "GET", "/healthz")
            .is_ok_and(|(status, _)| status == 200)
    })
    .await;
}

// Sockets that were handed over.

#[tokio::test]
async fn sockets_handed_over_are_served_by_their_names_and_never_unlinked() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let (proxy, admin) = (setup.path("handed.sock"), setup.path("handed-admin.sock"));
    let unix = UnixListener::bind(&proxy).unwrap();
    let of_admin = UnixListener::bind(&admin).unwrap();
    let config = format!(
        "[upstream.up]\nurl = \"{}\"\nca_file = \"DIR/ca.pem\"\ncredential = \"key\"\n[credential.key.auth-gateway]\nkey_id = \"{}\"\nsecret = {{ file = \"DIR/secret\" }}\n",
        upstream.url(),
        crate::common::KEY_ID
    );
    let mut daemon = Daemon::spawn(
        setup
            .written(&config)
            .inherit("tcp", tcp)
            .inherit("admin", of_admin)
            .inherit("proxy.socket", unix),
    );
    let notified = std::sync::Arc::clone(&daemon.notified);
    notified
        .find("READY=1", |notice| notice.says("READY=1"))
        .await;

    let answer = Client::unix(&proxy, Http::Two)
        .await
        .ask(Ask::get("/"))
        .await;
    assert_eq!(answer.status, 200);
    let answer = Client::tcp(address, Http::One)
        .await
        .ask(Ask::get("/"))
        .await;
    assert_eq!(answer.status, 200);
    let (status, page) = crate::common::admin::ask(&admin, "GET", "/status").unwrap();
    assert_eq!(status, 200);
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let listeners = page["listeners"].as_array().unwrap();
    // Instead of new ones: the default sockets were not opened.
    assert_eq!(listeners.len(), 3, "{page}");
    assert!(
        listeners
            .iter()
            .all(|listener| listener["inherited"] == true),
        "{page}"
    );
    assert!(!daemon.socket().exists());

    // A reload keeps them.
    daemon.reload().await;
    let answer = Client::unix(&proxy, Http::One)
        .await
        .ask(Ask::get("/"))
        .await;
    assert_eq!(answer.status, 200);

    assert!(daemon.stop().await.success());
    assert!(proxy.exists() && admin.exists());
}

#[tokio::test]
async fn a_connection_that_waits_on_a_handed_over_socket_is_served_by_the_next_daemon() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let path = setup.path("handed.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let mut first = setup
        .inherit("proxy", unix.try_clone().unwrap())
        .start()
        .await;
    assert!(first.stop().await.success());
    // Nobody serves now; systemd's socket still takes connections.
    let waiting = Client::unix(&path, Http::One);
    let (mut waiting, second) = tokio::join!(
        waiting,
        Setup::before(&upstream).inherit("proxy", unix).start()
    );
    assert_eq!(waiting.ask(Ask::get("/")).await.status, 200);
    drop(second);
}

#[tokio::test]
async fn descriptors_that_are_no_listening_sockets_are_refused_by_name() {
    let upstream = Upstream::https();
    let (one, _other) = UnixStream::pair().unwrap();
    let mut daemon = Daemon::spawn(Setup::before(&upstream).inherit("odd", one));
    let (code, said) = ended_with(&mut daemon).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("`odd`"), "{said}");
}

#[tokio::test]
async fn a_socket_handed_over_that_is_open_to_the_network_is_refused_unless_its_listener_asks_who()
{
    let upstream = Upstream::https();
    let open = || std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    for (name, said) in [
        ("proxy", "tokens or tls.client_ca"),
        ("admin", "admin pages"),
    ] {
        let mut daemon = Daemon::spawn(Setup::before(&upstream).inherit(name, open()));
        let (code, words) = ended_with(&mut daemon).await;
        assert_eq!(code, Some(69), "{words}");
        assert!(words.contains(said), "{words}");
    }
    let socket = open();
    let setup = Setup::before(&upstream);
    let without = setup.config();
    let identity = crate::common::tls::authority().issue(&["localhost"]);
    let cert = setup.file("server.pem", &identity.certificate);
    let key = setup.file("server.key", &identity.key);
    let listener = format!(
        "[[listener]]\ntcp = \"{}\"\nallow_non_loopback = true\nallowed_hosts = [\"a.example\"]\n\
         tokens = {{ ci = {{ env = \"TOKEN\" }} }}\ntls = {{ cert = {cert:?}, key = {key:?} }}\n",
        socket.local_addr().unwrap()
    );
    let setup = setup.more(&listener).env("TOKEN", "0123456789abcdef");
    let mut daemon = setup.inherit("proxy", socket).start().await;
    assert_eq!(daemon.ask_by(UNIX, Ask::get("/")).await.status, 200);
    daemon.reload_with(|setup| setup.written(&without)).await;
    let refused = daemon.status()["last_reload"].to_string();
    assert!(refused.contains("tokens or tls.client_ca"), "{refused}");
}

#[tokio::test]
async fn sockets_meant_for_another_process_are_not_touched() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", "1");
    let daemon = setup.start().await;
    assert_eq!(daemon.ask_by(UNIX, Ask::get("/")).await.status, 200);
}

#[tokio::test]
async fn systemds_own_activation_works() {
    let tool = "systemd-socket-activate";
    if Command::new(tool).arg("--version").output().is_err() {
        return;
    }
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let socket = setup.path("activated.sock");
    let config = setup.write();
    let mut command = Command::new(tool);
    die_with_parent(&mut command);
    let mut child = command
        .arg(format!("--listen={}", socket.display()))
        .arg("--fdname=proxy")
        .arg(crate::common::process::binary())
        .args(["serve", "--config"])
        .arg(config)
        .current_dir(setup.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    crate::common::until("the socket is there", || socket.exists()).await;
    let answer = Client::unix(&socket, Http::One)
        .await
        .ask(Ask::get("/"))
        .await;
    assert_eq!(answer.status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_handed_over_socket_that_the_configuration_names_is_not_opened_again() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let path = setup.path("proxy.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let mut daemon = setup.inherit("proxy", unix).start().await;
    assert_eq!(daemon.ask_by(UNIX, Ask::get("/")).await.status, 200);
    assert!(daemon.stop().await.success());
    assert!(path.exists());
}

#[tokio::test]
async fn clients_that_vanish_at_once_cost_only_themselves() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for i in 0..500 {
        let stream = std::net::TcpStream::connect(daemon.address()).unwrap();
        if i % 2 == 0 {
            // With a linger of zero, closing sends an RST.
            let linger = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger)
                .unwrap();
        }
        drop(stream);
        drop(UnixStream::connect(daemon.socket()).unwrap());
    }
    for way in Way::ALL {
        assert_eq!(daemon.ask_by(way, Ask::get("/")).await.status, 200);
    }
    crate::common::until("they are gone", || daemon.status()["connections"] == 0).await;
}

#[tokio::test]
async fn a_host_without_descriptors_is_said_and_survived() {
    let upstream = Upstream::https();
    // Without a limit of ours that would be met before the system's.
    let setup = Setup::before(&upstream).descriptors(64);
    let limits = "[limits]\nmax_connections = 1000\nmax_connections_per_peer = 1000";
    let daemon = setup.more(limits).start().await;
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(UnixStream::connect(daemon.socket()).unwrap());
    }
    let said = |line: &serde_json::Value| {
        line["msg"]
            .as_str()
            .is_some_and(|msg| msg.starts_with("cannot accept connections for now"))
    };
    daemon.logged("what is missing", said).await;
    // It waits between two attempts, so that it is neither deaf nor busy.
    let before = daemon.log.all().len();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(daemon.log.all().len() - before < 20);
    drop(held);
    assert_eq!(daemon.ask_by(UNIX, Ask::get("/")).await.status, 200);
}

#[tokio::test]
async fn either_kind_of_listener_can_be_switched_off() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream)
        .env("MCP_SOCKET", "off")
        .start()
        .await;
    assert!(!daemon.socket().exists());
    assert_eq!(daemon.get("/").await.status, 200);
    let daemon = Setup::before(&upstream).arg("--listen=off").start().await;
    assert!(daemon.tcp.is_none());
    assert_eq!(daemon.ask_by(UNIX, Ask::get("/")).await.status, 200);
}
