//! What is counted elsewhere and read when somebody asks.

use std::time::SystemTime;

pub struct Gauges<'a> {
    pub in_flight: usize,
    pub connections: usize,
    pub sessions: usize,
    pub event_streams: usize,
    pub log_dropped: u64,
    pub audit_lost: u64,
    pub audit_failing: bool,
    pub cache_bytes: u64,
    pub cache_entries: usize,
    pub upstreams: Vec<UpstreamGauges<'a>>,
}

pub struct UpstreamGauges<'a> {
    pub name: &'a str,
    /// Of the certificate that it showed last.
    pub certificate_expiry: Option<SystemTime>,
    pub credential: Option<CredentialGauges<'a>>,
}

pub struct CredentialGauges<'a> {
    pub name: &'a str,
    /// Since when it is in use.
    pub since: SystemTime,
    /// When its token ends, if it is one that was given and does.
    pub expiry: Option<SystemTime>,
}
