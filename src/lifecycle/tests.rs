use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use slog::Logger;

use super::*;

/// The service manager's end, and a life cycle that reports to it.
struct Manager {
    socket: UnixDatagram,
    _dir: tempfile::TempDir,
}

fn managed() -> (Manager, Lifecycle) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let lifecycle = Lifecycle::new(notifier(&[("NOTIFY_SOCKET", path.to_str().unwrap())]));
    (Manager { socket, _dir: dir }, lifecycle)
}

fn notifier(vars: &[(&str, &str)]) -> Notifier {
    let env = |name: &str| {
        let var = vars.iter().find(|(key, _)| *key == name);
        var.map(|(_, value)| value.to_string())
    };
    Notifier::from_env(&env, Logger::root(slog::Discard, slog::o!()))
}

/// What has arrived so far, one string per message. Local datagrams arrive at once.
fn heard(socket: &UnixDatagram) -> Vec<String> {
    socket.set_nonblocking(true).unwrap();
    let mut messages = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        messages.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    messages
}

#[test]
fn a_life_is_told_step_by_step() {
    let (manager, life) = managed();
    assert_eq!(life.state(), State::Starting);
    life.ready("serving");
    assert_eq!(life.state(), State::Ready);
    life.reloading();
    assert_eq!(life.state(), State::Reloading);
    life.ready("reloaded");
    life.stopping();
    assert_eq!(life.state(), State::Stopping);

    let messages = heard(&manager.socket);
    assert_eq!(messages[0], "READY=1\nSTATUS=serving\n");
    let stamp = messages[1]
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    assert!(stamp.trim_end().parse::<u64>().unwrap() > 0);
    assert_eq!(messages[2], "READY=1\nSTATUS=reloaded\n");
    assert_eq!(messages[3], "STOPPING=1\n");
    assert_eq!(messages.len(), 4);
}

#[test]
fn ready_never_follows_stopping() {
    let (manager, life) = managed();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..50).for_each(|_| life.ready("again")));
        scope.spawn(|| life.stopping());
        // The queue of a datagram socket is short: read along.
        let mut messages = Vec::new();
        while !messages.iter().any(|m: &String| m == "STOPPING=1\n") {
            messages.extend(heard(&manager.socket));
        }
        assert_eq!(messages.last().unwrap(), "STOPPING=1\n");
    });
    life.ready("too late");
    life.reloading();
    life.stopping();
    assert_eq!(heard(&manager.socket), [""; 0]);
    assert_eq!(life.state(), State::Stopping);
}

#[test]
fn a_reload_before_ready_is_not_announced() {
    let (manager, life) = managed();
    life.reloading();
    assert_eq!(life.state(), State::Starting);
    assert!(heard(&manager.socket).is_empty());
}

#[test]
fn the_watchdog_is_fed_and_time_is_asked_for_while_stopping() {
    let (manager, life) = managed();
    life.stopping();
    life.watchdog();
    life.extend(Duration::from_secs(2 * 3600));
    assert_eq!(
        heard(&manager.socket),
        [
            "STOPPING=1\n",
            "WATCHDOG=1\n",
            "EXTEND_TIMEOUT_USEC=7200000000\n"
        ]
    );
}

#[test]
fn a_status_cannot_smuggle_an_assignment() {
    let (manager, life) = managed();
    life.status("broken:\nMAINPID=1");
    assert_eq!(heard(&manager.socket), ["STATUS=broken: MAINPID=1\n"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_socket_is_reached() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("mcp-auth-proxy-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    Lifecycle::new(notifier(&[("NOTIFY_SOCKET", &format!("@{name}"))])).status("here");
    assert_eq!(heard(&socket), ["STATUS=here\n"]);
}

#[test]
fn a_manager_that_is_gone_or_absurd_fails_nothing() {
    for name in ["/nonexistent/notify", "relative", "", "vsock:2:1234"] {
        let life = Lifecycle::new(notifier(&[("NOTIFY_SOCKET", name)]));
        life.ready("serving");
        assert_eq!(life.state(), State::Ready);
    }
    Lifecycle::new(Notifier::none()).ready("serving");
}

#[test]
fn the_watchdog_interval_is_half_and_only_ours() {
    let own = std::process::id().to_string();
    let interval = |vars: &[(&str, &str)]| Lifecycle::new(notifier(vars)).watchdog_interval();
    let half = Some(Duration::from_secs(15));
    assert_eq!(interval(&[("WATCHDOG_USEC", "30000000")]), half);
    assert_eq!(
        interval(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", &own)]),
        half
    );
    assert_eq!(
        interval(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "1")]),
        None
    );
    assert_eq!(interval(&[("WATCHDOG_USEC", "0")]), None);
    assert_eq!(interval(&[("WATCHDOG_USEC", "soon")]), None);
    assert_eq!(interval(&[]), None);
}
