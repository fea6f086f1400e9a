//! stdin, a message a line, read on a thread of its own: an exit never waits for somebody to type.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;

use bytes::Bytes;
use tokio::sync::mpsc;

/// What a pipe holds: one read empties it.
const BUFFER: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Whole(Bytes),
    /// Longer than the limit; it was thrown away.
    TooLong,
}

/// Lines of up to `limit` bytes, without their ends and never empty. The channel closes at the end of input.
///
/// # Errors
/// When there is no stdin, or no thread to read it on.
pub fn read_stdin(limit: usize) -> io::Result<mpsc::Receiver<Line>> {
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // The reader stays at most one line ahead: what waits in the pipe holds the client back.
    let (lines, receiver) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let mut input = BufReader::with_capacity(BUFFER, stdin);
            while let Ok(Some(line)) = next_line(&mut input, limit) {
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
        })?;
    Ok(receiver)
}

fn next_line(input: &mut impl BufRead, limit: usize) -> io::Result<Option<Line>> {
    loop {
        let mut line = Vec::new();
        let mut too_long = false;
        let mut ended = false;
        while !ended {
            let read = match input.fill_buf() {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read.is_empty() {
                // A last line without its end is a message all the same.
                if line.is_empty() && !too_long {
                    return Ok(None);
                }
                break;
            }
            let end = read.iter().position(|&byte| byte == b'\n');
            let piece = &read[..end.unwrap_or(read.len())];
            too_long |= line.len() + piece.len() > limit;
            if too_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(piece);
            }
            ended = end.is_some();
            let used = piece.len() + usize::from(ended);
            input.consume(used);
        }
        if too_long {
            return Ok(Some(Line::TooLong));
        }
        let line = Bytes::from(line);
        let line = line.slice_ref(line.trim_ascii());
        if !line.is_empty() {
            return Ok(Some(Line::Whole(line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, limit: usize) -> Vec<Line> {
        let mut input = BufReader::with_capacity(3, text.as_bytes());
        std::iter::from_fn(|| next_line(&mut input, limit).unwrap()).collect()
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_are_trimmed_and_blank_ones_skipped() {
        assert_eq!(lines("{1}\r\n\n  \n{2}", 99), [whole("{1}"), whole("{2}")]);
        assert_eq!(lines("", 99), []);
    }

    #[test]
    fn a_line_over_the_limit_does_not_take_its_neighbours_along() {
        let text = "{a}\n{bbbbbbbbbbbb}\n{c}\n{dddddddddd}";
        assert_eq!(
            lines(text, 5),
            [whole("{a}"), Line::TooLong, whole("{c}"), Line::TooLong]
        );
    }
}
