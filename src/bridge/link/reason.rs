//! Sentences for failed connections: what happened, and what to do next.

use super::Place;
use crate::bridge::problem::Problem;
use crate::client::{Failure, Kind};

/// `places` are those that were tried in vain.
pub fn of_failure(failure: &Failure, places: &[&Place]) -> Problem {
    let place = places
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" or ");
    let is_daemon = places.iter().any(|place| matches!(place, Place::Socket(_)));
    let cause = &failure.cause;
    match failure.kind {
        Kind::Unreachable if is_daemon && is_forbidden(cause) => Problem::new(
            "daemon_forbidden",
            format!(
                "the mcp-auth-proxy daemon's socket is not yours to use ({cause}); \
                 join its group (often mcp-auth-proxy) and log in again, or name another with --socket"
            ),
        ),
        Kind::Unreachable if is_daemon => Problem::new(
            "no_daemon",
            format!(
                "no mcp-auth-proxy daemon answers at {place}; start it with \
                 `systemctl start mcp-auth-proxy` or `mcp-auth-proxy serve`, or name its socket with --socket"
            ),
        ),
        Kind::Unreachable => Problem::new(
            "unreachable",
            format!(
                "{place} cannot be reached ({cause}); check that it runs and that no firewall is in the way"
            ),
        ),
        Kind::Dns => Problem::new(
            "dns",
            format!("the host of {place} cannot be resolved; check the URL and this machine's DNS"),
        ),
        Kind::ConnectTimeout => Problem::new(
            "connect_timeout",
            format!(
                "no connection to {place} in time; check the network, or the load of the other end"
            ),
        ),
        Kind::Tls => Problem::new(
            "tls",
            format!(
                "TLS with {place} failed: {cause}; a certificate of a private CA must be among the system's"
            ),
        ),
        Kind::Reset => Problem::new(
            "reset",
            format!(
                "{place} closed the connection before it answered; it may or may not have acted on the request"
            ),
        ),
        Kind::BadResponse => Problem::new(
            "bad_response",
            format!(
                "{place} answered with something that is not valid HTTP; check that it is an MCP endpoint"
            ),
        ),
    }
}

/// The client's causes are texts; Rust's errors of the system end alike in every locale.
fn is_forbidden(cause: &str) -> bool {
    cause.ends_with("(os error 13)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn problem(kind: Kind, cause: &str) -> Problem {
        let failure = Failure {
            kind,
            cause: cause.into(),
            unsent: false,
        };
        let socket = Place::Socket(PathBuf::from("/run/x/proxy.sock"));
        of_failure(&failure, &[&socket])
    }

    #[test]
    fn a_missing_daemon_is_told_from_a_forbidden_one() {
        let missing = problem(
            Kind::Unreachable,
            "/run/x: No such file or directory (os error 2)",
        );
        assert_eq!(missing.code, "no_daemon");
        assert!(missing.message.contains("/run/x/proxy.sock"));
        let forbidden = problem(Kind::Unreachable, "/run/x: Permission denied (os error 13)");
        assert_eq!(forbidden.code, "daemon_forbidden");
    }
}
