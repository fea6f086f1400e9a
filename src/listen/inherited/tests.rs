use std::net::UdpSocket;
use std::os::unix::net::UnixStream;

use super::super::Bound;
use super::*;

/// What is announced to this process by an environment of `vars`.
fn announcement(vars: &[(&str, &str)]) -> Result<Vec<(RawFd, String)>, ListenError> {
    announced(&|name| {
        let var = vars.iter().find(|(key, _)| *key == name);
        var.map(|(_, value)| value.to_string())
    })
}

fn adopt(fd: impl Into<OwnedFd>) -> Result<Inherited, ListenError> {
    Inherited::adopt(fd.into(), "proxy".into())
}

#[tokio::test]
async fn a_unix_socket_is_served_where_it_is_and_never_unlinked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.sock");
    let handed = adopt(UnixListener::bind(&path).unwrap()).unwrap();
    let address = ListenAddress::Unix(UnixAddress {
        path: path.clone(),
        mode: 0o600,
        owner: None,
        group: None,
    });
    assert!(handed.serves(&address));

    let bound = Bound::inherit(handed).unwrap();
    assert!(bound.inherited() && bound.serves(&address));
    let _client = UnixStream::connect(&path).unwrap();
    bound.accept().await.unwrap();
    bound.withdraw();
    drop(bound);
    assert!(path.exists());
}

#[tokio::test]
async fn a_tcp_socket_is_served_where_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bound = Bound::inherit(adopt(listener).unwrap()).unwrap();
    assert_eq!(bound.local_addr(), Some(address));
    assert_eq!(bound.address(), &ListenAddress::Tcp(address));
    let _client = std::net::TcpStream::connect(address).unwrap();
    bound.accept().await.unwrap();
}

#[test]
fn what_cannot_be_served_is_refused_by_name_and_left_alone() {
    let (connected, _other) = UnixStream::pair().unwrap();
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = tempfile::tempfile().unwrap();
    for (fd, problem) in [
        (connected.as_raw_fd(), "is not listening for streams"),
        (datagram.as_raw_fd(), "is not listening for streams"),
        (file.as_raw_fd(), "is no socket"),
        (RawFd::MAX, "is not open"),
    ] {
        let refusal = claim(fd, "proxy").unwrap_err().to_string();
        assert!(
            refusal.contains("`proxy`") && refusal.contains(problem),
            "{refusal}"
        );
    }
    // Still ours and open.
    assert!(file.metadata().is_ok() && datagram.local_addr().is_ok());
}

#[test]
fn descriptors_and_names_are_counted_from_three() {
    let pid = std::process::id().to_string();
    let named = [
        ("LISTEN_PID", pid.as_str()),
        ("LISTEN_FDS", "2"),
        ("LISTEN_FDNAMES", "proxy:admin"),
    ];
    assert_eq!(
        announcement(&named).unwrap(),
        [(3, "proxy".into()), (4, "admin".into())]
    );
    let unnamed = [("LISTEN_PID", pid.as_str()), ("LISTEN_FDS", "1")];
    assert_eq!(announcement(&unnamed).unwrap(), [(3, "unknown".into())]);
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    assert_eq!(
        announcement(&[("LISTEN_PID", "1"), ("LISTEN_FDS", "2")]).unwrap(),
        []
    );
    assert_eq!(announcement(&[("LISTEN_FDS", "2")]).unwrap(), []);
    assert_eq!(announcement(&[]).unwrap(), []);
}

#[test]
fn a_malformed_announcement_names_the_variable() {
    let pid = std::process::id().to_string();
    for (fds, variable) in [
        ("many", "LISTEN_FDS"),
        ("-1", "LISTEN_FDS"),
        ("2", "LISTEN_FDNAMES"),
    ] {
        let vars = [
            ("LISTEN_PID", pid.as_str()),
            ("LISTEN_FDS", fds),
            ("LISTEN_FDNAMES", "one"),
        ];
        let refusal = announcement(&vars).unwrap_err().to_string();
        assert!(refusal.starts_with(variable), "{refusal}");
    }
}
