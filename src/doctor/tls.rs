//! TLS: whether the daemon would accept the certificate, for how long, and if not, why not.

use std::time::{Duration, SystemTime};

use rustls::{CertificateError, Error, pki_types::CertificateDer};

use super::{Code, Finding, Findings};
use crate::certificate::Summary;
use crate::client::{Client, Failure, Inspection, Kind};
use crate::config::Upstream;

/// Automatic renewal has long taken place by then, where there is one.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
const DAY: u64 = 24 * 3600;

/// Whether there is a way on from here.
pub async fn look(upstream: &Upstream, client: &Client, findings: &mut Findings) -> bool {
    let inspection = client.inspect().await;
    let chain = summaries(&inspection.shown.chain);
    let is_h2 = match &inspection.is_h2 {
        Ok(is_h2) => *is_h2,
        Err(failure) => {
            let host = upstream.target.authority.host();
            findings.add(refused(
                &inspection,
                failure,
                host,
                client.proxy().is_some(),
            ));
            return false;
        }
    };
    if upstream.tls.insecure_skip_verify {
        let message =
            "the certificate is not verified, so anybody on the way can pose as the upstream";
        findings.add(
            Finding::new(Code::TlsUnverified, message)
                .details(chain.iter().map(line).collect())
                .next(
                    "remove insecure_skip_verify, and name the authority's certificate in ca_file",
                ),
        );
        return true;
    }
    let version = if is_h2 { "HTTP/2" } else { "HTTP/1.1" };
    findings.add(match chain.first() {
        Some(own) => accepted(own, version, SystemTime::now()),
        None => Finding::new(Code::TlsOk, format!("verified, {version}")),
    });
    true
}

fn accepted(own: &Summary, version: &str, now: SystemTime) -> Finding {
    let left = own.not_after.duration_since(now).unwrap_or_default();
    let days = left.as_secs() / DAY;
    let until = date(own.not_after);
    let message = format!("verified, good until {until} ({days} days), {version}");
    if left < SOON {
        return Finding::new(Code::CertificateExpiresSoon, message)
            .next("tell the upstream's operator to renew it");
    }
    Finding::new(Code::TlsOk, message)
}

/// Why there is no connection; what the server showed says which certificate is meant.
fn refused(inspection: &Inspection, failure: &Failure, host: &str, proxied: bool) -> Finding {
    let chain = summaries(&inspection.shown.chain);
    let lines = chain.iter().map(line).collect();
    match &inspection.shown.refused {
        Some(error) => certificate(error, &chain, host, proxied).details(lines),
        None => handshake(failure).details(lines),
    }
}

fn certificate(error: &Error, chain: &[Summary], host: &str, proxied: bool) -> Finding {
    let Error::InvalidCertificate(error) = error else {
        return Finding::new(
            Code::TlsFailed,
            format!("the certificate could not be checked: {error}"),
        )
        .next("ask the upstream's operator");
    };
    let own = chain.first();
    let until =
        |time: fn(&Summary) -> SystemTime| own.map_or_else(String::new, |own| date(time(own)));
    match error {
        // BadSignature: an authority of the same name, with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            let issuer = chain.last().map_or("?", |last| &last.issuer);
            let next = if proxied {
                "a proxy that reads along? ask for its authority's certificate, and name it in ca_file"
            } else {
                "name the authority's certificate (PEM) in the upstream's ca_file"
            };
            Finding::new(
                Code::UnknownCa,
                format!("nobody trusted here issued the certificate; its issuer is {issuer}"),
            )
            .next(next)
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = own.map_or_else(String::new, |own| own.names.join(", "));
            Finding::new(
                Code::HostnameMismatch,
                format!("the certificate is for {names} and not for {host}"),
            )
            .next("write one of these names into the upstream's url")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Finding::new(
            Code::CertificateExpired,
            format!(
                "the certificate was good until {}",
                until(|own| own.not_after)
            ),
        )
        .next("is this host's date right (date -u)? then the upstream's operator has to renew it"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Finding::new(
                Code::CertificateNotYetValid,
                format!(
                    "the certificate is good only from {} on",
                    until(|own| own.not_before)
                ),
            )
            .next("is this host's date right? compare: date -u")
        }
        other => {
            let said = Error::from(other.clone());
            let mut finding = Finding::new(
                Code::CertificateUnfit,
                format!("the certificate is not fit for a server: {said}"),
            );
            finding = finding.next("a certificate made by hand needs: openssl req -x509 ... -addext basicConstraints=critical,CA:FALSE");
            finding
        }
    }
}

/// No certificate was at fault.
fn handshake(failure: &Failure) -> Finding {
    let cause = &failure.cause;
    let has = |part: &str| cause.to_ascii_lowercase().contains(part);
    if has("tunnel") || has("proxy") {
        return Finding::new(
            Code::ProxyRefused,
            format!("the proxy does not let us through: {cause}"),
        )
        .next(
            "correct HTTPS_PROXY (user and password too), or take the upstream out with NO_PROXY",
        );
    }
    if has("noapplicationprotocol") || has("application protocol") {
        return Finding::new(
            Code::NoHttp2,
            "the upstream does not speak the version of HTTP that http_version asks for",
        )
        .next("set the upstream's http_version = \"auto\"");
    }
    let finding = |code, message: String| Finding::new(code, message);
    match failure.kind {
        Kind::ConnectTimeout => finding(
            Code::TlsFailed,
            format!("the TLS handshake does not end: {cause}"),
        )
        .next("a firewall that looks into TLS? ask your network's operator"),
        Kind::Tls => finding(
            Code::TlsFailed,
            format!("the TLS handshake failed: {cause}"),
        )
        .next("is the port right, and does it speak TLS? does it want client_cert and client_key?"),
        _ => finding(
            Code::TlsFailed,
            format!("the connection ended during the TLS handshake: {cause}"),
        )
        .next("is the port right, and does it speak TLS?"),
    }
}

fn summaries(chain: &[CertificateDer<'_>]) -> Vec<Summary> {
    chain.iter().filter_map(|der| Summary::of(der)).collect()
}

fn line(summary: &Summary) -> String {
    let mut line = format!("{} until {}", summary.subject, date(summary.not_after));
    if !summary.names.is_empty() {
        line.push_str(&format!(", for {}", summary.names.join(", ")));
    }
    if summary.is_self_signed() {
        line.push_str(", issued by itself");
    } else {
        line.push_str(&format!(", issued by {}", summary.issuer));
    }
    line
}

fn date(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.get(..10).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(days: u64) -> Summary {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Summary {
            subject: "CN=own".to_owned(),
            issuer: "CN=theirs".to_owned(),
            names: vec!["a.example".to_owned()],
            not_before: now,
            not_after: now + Duration::from_secs(days * DAY + 5),
        }
    }

    #[test]
    fn certificates_are_refused_for_what_is_wrong_with_them() {
        let chain = [summary(3)];
        for (error, code, part) in [
            (
                CertificateError::UnknownIssuer,
                Code::UnknownCa,
                "CN=theirs",
            ),
            (
                CertificateError::NotValidForName,
                Code::HostnameMismatch,
                "a.example",
            ),
            (
                CertificateError::Expired,
                Code::CertificateExpired,
                "2023-11-17",
            ),
            (
                CertificateError::NotValidYet,
                Code::CertificateNotYetValid,
                "2023-11-14",
            ),
            (
                CertificateError::BadEncoding,
                Code::CertificateUnfit,
                "BadEncoding",
            ),
        ] {
            let finding = certificate(&error.into(), &chain, "b.example", false);
            assert_eq!(finding.code, code);
            assert!(finding.message.contains(part), "{finding:?}");
        }
        let intercepted = certificate(&CertificateError::UnknownIssuer.into(), &[], "b", true);
        assert!(intercepted.next.unwrap().contains("proxy"));
    }

    #[test]
    fn a_certificate_that_ends_in_two_weeks_is_warned_about() {
        let now = summary(0).not_before;
        assert_eq!(accepted(&summary(14), "", now).code, Code::TlsOk);
        let soon = accepted(&summary(13), "", now);
        assert_eq!(soon.code, Code::CertificateExpiresSoon);
        assert!(soon.message.contains("(13 days)"));
    }
}
