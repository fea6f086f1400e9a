//! The proxy's own errors: a stable code and status for programs, a sentence for people, a cause for the log.

use std::time::Duration;

use http::StatusCode;
use http::request::Parts;

use crate::client::{self, Failure, Kind};
use crate::guard;
use crate::mcp::agreement;
use crate::message::BodyError;
use crate::path;
use crate::snapshot::Upstream;

/// JSON-RPC's code for errors that a server defines; ours is in `data.code`.
const SERVER_ERROR: i32 = -32000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    BadRequest,
    PathRefused,
    HostForbidden,
    OriginForbidden,
    CrossSiteForbidden,
    PeerForbidden,
    ClientUnauthenticated,
    CredentialForbidden,
    PolicyForbidden,
    Ambiguous,
    HeaderMismatch,
    NoRoute,
    NotOffered,
    BodyTimeout,
    BodyCut,
    BodyTooLarge,
    RateLimited,
    UpstreamDns,
    UpstreamUnreachable,
    UpstreamTls,
    UpstreamReset,
    UpstreamBadResponse,
    UpstreamRejectedCredential,
    UpstreamUnavailable,
    AuditUnavailable,
    UpstreamBusy,
    UpstreamConnectTimeout,
    UpstreamTimeout,
    CredentialUnavailable,
}

impl Code {
    pub const ALL: &[Self] = &[
        Self::BadRequest,
        Self::PathRefused,
        Self::HostForbidden,
        Self::OriginForbidden,
        Self::CrossSiteForbidden,
        Self::PeerForbidden,
        Self::ClientUnauthenticated,
        Self::CredentialForbidden,
        Self::PolicyForbidden,
        Self::Ambiguous,
        Self::HeaderMismatch,
        Self::NoRoute,
        Self::NotOffered,
        Self::BodyTimeout,
        Self::BodyCut,
        Self::BodyTooLarge,
        Self::RateLimited,
        Self::UpstreamDns,
        Self::UpstreamUnreachable,
        Self::UpstreamTls,
        Self::UpstreamReset,
        Self::UpstreamBadResponse,
        Self::UpstreamRejectedCredential,
        Self::UpstreamUnavailable,
        Self::AuditUnavailable,
        Self::UpstreamBusy,
        Self::UpstreamConnectTimeout,
        Self::UpstreamTimeout,
        Self::CredentialUnavailable,
    ];

    /// The value of `x-mcp-auth-proxy-error`. Never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::PathRefused => "path_refused",
            Self::HostForbidden => "host_forbidden",
            Self::OriginForbidden => "origin_forbidden",
            Self::CrossSiteForbidden => "cross_site_forbidden",
            Self::PeerForbidden => "peer_forbidden",
            Self::CredentialForbidden => "credential_forbidden",
            Self::ClientUnauthenticated => "client_unauthenticated",
            Self::PolicyForbidden => "policy_forbidden",
            Self::Ambiguous => "ambiguous_request",
            Self::HeaderMismatch => "header_mismatch",
            Self::NoRoute => "no_route",
            Self::NotOffered => "not_offered",
            Self::BodyTimeout => "body_timeout",
            Self::BodyCut => "body_cut",
            Self::BodyTooLarge => "body_too_large",
            Self::RateLimited => "rate_limited",
            Self::UpstreamDns => "upstream_dns",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamBadResponse => "upstream_bad_response",
            Self::UpstreamRejectedCredential => "upstream_rejected_credential",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::AuditUnavailable => "audit_unavailable",
            Self::UpstreamBusy => "upstream_busy",
            Self::UpstreamConnectTimeout => "upstream_connect_timeout",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::CredentialUnavailable => "credential_unavailable",
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest
            | Self::PathRefused
            | Self::Ambiguous
            | Self::HeaderMismatch
            | Self::BodyCut => StatusCode::BAD_REQUEST,
            Self::HostForbidden
            | Self::OriginForbidden
            | Self::CrossSiteForbidden
            | Self::PeerForbidden
            | Self::ClientUnauthenticated
            | Self::CredentialForbidden
            | Self::PolicyForbidden => StatusCode::FORBIDDEN,
            Self::NoRoute | Self::NotOffered => StatusCode::NOT_FOUND,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UpstreamDns
            | Self::UpstreamUnreachable
            | Self::UpstreamTls
            | Self::UpstreamReset
            | Self::UpstreamBadResponse => StatusCode::BAD_GATEWAY,
            Self::UpstreamRejectedCredential
            | Self::UpstreamUnavailable
            | Self::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamBusy | Self::CredentialUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::UpstreamConnectTimeout | Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Whether the upstream could not be had at all, as opposed to what it or we had to say.
    pub fn is_outage(self) -> bool {
        matches!(
            self,
            Self::UpstreamDns
                | Self::UpstreamUnreachable
                | Self::UpstreamTls
                | Self::UpstreamReset
                | Self::UpstreamBadResponse
                | Self::UpstreamConnectTimeout
                | Self::UpstreamTimeout
                | Self::UpstreamUnavailable
        )
    }

    /// JSON-RPC's number for it: the protocol's own where there is one.
    pub fn json_rpc(self) -> i32 {
        match self {
            Self::HeaderMismatch => agreement::HEADER_MISMATCH,
            _ => SERVER_ERROR,
        }
    }

    /// Whether the client's connection ends with this answer: its framing is in doubt or its body unread.
    pub fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::BadRequest | Self::BodyTimeout | Self::BodyCut | Self::BodyTooLarge
        )
    }

    /// Whether the request's body may still be read to learn who waits for an answer.
    pub fn leaves_body_readable(self) -> bool {
        !self.ends_connection()
    }
}

/// A request that ends here.
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    /// For the client: what happened and what to do next.
    pub message: String,
    /// For the log, where it says more than the message may.
    pub cause: Option<String>,
    /// When another try makes sense, if we know.
    pub retry_after: Option<Duration>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            cause: None,
            retry_after: None,
        }
    }

    /// Says more to the log than to the client.
    pub fn because(mut self, cause: String) -> Self {
        self.cause = Some(cause);
        self
    }

    pub fn too_large_to_judge() -> Self {
        Self::new(
            Code::BodyTooLarge,
            "a request under a policy must be read whole, and this one is larger than limits.replay_buffer; \
             whoever runs the proxy can raise it",
        )
    }

    /// An answer that had to be looked at, and could not be.
    pub fn unfiltered(upstream: &Upstream, why: &str) -> Self {
        let name = &upstream.config.name;
        Self::new(
            Code::UpstreamBadResponse,
            format!(
                "the answer of upstream {name} {why}, so the proxy's policy cannot be applied to it"
            ),
        )
    }

    /// An answer that broke off before any of it was passed on.
    pub fn cut(upstream: &Upstream, error: &client::Broken) -> Self {
        let name = &upstream.config.name;
        Self::new(
            Code::UpstreamReset,
            format!("upstream {name} broke off its answer; it may have acted on the request"),
        )
        .because(error.to_string())
    }

    /// Its record could not be written, and no request may go without one.
    pub fn unaudited() -> Self {
        Self::new(
            Code::AuditUnavailable,
            "the proxy cannot write its audit records, and sends nothing without them; whoever runs it finds the reason in its log",
        )
    }

    /// The client's connection is older than the rules for it.
    pub fn listener_gone() -> Self {
        Self::new(
            Code::PeerForbidden,
            "the socket that this connection came in by is no longer served; connect to another",
        )
    }

    pub fn no_route(head: &Parts) -> Self {
        let path = head.uri.path();
        Self::new(
            Code::NoRoute,
            format!("no route leads from {path}; see [[route]] in the proxy's configuration"),
        )
    }

    /// There is no token to send, or not yet.
    pub fn no_credential(upstream: &Upstream, reason: String) -> Self {
        let name = &upstream.config.name;
        Self::new(
            Code::CredentialUnavailable,
            format!(
                "there is no token for upstream {name}: {reason}; it is asked for again by itself"
            ),
        )
    }

    /// The signature covers the body, which has to be there whole before anything is sent.
    pub fn too_large_to_sign(limit: usize) -> Self {
        Self::new(
            Code::BodyTooLarge,
            format!(
                "the upstream's credential signs the body too, and this one is larger than \
                 limits.replay_buffer ({limit} bytes); raise that, or send less"
            ),
        )
    }

    pub fn timeout(upstream: &Upstream, limit: Duration) -> Self {
        let name = &upstream.config.name;
        let limit = humantime::format_duration(limit);
        Self::new(
            Code::UpstreamTimeout,
            format!(
                "upstream {name} did not answer within {limit}; a slow tool wants a longer request_timeout"
            ),
        )
    }

    /// It failed so often lately that this request was not even sent.
    pub fn unavailable(upstream: &Upstream, again: Duration) -> Self {
        let name = &upstream.config.name;
        let verdict = upstream.health.verdict();
        Self {
            cause: verdict.and_then(|verdict| verdict.outcome.err()),
            retry_after: Some(again),
            ..Self::new(
                Code::UpstreamUnavailable,
                format!(
                    "upstream {name} keeps failing, so this request was not sent; requests pass again as soon as it answers"
                ),
            )
        }
    }

    /// An informational status as the final one, such as a 101 to a request that offered no upgrade.
    pub fn not_asked_for(upstream: &Upstream, status: StatusCode) -> Self {
        let name = &upstream.config.name;
        Self::new(
            Code::UpstreamBadResponse,
            format!("upstream {name} answered {status}, which the request did not ask for"),
        )
    }

    /// A response whose end the client might find elsewhere than we do.
    pub fn of_framing(upstream: &Upstream, fault: &str) -> Self {
        let name = &upstream.config.name;
        Self::new(
            Code::UpstreamBadResponse,
            format!("upstream {name} sent an answer whose length is in doubt: {fault}"),
        )
    }

    pub fn of_upstream(upstream: &Upstream, failure: &Failure) -> Self {
        let name = &upstream.config.name;
        let target = &upstream.config.target;
        let (code, message) = match failure.kind {
            Kind::Dns => (
                Code::UpstreamDns,
                format!(
                    "the host of upstream {name} ({target}) cannot be resolved; check its url and this machine's DNS"
                ),
            ),
            Kind::Unreachable => (
                Code::UpstreamUnreachable,
                format!(
                    "upstream {name} ({target}) cannot be reached; check that it runs and that no firewall is in the way"
                ),
            ),
            Kind::ConnectTimeout => (
                Code::UpstreamConnectTimeout,
                format!("no connection to upstream {name} ({target}) within its connect_timeout"),
            ),
            Kind::Tls => (
                Code::UpstreamTls,
                format!(
                    "TLS with upstream {name} ({target}) failed: {}; {}",
                    failure.cause,
                    tls_advice(&failure.cause)
                ),
            ),
            Kind::Reset => (
                Code::UpstreamReset,
                format!(
                    "upstream {name} closed the connection before it answered; it may or may not have acted on the request"
                ),
            ),
            Kind::BadResponse => (
                Code::UpstreamBadResponse,
                format!("upstream {name} answered with something that is not valid HTTP"),
            ),
        };
        Self {
            code,
            message,
            cause: Some(failure.cause.clone()),
            retry_after: None,
        }
    }
}

fn tls_advice(cause: &str) -> &'static str {
    if cause.contains("CaUsedAsEndEntity") {
        "the server shows a CA's certificate as its own; issue it one with basicConstraints CA:FALSE"
    } else if cause.contains("Expired") {
        "renew the server's certificate, or set this machine's clock"
    } else {
        "if its certificate is from a private CA, set ca_file"
    }
}

impl From<guard::Refused> for Error {
    fn from(refused: guard::Refused) -> Self {
        let code = match refused {
            guard::Refused::Malformed(_) => Code::BadRequest,
            guard::Refused::ForeignHost => Code::HostForbidden,
            guard::Refused::ForeignOrigin => Code::OriginForbidden,
            guard::Refused::CrossSite => Code::CrossSiteForbidden,
        };
        Self::new(code, refused.reason())
    }
}

impl From<path::Refused> for Error {
    fn from(refused: path::Refused) -> Self {
        Self::new(Code::PathRefused, refused.reason())
    }
}

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge => Code::BodyTooLarge,
            BodyError::Stalled => Code::BodyTimeout,
            BodyError::Cut => Code::BodyCut,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_their_statuses_are_errors() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(Code::ALL.iter().all(|code| code.status().as_u16() >= 400));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
