//! stdin, a message a line, read in a way that no exit waits for.
//!
//! A pipe or a socket tells the event loop when a read will not wait. Anything
//! else is read on a thread of its own.

pub(crate) mod lines;
mod ready;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use tokio::sync::mpsc;

pub use self::lines::Line;
use self::lines::Lines;
use self::ready::Ready;

/// What a pipe holds: one read empties it.
const BUFFER: usize = 64 * 1024;

pub enum Input {
    Ready(Ready),
    Thread(mpsc::Receiver<Line>),
}

impl Input {
    /// Lines of up to `limit` bytes, without their ends and never empty.
    ///
    /// # Errors
    /// When there is no stdin, or no thread to read it on.
    pub fn of_stdin(limit: usize) -> io::Result<Self> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        match Ready::new(stdin, limit) {
            Ok(ready) => Ok(Self::Ready(ready)),
            Err(stdin) => on_a_thread(stdin, limit).map(Self::Thread),
        }
    }

    /// `None` at the end of input.
    pub async fn next(&mut self) -> Option<Line> {
        match self {
            Self::Ready(ready) => ready.next().await,
            Self::Thread(lines) => lines.recv().await,
        }
    }
}

fn on_a_thread(mut stdin: File, limit: usize) -> io::Result<mpsc::Receiver<Line>> {
    // The reader stays at most one line ahead: what waits where it comes from holds the client back.
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let mut lines = Lines::new(limit);
            let mut buffer = vec![0; BUFFER];
            loop {
                let mut piece = match stdin.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => &buffer[..length],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                while let Some(line) = lines.take(&mut piece) {
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
            }
            lines.finish().map(|line| sender.blocking_send(line));
        })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    fn whole(text: &'static str) -> Line {
        Line::Whole(bytes::Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_file_is_read_on_a_thread() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"{1}\n{2}").unwrap();
        file.rewind().unwrap();
        let file = Ready::new(file, 99).err().unwrap();
        let mut lines = on_a_thread(file, 99).unwrap();
        assert_eq!(lines.recv().await, Some(whole("{1}")));
        assert_eq!(lines.recv().await, Some(whole("{2}")));
        assert_eq!(lines.recv().await, None);
    }

    #[tokio::test]
    async fn a_pipe_is_read_as_it_fills() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = File::from(std::os::fd::OwnedFd::from(reader));
        let mut ready = Ready::new(reader, 200_000).ok().unwrap();
        for text in ["{1}\n{2}\n", "{3"] {
            writer.write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(ready.next().await, Some(whole("{1}")));
        assert_eq!(ready.next().await, Some(whole("{2}")));
        let writing = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let long = "x".repeat(BUFFER * 2);
            writer
                .write_all(format!("}}\n{long}\nend").as_bytes())
                .unwrap();
        });
        assert_eq!(ready.next().await, Some(whole("{3}")));
        let Some(Line::Whole(long)) = ready.next().await else {
            panic!()
        };
        assert_eq!(long.len(), BUFFER * 2);
        assert_eq!(ready.next().await, Some(whole("end")));
        assert_eq!(ready.next().await, None);
        writing.join().unwrap();
    }
}
