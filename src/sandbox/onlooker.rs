//! Who tells which executable a process runs, when the daemon may not look itself.
//!
//! A process behind Landlock may not look at one that is not. So before the walls go up this
//! program starts itself once more: in a process outside of them, that has nothing of the daemon's
//! memory and does one thing. It is sent a process's number and answers with `/proc/PID/exe`.
//!
//! A thread outside the walls would do as well, and be a door in them: whoever takes the process
//! over has all of its threads.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;

use super::syscalls;
use crate::privilege::RunAs;

/// By which name it is called, and knows what it is.
const NAME: &str = "mcp-auth-proxy-onlooker";

/// It has one thing to do, which takes microseconds.
const PATIENCE: TimeVal = TimeVal::new(1, 0);

/// The number of a question, and a path or the number of an error: see [`Answer`].
const LONGEST: usize = 4 + 4 + libc::PATH_MAX as usize;

static ONLOOKER: OnceLock<Onlooker> = OnceLock::new();

struct Onlooker {
    socket: OwnedFd,
    /// The number of the last question. Held while the answer is waited for.
    asked: Mutex<u32>,
}

/// Whether this process was started to be one.
pub fn is_this() -> bool {
    std::env::args_os().next().as_deref() == Some(OsStr::new(NAME))
}

/// Starts it, as the user whom the daemon will become. What the daemon may not hand on must be
/// closed on exec by now.
///
/// # Errors
/// A sentence; the system gives no process or no socket.
pub(super) fn start(run_as: Option<&RunAs>) -> Result<(), String> {
    let start = || -> io::Result<Onlooker> {
        let (socket, of_onlooker) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
        setsockopt(&socket, sockopt::SendTimeout, &PATIENCE)?;
        let mut program = Command::new("/proc/self/exe");
        if let Some(run_as) = run_as.filter(|_| geteuid().is_root()) {
            program.uid(run_as.uid).gid(run_as.gid);
        }
        program
            .arg0(NAME)
            .env_clear()
            .current_dir("/")
            .stdin(of_onlooker)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Onlooker {
            socket,
            asked: Mutex::default(),
        })
    };
    let onlooker = start().map_err(|error| {
        format!("no process can be started to look at others ({error}); see to its limits")
    })?;
    let _ = ONLOOKER.set(onlooker);
    Ok(())
}

pub fn is_there() -> bool {
    ONLOOKER.get().is_some()
}

/// What `/proc/PID/exe` leads to, as it sees it. `None`: there is none, as there are no walls.
pub fn executable(pid: i32) -> Option<io::Result<PathBuf>> {
    ONLOOKER.get().map(|onlooker| onlooker.ask(pid))
}

impl Onlooker {
    fn ask(&self, pid: i32) -> io::Result<PathBuf> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked = asked.wrapping_add(1);
        let question = [pid.to_ne_bytes(), asked.to_ne_bytes()].concat();
        let gone = |error: Errno| {
            io::Error::other(format!(
                "the process {NAME} does not answer ({error}); restart the daemon"
            ))
        };
        send(self.socket.as_raw_fd(), &question, MsgFlags::MSG_NOSIGNAL).map_err(gone)?;
        let mut answer = [0; LONGEST];
        loop {
            match recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Ok(0) => return Err(gone(Errno::EPIPE)),
                Ok(length) => match parse(&answer[..length]) {
                    Some((number, found)) if number == *asked => return found,
                    // What somebody before did not wait for.
                    _ => {}
                },
                Err(Errno::EINTR) => {}
                Err(error) => return Err(gone(error)),
            }
        }
    }
}

/// The question's number, the error's or 0, the path.
fn answer(number: [u8; 4], found: io::Result<PathBuf>) -> Vec<u8> {
    let (error, path) = match found {
        Ok(path) => (0, path.into_os_string()),
        Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), OsString::new()),
    };
    [&number, &error.to_ne_bytes(), path.as_bytes()].concat()
}

fn parse(answer: &[u8]) -> Option<(u32, io::Result<PathBuf>)> {
    let (number, rest) = answer.split_first_chunk()?;
    let (error, path) = rest.split_first_chunk()?;
    let found = match i32::from_ne_bytes(*error) {
        0 => Ok(OsString::from_vec(path.to_vec()).into()),
        error => Err(io::Error::from_raw_os_error(error)),
    };
    Some((u32::from_ne_bytes(*number), found))
}

/// Answers until the daemon is gone.
pub fn run() -> ExitCode {
    // Whoever stops the daemon may tell its whole group, and requests under way still ask.
    for name in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: to ignore a signal runs nothing.
        #[expect(unsafe_code, reason = "nix marks every disposition unsafe")]
        let _ = unsafe { signal(name, SigHandler::SigIgn) };
    }
    close_all_from(3);
    let _ = syscalls::restrict();
    let stdin = io::stdin();
    serve(stdin.as_fd());
    ExitCode::SUCCESS
}

/// What the daemon itself was started with, and had no use for.
fn close_all_from(first: u32) {
    // SAFETY: it takes three numbers and touches no memory; nobody here has a descriptor as yet.
    #[expect(unsafe_code, reason = "a system call that no library offers")]
    unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, 0);
    }
}

fn serve(socket: BorrowedFd<'_>) {
    let mut question = [0; 8];
    loop {
        match recv(socket.as_raw_fd(), &mut question, MsgFlags::empty()) {
            Ok(8) => {}
            Err(Errno::EINTR) => continue,
            _ => return,
        }
        let [a, b, c, d, number @ ..] = question;
        let pid = i32::from_ne_bytes([a, b, c, d]);
        let found = std::fs::read_link(format!("/proc/{pid}/exe"));
        let sent = send(
            socket.as_raw_fd(),
            &answer(number, found),
            MsgFlags::MSG_NOSIGNAL,
        );
        if sent.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Onlooker, OwnedFd) {
        let (socket, other) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let asked = Mutex::default();
        (Onlooker { socket, asked }, other)
    }

    #[test]
    fn it_names_the_executable_of_a_process_or_says_why_not() {
        let (onlooker, other) = pair();
        let serving = std::thread::spawn(move || serve(other.as_fd()));
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(onlooker.ask(own).unwrap(), std::env::current_exe().unwrap());
        let none = onlooker.ask(i32::MAX).unwrap_err();
        assert_eq!(none.raw_os_error(), Some(libc::ENOENT));
        drop(onlooker);
        serving.join().unwrap();
    }

    #[test]
    fn an_answer_that_came_too_late_is_not_taken_for_the_next_one() {
        let (onlooker, other) = pair();
        for (number, path) in [(7_u32, "/late"), (1, "/right")] {
            let late = answer(number.to_ne_bytes(), Ok(path.into()));
            send(other.as_raw_fd(), &late, MsgFlags::empty()).unwrap();
        }
        assert_eq!(onlooker.ask(1).unwrap(), PathBuf::from("/right"));
    }

    #[test]
    fn one_that_is_gone_is_an_error_and_no_wait() {
        let (onlooker, other) = pair();
        drop(other);
        let error = onlooker.ask(1).unwrap_err().to_string();
        assert!(error.contains("restart the daemon"), "{error}");
    }
}
