//! `[audit]`: where the record of each request goes.

use std::path::PathBuf;

use super::decode::Section;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    pub target: AuditTarget,
    pub on_failure: OnFailure,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    File(PathBuf),
    Journald,
    Syslog,
}

/// What becomes of requests while their records cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    #[default]
    Warn,
    Refuse,
}

pub fn decode_audit(root: &mut Section<'_>) -> Option<Audit> {
    let mut s = root.field("audit").and_then(|field| field.section())?;
    let advice = "write file = \"/path/to/it\" or to = \"journald\"";
    let target = match s.exactly_one(&["file", "to"], advice) {
        Some(field) if field.key() == "file" => field.path().map(AuditTarget::File),
        Some(field) => field
            .choice(&[("journald", Reader::Journald), ("syslog", Reader::Syslog)])
            .map(|reader| match reader {
                Reader::Journald => AuditTarget::Journald,
                Reader::Syslog => AuditTarget::Syslog,
            }),
        None => None,
    };
    let on_failure = s.field("on_failure").and_then(|field| {
        field.choice(&[("warn", OnFailure::Warn), ("refuse", OnFailure::Refuse)])
    });
    s.finish();
    Some(Audit {
        target: target?,
        on_failure: on_failure.unwrap_or_default(),
    })
}

/// Who takes records over a socket.
#[derive(Clone, Copy)]
enum Reader {
    Journald,
    Syslog,
}
