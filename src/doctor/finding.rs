//! What can be found: a closed set, each with its check, its verdict and its exit code.

use crate::exit;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at, and what came of it.
#[derive(Debug)]
pub struct Finding {
    pub code: Code,
    pub upstream: Option<String>,
    /// One sentence.
    pub message: String,
    /// The command, the setting or the person that mends it.
    pub next: Option<String>,
    /// Lines that say more, such as a chain of certificates.
    pub details: Vec<String>,
}

impl Finding {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            upstream: None,
            message: message.into(),
            next: None,
            details: Vec::new(),
        }
    }

    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    #[must_use]
    pub fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

/// One row per finding: its name here, its check, its name for others, its verdict, its exit code.
macro_rules! codes {
    ($($variant:ident $check:literal $code:literal $verdict:ident $exit:ident;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($variant,)* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What was looked at.
            pub fn check(self) -> &'static str {
                match self { $(Self::$variant => $check,)* }
            }

            /// Stable, for programs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            pub fn verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict,)* }
            }

            /// The exit code where this fails.
            pub fn exit(self) -> u8 {
                match self { $(Self::$variant => exit::$exit,)* }
            }
        }
    };
}

codes! {
    ConfigurationOk "configuration" "configuration_ok" Pass OK;
    ConfigurationDoubtful "configuration" "configuration_doubtful" Warn OK;
    ConfigurationWrong "configuration" "configuration_wrong" Fail CONFIG;
    FilesOk "files" "files_ok" Pass OK;
    FileWritable "files" "file_writable" Warn OK;
    DaemonOk "daemon" "daemon_ok" Pass OK;
    NoDaemon "daemon" "no_daemon" Fail UNAVAILABLE;
    DaemonHangs "daemon" "daemon_hangs" Fail UNAVAILABLE;
    AdminForbidden "daemon" "admin_forbidden" Warn OK;
    NoAdmin "daemon" "no_admin" Warn OK;
    OtherUser "daemon" "other_user" Warn OK;
    OtherConfiguration "daemon" "other_configuration" Warn OK;
    OtherVersion "daemon" "other_version" Warn OK;
    NotReloaded "daemon" "not_reloaded" Warn OK;
    ReloadRefused "daemon" "reload_refused" Warn OK;
    ServiceOk "service" "service_ok" Pass OK;
    ServiceFailed "service" "service_failed" Fail UNAVAILABLE;
    ListenerOk "listener" "listener_ok" Pass OK;
    ListenerForbidden "listener" "listener_forbidden" Fail NO_PERMISSION;
    ListenerDead "listener" "listener_dead" Fail UNAVAILABLE;
    ListenerTaken "listener" "listener_taken" Fail UNAVAILABLE;
    DnsOk "dns" "dns_ok" Pass OK;
    DnsFailed "dns" "dns_failed" Fail UNAVAILABLE;
    ProxyUsed "proxy" "proxy_used" Pass OK;
    ProxyRefused "proxy" "proxy_refused" Fail UNAVAILABLE;
    ConnectOk "connect" "connect_ok" Pass OK;
    ConnectPartly "connect" "connect_partly" Warn OK;
    ConnectFailed "connect" "connect_failed" Fail UNAVAILABLE;
    TlsOk "tls" "tls_ok" Pass OK;
    TlsUnverified "tls" "tls_unverified" Warn OK;
    TlsFailed "tls" "tls_failed" Fail UNAVAILABLE;
    UnknownCa "tls" "unknown_ca" Fail CONFIG;
    HostnameMismatch "tls" "hostname_mismatch" Fail CONFIG;
    CertificateExpired "tls" "certificate_expired" Fail UNAVAILABLE;
    CertificateNotYetValid "tls" "certificate_not_yet_valid" Fail UNAVAILABLE;
    CertificateExpiresSoon "tls" "certificate_expires_soon" Warn OK;
    CertificateUnfit "tls" "certificate_unfit" Fail UNAVAILABLE;
    NoHttp2 "http" "no_http2" Fail CONFIG;
    Http2Broken "http" "http2_broken" Fail UNAVAILABLE;
    HttpOk "http" "http_ok" Pass OK;
    NotHttp "http" "not_http" Fail CONFIG;
    ConnectionReset "http" "connection_reset" Fail UNAVAILABLE;
    NoAnswer "http" "no_answer" Fail UNAVAILABLE;
    ClockOk "clock" "clock_ok" Pass OK;
    ClockDrifts "clock" "clock_drifts" Warn OK;
    ClockSkew "clock" "clock_skew" Fail UNAVAILABLE;
    SignatureOk "signature" "signature_ok" Pass OK;
    Unsigned "signature" "unsigned" Warn OK;
    CredentialWanted "signature" "credential_wanted" Fail CONFIG;
    CredentialUnavailable "signature" "credential_unavailable" Fail UNAVAILABLE;
    WrongKey "signature" "wrong_key" Fail CONFIG;
    ExpiredKey "signature" "expired_key" Fail CONFIG;
    WrongSecret "signature" "wrong_secret" Fail CONFIG;
    UserUnavailable "signature" "user_unavailable" Fail NO_PERMISSION;
    UserDisabled "signature" "user_disabled" Fail NO_PERMISSION;
    CredentialRefused "signature" "credential_refused" Fail CONFIG;
    Forbidden "signature" "forbidden" Fail NO_PERMISSION;
    RateLimited "mcp" "rate_limited" Warn OK;
    NoRoute "mcp" "no_route" Warn OK;
    WrongPath "mcp" "wrong_path" Fail CONFIG;
    Redirected "mcp" "redirected" Fail CONFIG;
    WebPage "mcp" "web_page" Fail CONFIG;
    UpstreamFails "mcp" "upstream_fails" Fail UNAVAILABLE;
    NotMcp "mcp" "not_mcp" Fail CONFIG;
    McpOk "mcp" "mcp_ok" Pass OK;
    StreamOk "stream" "stream_ok" Pass OK;
    NoStream "stream" "no_stream" Warn OK;
    StreamBuffered "stream" "stream_buffered" Fail UNAVAILABLE;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_failures_change_the_exit_code_and_every_failure_does() {
        for code in Code::ALL {
            let fails = code.verdict() == Verdict::Fail;
            assert_eq!(code.exit() != exit::OK, fails, "{code:?}");
        }
    }

    #[test]
    fn no_two_findings_share_a_name() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
