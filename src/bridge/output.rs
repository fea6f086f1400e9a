//! stdout: MCP alone, one message a line, written in one place.

mod direct;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::direct::Direct;

/// Messages that may wait for a slow client; those behind wait where they come from.
const AHEAD: usize = 8;

/// Messages shorter than this are written where they arise: a pipe takes them whole or not at all.
const AT_ONCE: usize = 4096;

/// Short messages that wait are written together, up to this many bytes.
const TOGETHER: usize = 64 * 1024;

pub struct Output {
    items: mpsc::Sender<Item>,
    /// Lines that the writer has not written yet: none may be overtaken.
    behind: Arc<AtomicUsize>,
    direct: Mutex<Option<Direct>>,
    gone: CancellationToken,
}

enum Item {
    Line(Bytes),
    /// Answered once everything before it is written.
    Flush(oneshot::Sender<()>),
}

impl Output {
    /// # Errors
    /// When there is no stdout, or no thread to write it on.
    pub fn to_stdout() -> io::Result<Self> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let direct = Direct::of(&stdout);
        Self::to(stdout, direct)
    }

    fn to(out: impl Write + Send + 'static, direct: Option<Direct>) -> io::Result<Self> {
        let (items, receiver) = mpsc::channel(AHEAD);
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        let behind = Arc::new(AtomicUsize::new(0));
        let of_writer = Arc::clone(&behind);
        std::thread::Builder::new()
            .name("stdout".into())
            .spawn(move || {
                let _guard = guard;
                // A client that closed its end reads nothing more: whatever it was, it is over.
                let _ = write_all(receiver, &of_writer, out);
            })?;
        Ok(Self {
            items,
            behind,
            direct: Mutex::new(direct),
            gone,
        })
    }

    /// Waits for room: the upstream is read only as fast as the client reads.
    ///
    /// A caller that stops waiting takes its message with it, never a part of it.
    pub async fn send(&self, message: Bytes) {
        let message = on_one_line(message);
        if self.send_at_once(&message) {
            return;
        }
        if let Ok(room) = self.items.reserve().await {
            self.behind.fetch_add(1, Ordering::AcqRel);
            room.send(Item::Line(message));
        }
    }

    /// Writes a short line right here, which spares it the way over another thread.
    fn send_at_once(&self, message: &Bytes) -> bool {
        let mut direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(direct) = direct.as_mut().filter(|_| message.len() < AT_ONCE) else {
            return false;
        };
        // With nothing behind there is room in the channel for what may be left of the line.
        let Some(room) = self
            .items
            .try_reserve()
            .ok()
            .filter(|_| self.behind.load(Ordering::Acquire) == 0)
        else {
            return false;
        };
        let line = [message, &b"\n"[..]].concat();
        match direct.write(&line) {
            0 => return false,
            written if written < line.len() => {
                self.behind.fetch_add(1, Ordering::AcqRel);
                room.send(Item::Line(message.slice(written..)));
            }
            _ => {}
        }
        true
    }

    /// Resolves when nobody reads stdout any more.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Waits until everything sent so far is written, or nobody reads any more.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.items.send(Item::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

fn write_all(
    mut items: mpsc::Receiver<Item>,
    behind: &AtomicUsize,
    mut out: impl Write,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(first) = items.blocking_recv() {
        let mut flushes = Vec::new();
        let mut lines = 0;
        let mut next = Some(first);
        while let Some(item) = next {
            lines += usize::from(matches!(item, Item::Line(_)));
            match item {
                Item::Line(line) if line.len() > TOGETHER => {
                    out.write_all(&buffer)?;
                    buffer.clear();
                    out.write_all(&line)?;
                    buffer.push(b'\n');
                }
                Item::Line(line) => {
                    buffer.extend_from_slice(&line);
                    buffer.push(b'\n');
                }
                Item::Flush(done) => flushes.push(done),
            }
            next = if buffer.len() < TOGETHER {
                items.try_recv().ok()
            } else {
                None
            };
        }
        out.write_all(&buffer)?;
        out.flush()?;
        behind.fetch_sub(lines, Ordering::AcqRel);
        buffer.clear();
        buffer.shrink_to(TOGETHER);
        for done in flushes {
            let _ = done.send(());
        }
    }
    Ok(())
}

/// JSON allows line ends between its tokens only, where a blank does as well.
fn on_one_line(message: Bytes) -> Bytes {
    let is_end = |byte: u8| byte == b'\n' || byte == b'\r';
    let trimmed = message.slice_ref(message.trim_ascii());
    if !trimmed.iter().any(|&byte| is_end(byte)) {
        return trimmed;
    }
    trimmed
        .iter()
        .map(|&byte| if is_end(byte) { b' ' } else { byte })
        .collect()
}

#[cfg(test)]
mod tests;
