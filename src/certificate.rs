//! What a certificate says of itself (RFC 5280), for people: no decision is made from it.
//!
//! Verification is rustls's. This reads the few fields that tell an operator which
//! certificate that is: a small reader of DER, whose every step may find the end.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

/// The part of a certificate that people tell it by.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    pub subject: String,
    pub issuer: String,
    /// DNS names and addresses it is good for.
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const ADDRESS: u8 = 0x87;
/// 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.4.N: the parts of a name that are shown.
const ATTRIBUTES: [(&[u8], &str); 3] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x55, 0x04, 0x0a], "O"),
];

impl Summary {
    /// `None` if this is no certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).expect(SEQUENCE)?);
        let mut tbs = Der(certificate.expect(SEQUENCE)?);
        if tbs.0.first() == Some(&VERSION) {
            tbs.next()?;
        }
        let (_serial, _algorithm) = (tbs.next()?, tbs.next()?);
        let issuer = name(tbs.expect(SEQUENCE)?)?;
        let mut validity = Der(tbs.expect(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = name(tbs.expect(SEQUENCE)?)?;
        let _key = tbs.next()?;
        let mut names = Vec::new();
        while let Some((tag, content)) = tbs.next() {
            if tag == EXTENSIONS {
                names = alternative_names(content)?;
            }
        }
        Some(Self {
            subject,
            issuer,
            names,
            not_before,
            not_after,
        })
    }

    pub fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }
}

/// What is left of a run of DER values.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value's tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes.iter().fold(0, |sum, &b| (sum << 8) | usize::from(b));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(tag, _)| *tag == wanted)
            .map(|(_, content)| content)
    }
}

fn name(content: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut sets = Der(content);
    while let Some((_, set)) = sets.next() {
        let mut attribute = Der(Der(set).expect(SEQUENCE)?);
        let (_, kind) = attribute.next()?;
        let (_, value) = attribute.next()?;
        if let Some((_, label)) = ATTRIBUTES.iter().find(|(oid, _)| *oid == kind) {
            parts.push(format!("{label}={}", printable(value)));
        }
    }
    Some(if parts.is_empty() {
        "(no name)".to_owned()
    } else {
        parts.join(", ")
    })
}

/// It came from the network and goes to a terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn time((tag, content): (u8, &[u8])) -> Option<SystemTime> {
    let text = std::str::from_utf8(content)
        .ok()
        .filter(|text| text.is_ascii())?;
    let digits = match tag {
        // RFC 5280, section 4.1.2.5.1: 50 to 99 are years of the last century.
        UTC_TIME if text < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| digits.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    humantime::parse_rfc3339(&text).ok()
}

fn alternative_names(content: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(Der(content).expect(SEQUENCE)?);
    let mut names = Vec::new();
    while let Some((_, extension)) = extensions.next() {
        let mut extension = Der(extension);
        let (_, kind) = extension.next()?;
        if kind != SUBJECT_ALT_NAME {
            continue;
        }
        let mut value = extension.next()?;
        if value.0 != OCTETS {
            // It was `critical`.
            value = extension.next()?;
        }
        let mut general = Der(Der(value.1).expect(SEQUENCE)?);
        while let Some((tag, name)) = general.next() {
            names.extend(alternative_name(tag, name));
        }
    }
    Some(names)
}

fn alternative_name(tag: u8, name: &[u8]) -> Option<String> {
    match tag {
        DNS_NAME => Some(printable(name)),
        ADDRESS => {
            let v4 = <[u8; 4]>::try_from(name).map(|bytes| Ipv4Addr::from(bytes).to_string());
            v4.or_else(|_| <[u8; 16]>::try_from(name).map(|b| Ipv6Addr::from(b).to_string()))
                .ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    fn certificate() -> Vec<u8> {
        let names = ["mcp.example".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "acme\n");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Acme");
        params.not_before = date_time_ymd(2024, 2, 29);
        params.not_after = date_time_ymd(2051, 3, 4);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_tells_whose_it_is_and_for_how_long() {
        let at = |text| humantime::parse_rfc3339(text).unwrap();
        let summary = Summary::of(&certificate()).unwrap();
        assert!(summary.subject.contains("CN=acme"), "{summary:?}");
        assert!(summary.subject.contains("O=Acme"), "{summary:?}");
        assert!(!summary.subject.contains('\n'), "{summary:?}");
        assert_eq!(summary.names, ["mcp.example", "127.0.0.1"]);
        assert_eq!(summary.not_before, at("2024-02-29T00:00:00Z"));
        assert_eq!(summary.not_after, at("2051-03-04T00:00:00Z"));
        assert!(summary.is_self_signed());
    }

    #[test]
    fn what_is_cut_or_garbled_is_no_certificate_and_no_panic() {
        let whole = certificate();
        for length in 0..whole.len() {
            assert_eq!(Summary::of(&whole[..length]), None, "{length}");
        }
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut garbled = whole.clone();
                garbled[at] = byte;
                let _ = Summary::of(&garbled);
            }
        }
    }
}
