use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_pretty_printed_message_becomes_one_line() {
    let message = Bytes::from_static(b"\n{\r\n  \"a\": \"x\\ny\"\n}\n");
    assert_eq!(on_one_line(message), &b"{    \"a\": \"x\\ny\" }"[..]);
}

#[tokio::test]
async fn messages_of_any_size_keep_their_order() {
    let sink = Sink::default();
    let output = Output::to(sink.clone(), None).unwrap();
    let long = Bytes::from(vec![b'x'; TOGETHER + 1]);
    for message in [
        Bytes::from_static(b"1"),
        long.clone(),
        Bytes::from_static(b"2"),
    ] {
        output.send(message).await;
    }
    output.flush().await;
    let expected = [b"1\n", &long[..], b"\n2\n"].concat();
    assert_eq!(*sink.0.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let output = Output::to(Closed, None).unwrap();
    output.send(Bytes::from_static(b"1")).await;
    output.gone().await;
    output.send(Bytes::from_static(b"2")).await;
    output.flush().await;
}

#[tokio::test]
async fn lines_of_a_slow_reader_arrive_whole_and_in_order() {
    use std::io::{BufRead, BufReader};
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let out = File::from(std::os::fd::OwnedFd::from(writer));
    let output = Output::to(out.try_clone().unwrap(), Direct::of(&out)).unwrap();
    drop(out);
    let reading = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        BufReader::new(reader)
            .lines()
            .map(Result::unwrap)
            .collect::<Vec<_>>()
    });
    let expected: Vec<_> = (0..2000_usize)
        .map(|n| format!("{n}:{}", "x".repeat(n)))
        .collect();
    for line in &expected {
        output.send(line.clone().into()).await;
    }
    output.flush().await;
    drop(output);
    assert_eq!(reading.join().unwrap(), expected);
}
