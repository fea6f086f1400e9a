//! Where the daemon listens.

use super::*;

#[test]
fn an_address_can_be_listened_on_once() {
    let twice = "[[listener]]\ntcp = \"localhost:1\"\n[[listener]]\ntcp = \"127.0.0.1:1\"\n";
    assert_eq!(
        Setup::small_and(twice).only_problem(),
        "config.toml:11:7: listener[2]: this address is listened on already (line 9); remove one"
    );
    let free = "[[listener]]\ntcp = \"127.0.0.1:0\"\n[[listener]]\ntcp = \"127.0.0.1:0\"\n";
    assert_eq!(Setup::small_and(free).load().listeners.len(), 2);
    let admin = "[[listener]]\nunix = \"/a/b.sock\"\n[admin]\nunix = \"/a/b.sock\"\n";
    assert_eq!(
        Setup::small_and(admin).only_problem(),
        "config.toml:11:8: admin.unix: a listener has this address already (line 9); choose another"
    );
}

#[test]
fn a_sockets_path_must_fit_the_kernels_address() {
    let listener = |length: usize| {
        let path = format!("/{}", "x".repeat(length - 1));
        Setup::small_and(&format!(
            "[[listener]]\nunix = \"{path}\"\n[admin]\nunix = \"off\"\n"
        ))
    };
    let config = listener(target::MAX_SOCKET_PATH).load();
    assert_eq!(config.admin.unix, None);
    let problem = listener(target::MAX_SOCKET_PATH + 1).only_problem();
    assert!(problem.contains("the kernel allows"), "{problem}");
}

#[test]
fn the_systems_daemon_shares_its_socket_with_a_group() {
    let mut setup = Setup::small_and("[[listener]]\nunix = \"/run/p/a.sock\"\n");
    setup
        .env
        .push(("RUNTIME_DIRECTORY".into(), "/run/p".into()));
    let config = setup.load();
    let ListenAddress::Unix(unix) = &config.listeners[0].address else {
        panic!()
    };
    assert_eq!(unix.mode, 0o660);
    assert_eq!(config.admin.unix.unwrap().mode, 0o600);
}
