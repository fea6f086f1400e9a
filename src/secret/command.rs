//! Secrets that a program prints: the door to every vault and keychain that has a command.
//!
//! No shell, a clean environment, nothing on stdin, a time limit that ends the program and
//! all it started, and a limit on what is read.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use super::{MAX_LENGTH, Secret, SecretError, fail, without_newline};
use crate::env::Env;
use crate::privilege::RunAs;

/// What a program finds as its PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/homebrew/bin";
/// What it has of our own environment, where that is set.
const PASSED: [&str; 4] = ["HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR"];
/// How much of what it says on stderr is quoted, in characters.
const MAX_WORDS: usize = 200;
/// How much of it is kept, in bytes.
const MAX_SAID: usize = 4096;
/// How often we look whether a program has ended that says nothing.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Command {
    /// The program and its arguments; never empty.
    pub arguments: Vec<String>,
    pub timeout: Duration,
    /// How often it is run again in the background.
    pub refresh: Option<Duration>,
    /// Environment variables handed on beside the few that every program gets.
    pub pass_env: Vec<String>,
    /// Whose it is as long as the daemon is root's; afterwards it is that anyway.
    pub run_as: Option<RunAs>,
}

impl Command {
    /// Runs the program and takes what it prints. Blocks up to the time limit.
    ///
    /// # Errors
    /// What went wrong, with the program's own last words on stderr; never what it printed.
    pub fn run(&self, env: &Env) -> Result<Secret, SecretError> {
        match OUTSIDE.get() {
            Some(outside) => outside.run(self, env),
            None => self.run_here(env),
        }
    }

    fn run_here(&self, env: &Env) -> Result<Secret, SecretError> {
        let program = &self.arguments[0];
        let mut child = self.spawn(env).map_err(|error| {
            SecretError(match error.kind() {
                ErrorKind::NotFound => {
                    format!("the program {program} does not exist; install it or correct its path")
                }
                ErrorKind::PermissionDenied => {
                    format!("the program {program} may not be run: {error}")
                }
                _ => format!("the program {program} cannot be started: {error}"),
            })
        })?;
        let outcome = attend(&mut child, Instant::now() + self.timeout);
        if outcome.is_err() {
            end(&mut child);
        }
        match outcome {
            Ok(ended) => ended.secret(program),
            Err(Trouble::TooLong) => fail(format!(
                "the program {program} took longer than {}; see why, or raise its \"timeout\"",
                humantime::format_duration(self.timeout)
            )),
            Err(Trouble::TooMuch) => too_much(program),
            Err(Trouble::Io(error)) => fail(format!(
                "what the program {program} prints cannot be read: {error}"
            )),
        }
    }

    fn spawn(&self, env: &Env) -> io::Result<Child> {
        let mut command = std::process::Command::new(&self.arguments[0]);
        command
            .args(&self.arguments[1..])
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .current_dir("/")
            // A group of its own, so that whatever it starts ends with it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let handed_on = PASSED
            .into_iter()
            .chain(self.pass_env.iter().map(String::as_str));
        for name in handed_on {
            if let Some(value) = env.get(name) {
                command.env(name, value);
            }
        }
        // Before and after root was given up the same: root's own home is closed to it.
        if let Some(run_as) = self.run_as.as_ref().filter(|_| env.euid() == 0) {
            own_home(&mut command, run_as);
        }
        command.spawn()
    }
}

/// The program is that user's from the start, with its home and name.
fn own_home(command: &mut std::process::Command, run_as: &RunAs) {
    command.env_remove("XDG_RUNTIME_DIR");
    if let Some((name, home)) = &run_as.entry {
        command
            .env("HOME", home)
            .env("USER", name)
            .env("LOGNAME", name);
    }
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let run_as = run_as.clone();
    // SAFETY: between fork and exec only system calls are made, and no lock is taken that
    // another thread may hold.
    #[expect(unsafe_code, reason = "the standard library drops the groups instead")]
    unsafe {
        command.pre_exec(move || run_as.become_it().map_err(|(_, error)| error.into()));
    }
}

static OUTSIDE: OnceLock<Outside> = OnceLock::new();

/// What a program gets to start, beside its own time limit.
const START: Duration = Duration::from_secs(5);

/// A thread from before the sandbox: what it starts has no walls around it. It ends programs too,
/// since who is behind the walls may not signal who is not.
struct Outside(mpsc::Sender<Job>);

type Job = Box<dyn FnOnce() + Send>;

/// Lets programs be run from outside the sandbox, which is put up after this: vaults' programs
/// need files, keyrings and calls that the daemon itself has no use for.
///
/// # Errors
/// The system gives no thread.
pub fn stay_outside() -> io::Result<()> {
    let (jobs, taken) = mpsc::channel::<Job>();
    start_thread(move || {
        while let Ok(job) = taken.recv() {
            // Whoever waits for it is told by the channel that goes with the job.
            let _ = start_thread(job);
        }
    })?;
    let _ = OUTSIDE.set(Outside(jobs));
    Ok(())
}

fn start_thread(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name("commands".to_owned());
    builder.spawn(run).map(drop)
}

impl Outside {
    fn run(&self, command: &Command, env: &Env) -> Result<Secret, SecretError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let (own, env) = (command.clone(), env.clone());
        let job = move || drop(reply.send(own.run_here(&env)));
        // An end that is gone shows below.
        let _ = self.0.send(Box::new(job));
        let answer = answer.recv_timeout(command.timeout + START);
        answer.unwrap_or_else(|_| {
            let program = &command.arguments[0];
            fail(format!(
                "the program {program} could not be started in time; is its file system there?"
            ))
        })
    }
}

/// A program that came to its own end.
struct Ended {
    status: ExitStatus,
    printed: Zeroizing<Vec<u8>>,
    said: Vec<u8>,
}

enum Trouble {
    TooLong,
    TooMuch,
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Ended {
    fn secret(&self, program: &str) -> Result<Secret, SecretError> {
        if !self.status.success() {
            let said = last_words(&self.said);
            return fail(format!(
                "the program {program} ended with {}{said}",
                in_words(self.status)
            ));
        }
        let secret = without_newline(&self.printed);
        if secret.len() > MAX_LENGTH {
            return too_much(program);
        }
        if secret.is_empty() {
            return fail(format!(
                "the program {program} printed nothing{}; it must print the secret on stdout",
                last_words(&self.said)
            ));
        }
        Ok(Secret::new(secret.to_vec()))
    }
}

fn too_much(program: &str) -> Result<Secret, SecretError> {
    fail(format!(
        "the program {program} printed more than 64 KiB; that is no secret"
    ))
}

/// Reads both pipes until the program has ended.
///
/// What it started may hold the pipes open after that, as agents do; nobody waits for those.
fn attend(child: &mut Child, deadline: Instant) -> Result<Ended, Trouble> {
    // The line's end is not part of the secret.
    let mut printed = Pipe::new(child.stdout.take(), MAX_LENGTH + 2)?;
    let mut said = Pipe::new(child.stderr.take(), MAX_SAID)?;
    loop {
        let ended = child.try_wait()?;
        printed.read()?;
        said.read()?;
        if printed.overflowed {
            return Err(Trouble::TooMuch);
        }
        if let Some(status) = ended {
            return Ok(Ended {
                status,
                printed: printed.bytes,
                said: said.bytes.to_vec(),
            });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Trouble::TooLong);
        }
        wait([&printed, &said], left.min(LOOK));
    }
}

/// Returns when there is something to read, or after a while.
fn wait(pipes: [&Pipe; 2], at_most: Duration) {
    let mut watched: Vec<PollFd<'_>> = pipes
        .iter()
        .filter_map(|pipe| pipe.from.as_ref())
        .map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
        .collect();
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
    if watched.is_empty() || poll(&mut watched, timeout).is_err() {
        std::thread::sleep(at_most);
    }
}

/// Ends the program and all it started, and collects it.
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// One of the program's outputs, read without waiting.
struct Pipe {
    /// `None` once it is closed.
    from: Option<File>,
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
    /// There was more than the limit.
    overflowed: bool,
}

impl Pipe {
    fn new(from: Option<impl Into<OwnedFd>>, limit: usize) -> io::Result<Self> {
        let from = from.map(|pipe| File::from(pipe.into()));
        if let Some(pipe) = &from {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self {
            from,
            // Allocated once and never grown: growing would leave copies of a secret behind.
            bytes: Zeroizing::new(Vec::with_capacity(limit)),
            limit,
            overflowed: false,
        })
    }

    /// Takes what is there; what is over the limit is dropped.
    fn read(&mut self) -> io::Result<()> {
        let mut piece = Zeroizing::new([0; 4096]);
        while let Some(pipe) = &mut self.from {
            match pipe.read(&mut piece[..]) {
                Ok(0) => self.from = None,
                Ok(length) => {
                    let room = self.limit - self.bytes.len();
                    self.overflowed |= length > room;
                    self.bytes.extend_from_slice(&piece[..length.min(room)]);
                    // Or a program that never stops would keep us here.
                    if self.overflowed {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The last line of what a program said, for a sentence that goes on.
fn last_words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    let words: String = line
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_WORDS)
        .collect();
    if words.is_empty() {
        words
    } else {
        format!(", saying: {words}")
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}

#[cfg(test)]
mod tests;
