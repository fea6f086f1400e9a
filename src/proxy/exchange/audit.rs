//! A request's record in the audit: who asked for what, by which credential, what was decided
//! and what came of it.

use std::time::Duration;

use slog::{KV, Key, Record, Serializer};

use super::{Exchange, Outcome};
use crate::listen::Peer;

/// What a client may choose is cut at so many bytes: a record has to fit where it goes.
const LONGEST: usize = 2048;

pub struct Entry<'a> {
    exchange: &'a Exchange,
    duration: Duration,
}

impl<'a> Entry<'a> {
    pub fn of(exchange: &'a Exchange, duration: Duration) -> Self {
        Self { exchange, duration }
    }

    /// What was decided: whether the request was let through to where it asked for.
    fn verdict(&self) -> &'static str {
        let is_sent = self.exchange.attempts > 0;
        match self.exchange.code {
            Some(_) if !is_sent => "refused",
            _ => "permitted",
        }
    }

    fn outcome(&self) -> &'static str {
        let exchange = self.exchange;
        match exchange.outcome {
            Outcome::Complete if exchange.code.is_some() => "error",
            Outcome::Complete => "answered",
            Outcome::ClientLeft if exchange.connection.was_aborted() => "shutdown",
            Outcome::ClientLeft => "client_left",
            Outcome::UpstreamCut => "upstream_cut",
        }
    }

    fn who(&self, out: &mut dyn Serializer) -> slog::Result {
        let connection = &self.exchange.connection;
        if let Peer::Tcp(address) = connection.peer {
            out.emit_arguments(Key::from("peer"), &format_args!("{address}"))?;
        }
        if let Peer::Unix { pid: Some(pid), .. } = connection.peer {
            out.emit_i32(Key::from("peer_pid"), pid)?;
        }
        if let Some(owner) = connection.known_owner() {
            if let Some(uid) = owner.uid() {
                out.emit_u32(Key::from("peer_uid"), uid)?;
            }
            if let Some(program) = owner.program() {
                out.emit_arguments(
                    Key::from("peer_executable"),
                    &format_args!("{}", program.display()),
                )?;
            }
        }
        if let Some(client) = &self.exchange.client {
            out.emit_str(Key::from("client"), client)?;
        }
        Ok(())
    }

    fn what(&self, out: &mut dyn Serializer) -> slog::Result {
        let exchange = self.exchange;
        let listener = exchange.snapshot.entrance(exchange.connection.listener);
        if let Some(listener) = listener.and_then(|entrance| entrance.listener) {
            out.emit_arguments(Key::from("listener"), &format_args!("{}", listener.address))?;
        }
        out.emit_str(Key::from("method"), exchange.method.as_str())?;
        out.emit_str(Key::from("path"), cut(exchange.subject.path()))?;
        if let Some(method) = exchange.subject.method() {
            out.emit_str(Key::from("mcp_method"), cut(method))?;
        }
        if let Some(name) = exchange.subject.name() {
            out.emit_str(Key::from("mcp_name"), cut(name))?;
        }
        let Some(upstream) = &exchange.upstream else {
            return Ok(());
        };
        out.emit_str(Key::from("upstream"), &upstream.config.name)?;
        let credentials = &exchange.snapshot.config.credentials;
        if let Some(index) = upstream.config.credential {
            out.emit_str(Key::from("credential"), &credentials[index].name)?;
        }
        Ok(())
    }
}

impl KV for Entry<'_> {
    fn serialize(&self, _record: &Record<'_>, out: &mut dyn Serializer) -> slog::Result {
        let exchange = self.exchange;
        let id = exchange.id.to_str().unwrap_or_default();
        out.emit_str(Key::from("request_id"), id)?;
        self.who(out)?;
        self.what(out)?;
        out.emit_str(Key::from("verdict"), self.verdict())?;
        out.emit_str(Key::from("outcome"), self.outcome())?;
        if exchange.status != 0 {
            out.emit_u16(Key::from("status"), exchange.status)?;
        }
        if let Some(code) = exchange.code {
            out.emit_str(Key::from("error_code"), code)?;
        }
        if let Some(cause) = &exchange.cause {
            out.emit_str(Key::from("cause"), cut(cause))?;
        }
        out.emit_u32(Key::from("attempts"), exchange.attempts)?;
        let milliseconds = self.duration.as_micros() as f64 / 1000.0;
        out.emit_f64(Key::from("duration_ms"), milliseconds)
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
