//! Where records go: a file, the journal, syslog.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use crate::config::AuditTarget;

/// What the journal and syslog call the stream.
const IDENTIFIER: &str = "mcp-auth-proxy-audit";
/// systemd.journal-fields(7), and its native protocol.
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";
/// How long a reader may take nothing before that counts as a failure.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub enum Sink {
    File(File),
    Journal(UnixDatagram),
    Syslog(UnixDatagram),
}

impl Sink {
    /// # Errors
    /// A sentence that says what could not be opened and what to do.
    pub fn open(target: &AuditTarget) -> Result<Self, String> {
        match target {
            AuditTarget::File(path) => open_file(path).map(Self::File).map_err(|error| {
                format!(
                    "the audit file {} cannot be written ({error}); let the daemon's user write it, or name another in audit.file",
                    path.display()
                )
            }),
            AuditTarget::Journald => reader(JOURNAL).map(Self::Journal),
            AuditTarget::Syslog => reader(SYSLOG).map(Self::Syslog),
        }
    }

    /// How many bytes of `records`, which begin where the last call left off, were taken.
    ///
    /// # Errors
    /// Nothing was.
    pub fn write(&mut self, records: &[u8]) -> io::Result<usize> {
        let length = memchr::memchr(b'\n', records).unwrap_or(records.len());
        let record = &records[..length];
        match self {
            Self::File(file) => return file.write(records),
            _ if record.is_empty() => {}
            Self::Journal(socket) => {
                let mut entry = format!(
                    "PRIORITY=6\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER={IDENTIFIER}\nMESSAGE="
                )
                .into_bytes();
                entry.extend_from_slice(record);
                entry.push(b'\n');
                socket.send_to(&entry, JOURNAL)?;
            }
            Self::Syslog(socket) => {
                // authpriv.info
                let mut entry = format!("<86>{IDENTIFIER}[{}]: ", std::process::id()).into_bytes();
                entry.extend_from_slice(record);
                socket.send_to(&entry, SYSLOG)?;
            }
        }
        Ok((length + 1).min(records.len()))
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: opening a FIFO would otherwise wait for a reader that may never come.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

fn reader(path: &str) -> Result<UnixDatagram, String> {
    let open = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // Nothing is sent: this asks whether anybody is there.
        UnixDatagram::unbound()?.connect(path)?;
        Ok(socket)
    };
    open().map_err(|error: io::Error| {
        format!("nobody takes audit records at {path} ({error}); start it, or set audit.file")
    })
}
