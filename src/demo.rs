//! `demo`: an MCP server that verifies signatures, the real daemon in front of it, and a conversation.
//!
//! No configuration, no network beyond loopback, no privileges. Everything that
//! is made for it (certificate, key, sockets) is thrown away at the end.

mod agent;
mod certificate;
mod conversation;
mod home;
mod mcp;
mod places;
mod reply;
mod scenes;
mod server;
mod story;
mod talk;
mod tool;
mod verify;

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs;
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio_rustls::TlsAcceptor;

use crate::cli::DemoArgs;
use crate::config::{Config, Env, Flags, SandboxMode, Sources};
use crate::daemon::{self, Failure, Handle};
use crate::digits;
use crate::exit;
use crate::lifecycle::State;

use self::agent::Agent;
use self::certificate::Certificate;
use self::home::Home;
use self::places::Places;
use self::scenes::Stage;
use self::server::Server;
use self::story::Story;
use self::verify::Verifier;

/// How the conversation ended; empty if it was interrupted.
type Outcome = OnceLock<Result<(), String>>;

pub fn run(args: &DemoArgs) -> ExitCode {
    let outcome = Arc::new(Outcome::new());
    if let Err(failure) = perform(args.once, &outcome) {
        eprintln!("mcp-auth-proxy: demo: {}", failure.message);
        return failure.exit;
    }
    let complaint = match outcome.get() {
        Some(Ok(())) => return exit::OK.into(),
        Some(Err(step)) => format!("not as it should be: {step}"),
        None => "interrupted before the conversation was over".to_owned(),
    };
    eprintln!("mcp-auth-proxy: demo: {complaint}");
    exit::UNAVAILABLE.into()
}

fn perform(once: bool, outcome: &Arc<Outcome>) -> Result<(), Failure> {
    // Until the daemon has handlers of its own a signal must not leave the directory behind.
    let hurry = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&hurry))?;
    }
    let company = Company::found()?;
    let home = company.furnish()?;
    let sources = Sources {
        file: Some(home.file("config.toml")),
        env: Env::from_pairs::<String, String>([]),
        flags: Flags::default(),
    };
    let mut config = Config::load(&sources).map_err(|problems| Failure {
        message: problems.to_string(),
        exit: exit::CONFIG.into(),
    })?;
    // The log would talk into the story; `play` turns it up afterwards.
    config.log.level = slog::Level::Error;
    // The stage shares this process, and is cleared away at the end.
    config.server.sandbox = SandboxMode::Off;
    daemon::run(sources, config, |handle| {
        if hurry.load(Ordering::Relaxed) {
            return handle.stop();
        }
        match company.open(&home, tcp_address(&handle)) {
            Ok(stage) => drop(tokio::spawn(play(stage, once, Arc::clone(outcome), handle))),
            Err(reason) => {
                let _ = outcome.set(Err(reason));
                handle.stop();
            }
        }
    })
}

/// The other side: a server, and the key it has given out.
struct Company {
    certificate: Certificate,
    listener: TcpListener,
    address: SocketAddr,
    key_id: String,
    secret: String,
}

impl Company {
    fn found() -> Result<Self, Failure> {
        let certificate = Certificate::for_loopback().map_err(|error| Failure {
            message: format!("no certificate could be made: {error}"),
            exit: exit::UNAVAILABLE.into(),
        })?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            certificate,
            address: listener.local_addr()?,
            listener,
            key_id: format!("demo-{}", random_hex::<2>()?),
            secret: random_hex::<32>()?,
        })
    }

    fn furnish(&self) -> Result<Home, Failure> {
        let ca_pem = &self.certificate.ca_pem;
        let home = Home::furnish(self.address, ca_pem, &self.key_id, &self.secret);
        home.map_err(|error| Failure {
            message: error.to_string(),
            exit: exit::UNAVAILABLE.into(),
        })
    }

    /// Starts the server on the runtime of the caller.
    fn open(self, home: &Home, proxy: Option<SocketAddr>) -> Result<Stage, String> {
        let proxy = proxy.ok_or("the proxy listens on no TCP port")?;
        let verifier = Verifier::new(self.key_id, self.secret.as_bytes());
        let server = Arc::new(Server::new(verifier));
        let listener = tokio::net::TcpListener::from_std(self.listener);
        let listener = listener.map_err(|error| error.to_string())?;
        let tls = TlsAcceptor::from(self.certificate.server);
        tokio::spawn(Arc::clone(&server).serve(listener, tls));
        Ok(Stage {
            server,
            places: Places::new(home, proxy, self.address),
            direct: Agent::tls(self.address, self.certificate.client),
        })
    }
}

/// The port the kernel chose for the proxy.
fn tcp_address(handle: &Handle) -> Option<SocketAddr> {
    let listeners = handle.state.listeners();
    let mut addresses = listeners.iter().map(|listener| listener.address.parse());
    addresses.find_map(Result::ok)
}

/// Holds the conversation, then ends the daemon or waits for somebody to.
async fn play(stage: Stage, once: bool, outcome: Arc<Outcome>, handle: Handle) {
    // A task of its own: should it panic, the daemon must not stay behind.
    let playing = tokio::spawn(async move {
        let story = Story::new(story::colour_on_stdout());
        (stage.play(&story).await, stage, story)
    });
    match playing.await {
        // Interrupted: whatever failed then failed because of that.
        Ok((Err(_), ..)) if handle.state.lifecycle.state() == State::Stopping => {}
        Ok((Ok(()), stage, story)) => {
            let _ = outcome.set(Ok(()));
            if !once {
                stage.places.invite(&story);
                handle.state.log_control.set_level(slog::Level::Info);
                story::terminal_closed().await;
            }
        }
        Ok((Err(reason), ..)) => drop(outcome.set(Err(reason))),
        Err(panic) => drop(outcome.set(Err(panic.to_string()))),
    }
    handle.stop();
}

/// `N` random bytes, good enough for keys.
fn random_hex<const N: usize>() -> std::io::Result<String> {
    let mut bytes = [0; N];
    let random = aws_lc_rs::default_provider().secure_random;
    let filled = random.fill(&mut bytes);
    filled.map_err(|_| std::io::Error::other("no random numbers"))?;
    Ok(digits::hex(&bytes))
}
