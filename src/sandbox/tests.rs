//! Each denial against a control: the same attempts before and behind the walls.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;

/// The error of a system call by its number, 0 if it went through.
fn errno_of(outcome: i64) -> i32 {
    match outcome {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
        _ => 0,
    }
}

fn denied<T>(outcome: std::io::Result<T>) -> bool {
    outcome.is_err_and(|error| error.raw_os_error() == Some(libc::EACCES))
}

/// Whether it was refused: by name, all that the walls are for.
fn attempts(inside: &Path, outside: &Path) -> Vec<(&'static str, bool)> {
    // SAFETY: none of these calls touches this process's memory: their pointers are null and
    // their descriptors invalid.
    #[expect(unsafe_code, reason = "system calls that no library offers")]
    let (packet, ptrace, unshare, bpf, uring) = unsafe {
        (
            errno_of(i64::from(libc::socket(
                libc::AF_ALG,
                libc::SOCK_SEQPACKET,
                0,
            ))),
            errno_of(libc::ptrace(libc::PTRACE_PEEKDATA, 0, 0, 0)),
            errno_of(libc::syscall(libc::SYS_unshare, 0)),
            errno_of(libc::syscall(libc::SYS_bpf, 9999, 0, 0)),
            errno_of(libc::syscall(libc::SYS_io_uring_setup, 0, 0)),
        )
    };
    vec![
        (
            "read a file elsewhere",
            denied(fs::read(outside.join("file"))),
        ),
        (
            "list a directory elsewhere",
            denied(fs::read_dir(outside).map(drop)),
        ),
        (
            "write a file elsewhere",
            denied(fs::write(outside.join("new"), "")),
        ),
        (
            "write where secrets are",
            denied(fs::write(inside.join("new"), "")),
        ),
        (
            "change a secret",
            denied(fs::write(inside.join("file"), "changed")),
        ),
        (
            "write where sockets are",
            denied(fs::write(inside.join("sockets/new"), "")),
        ),
        (
            "make a socket elsewhere",
            denied(UnixListener::bind(outside.join("s"))),
        ),
        (
            "run a program that is none of the system's",
            denied(std::process::Command::new(inside.join("program")).status()),
        ),
        (
            "write into /etc",
            denied(fs::OpenOptions::new().append(true).open("/etc/hosts")),
        ),
        ("open another kind of socket", packet == libc::EPERM),
        ("look into a process", ptrace == libc::EPERM),
        ("make a namespace", unshare == libc::EPERM),
        ("load a program into the kernel", bpf == libc::EPERM),
        ("queue system calls", uring == libc::EPERM),
    ]
}

/// What the daemon needs, behind the walls.
fn assert_works(inside: &Path) {
    assert!(fs::read(inside.join("file")).is_ok());
    // As a rotation does it: another file of the same name.
    assert!(fs::read(inside.join("rotated")).is_ok());
    assert!(fs::read("/etc/hosts").is_ok());
    let sockets = inside.join("sockets");
    fs::create_dir(sockets.join(".x")).unwrap();
    let _listener = UnixListener::bind(sockets.join(".x/s")).unwrap();
    fs::rename(sockets.join(".x/s"), sockets.join("proxy.sock")).unwrap();
    fs::remove_dir(sockets.join(".x")).unwrap();
    fs::remove_file(sockets.join("proxy.sock")).unwrap();
    assert!(std::net::TcpListener::bind("127.0.0.1:0").is_ok());
    let printed = std::process::Command::new("/bin/sh")
        .args(["-c", "echo secret"])
        .output();
    assert_eq!(printed.unwrap().stdout, b"secret\n");
}

/// Runs itself again as a child: walls are for ever.
#[test]
fn behind_the_walls_nothing_goes_that_the_daemon_does_not_need() {
    const CHILD: &str = "SANDBOX_TEST_CHILD";
    if let Some(root) = std::env::var_os(CHILD) {
        return child(Path::new(&root));
    }
    // Neither /tmp nor /run: those are what a test finds open by chance.
    let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "sandbox::tests::behind_the_walls_nothing_goes_that_the_daemon_does_not_need",
        ])
        .args(["--test-threads", "1", "--nocapture"])
        .env(CHILD, root.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn child(root: &Path) {
    let (inside, outside) = (root.join("inside"), root.join("outside"));
    for directory in [&inside, &outside, &inside.join("sockets")] {
        fs::create_dir(directory).unwrap();
    }
    for file in [
        inside.join("file"),
        inside.join("rotated"),
        outside.join("file"),
    ] {
        fs::write(file, "content").unwrap();
    }
    fs::copy("/bin/true", inside.join("program")).unwrap();
    for (what, refused) in attempts(&inside, &outside) {
        assert!(!refused, "refused without walls: {what}");
    }
    for made in ["new", "s"] {
        let _ = fs::remove_file(outside.join(made));
    }
    let files = files::restrict(
        std::slice::from_ref(&inside),
        &[inside.join("sockets")],
        None,
    );
    if let Err(why) = &files {
        eprintln!("skipped: files are not restricted here: {why}");
        // SAFETY: with this flag, landlock_create_ruleset(2) looks at no memory of ours.
        #[expect(unsafe_code, reason = "system calls that no library offers")]
        let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) };
        let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(abi <= 0 || !is_ci, "skipped in CI");
        return;
    }
    syscalls::restrict().unwrap();
    for (what, refused) in attempts(&inside, &outside) {
        assert!(refused, "not refused: {what}");
    }
    assert_works(&inside);
}
