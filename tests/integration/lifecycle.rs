//! From start to ready, through reloads, and what the service manager is told of it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::daemon::fields;
use crate::common::secrets::NEXT_SECRET;
use crate::common::{Ask, Client, Http, KEY_ID, SECRET, Setup, Upstream, Way, until, within};

/// The clock that `MONOTONIC_USEC` counts by.
fn monotonic_usec() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1000
}

#[tokio::test]
async fn a_daemon_that_waits_for_a_program_in_a_reload_stops_when_it_is_told() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let (flag, own) = (setup.path("hang"), setup.path("secret"));
    let script = format!(
        "test -e {0} && touch {0}.seen && exec sleep 20; cat {1}",
        flag.display(),
        own.display()
    );
    let config = setup.config().replace(
        &format!("file = {own:?}"),
        &format!("command = [\"/bin/sh\", \"-c\", {script:?}], timeout = \"30s\""),
    );
    let mut daemon = setup.written(&config).start().await;
    std::fs::write(&flag, "").unwrap();
    daemon.signal(Signal::SIGHUP);
    let seen = daemon.path("hang.seen");
    until("the program runs", || seen.exists()).await;
    assert_eq!(daemon.get("/").await.status, 200);
    let told = std::time::Instant::now();
    assert!(daemon.stop().await.success());
    let took = told.elapsed();
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn ready_is_said_once_it_serves_with_a_status_in_words() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let ready = daemon
        .notified
        .find("READY=1", |notice| notice.says("READY=1"))
        .await;
    let status = ready.value("STATUS").unwrap();
    assert!(
        status.contains("up") && status.contains("proxy.sock"),
        "{status}"
    );
    assert_eq!(daemon.status()["state"], "ready");
}

#[tokio::test]
async fn a_reload_is_announced_with_its_time_and_ends_in_ready() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let (seen, before) = (daemon.notified.len(), monotonic_usec());
    daemon.reload().await;
    let notices = daemon.notified.all().split_off(seen);
    let reloading = notices
        .iter()
        .position(|notice| notice.says("RELOADING=1"))
        .unwrap();
    let ready = notices
        .iter()
        .position(|notice| notice.says("READY=1"))
        .unwrap();
    assert!(reloading < ready, "{notices:?}");
    let time: u64 = notices[reloading]
        .value("MONOTONIC_USEC")
        .unwrap()
        .parse()
        .unwrap();
    assert!((before..=monotonic_usec()).contains(&time), "{time}");
    assert!(
        notices
            .iter()
            .any(|notice| notice.value("EXTEND_TIMEOUT_USEC").is_some())
    );
}

#[tokio::test]
async fn stopping_is_said_with_the_time_it_may_take_and_never_followed_by_ready() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).start().await;
    daemon.signal(Signal::SIGHUP);
    assert!(daemon.stop().await.success());
    let notices = daemon.notified.all();
    let stopping = notices
        .iter()
        .position(|notice| notice.says("STOPPING=1"))
        .unwrap();
    assert!(
        notices[stopping..]
            .iter()
            .all(|notice| !notice.says("READY=1")),
        "{notices:?}"
    );
    let extended = notices[stopping..]
        .iter()
        .find_map(|notice| notice.value("EXTEND_TIMEOUT_USEC"));
    // graceful_shutdown's 10 s, at least.
    assert!(extended.unwrap().parse::<u64>().unwrap() >= 10_000_000);
}

#[tokio::test]
async fn the_watchdog_is_fed_at_half_its_time() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).env("WATCHDOG_USEC", "2000000");
    let daemon = setup.start().await;
    let mut feedings = Vec::new();
    let mut from = 0;
    while feedings.len() < 4 {
        let all = daemon.notified.all();
        let at = all[from..]
            .iter()
            .position(|notice| notice.says("WATCHDOG=1"));
        match at {
            Some(at) => {
                feedings.push(all[from + at].at);
                from += at + 1;
            }
            None => {
                let fed = |notice: &crate::common::daemon::Notice| notice.says("WATCHDOG=1");
                daemon
                    .notified
                    .find_after(all.len(), "the watchdog is fed", fed)
                    .await;
            }
        }
    }
    for pair in feedings.windows(2) {
        let between = pair[1] - pair[0];
        let expected = Duration::from_millis(500)..Duration::from_millis(1950);
        assert!(expected.contains(&between), "{between:?}");
    }
}

#[tokio::test]
async fn nobody_who_does_not_watch_is_fed() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .env("WATCHDOG_USEC", "100000")
        .env("WATCHDOG_PID", "1");
    let daemon = setup.start().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        daemon
            .notified
            .all()
            .iter()
            .all(|notice| !notice.says("WATCHDOG=1"))
    );
}

/// Stops one thread of the daemon, by tracing it.
fn stop_thread(tid: i32) -> nix::Result<()> {
    use nix::sys::ptrace;
    use nix::unistd::Pid;
    ptrace::attach(Pid::from_raw(tid))?;
    nix::sys::wait::waitpid(
        Pid::from_raw(tid),
        Some(nix::sys::wait::WaitPidFlag::__WALL),
    )
    .map(drop)
}

/// The daemon's threads of this name.
fn threads(pid: u32, name: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .flatten()
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|comm| comm.starts_with(name))
        })
        .map(|task| task.file_name().to_str().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_worker_that_does_not_turn_starves_the_watchdog() {
    // Tracing is bound to its thread, so the test keeps to this one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let upstream = Upstream::https();
        let setup = Setup::before(&upstream).env("WATCHDOG_USEC", "200000");
        let daemon = setup.start().await;
        let fed = |notice: &crate::common::daemon::Notice| notice.says("WATCHDOG=1");
        daemon.notified.find("the watchdog is fed", fed).await;
        let worker = threads(daemon.pid(), "worker-0")[0];
        if stop_thread(worker).is_err() {
            eprintln!("not permitted to trace here: nothing shown");
            return;
        }
        // What was under way when the worker stopped may still come.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let before = daemon
            .notified
            .all()
            .iter()
            .filter(|notice| fed(notice))
            .count();
        tokio::time::sleep(Duration::from_millis(700)).await;
        let after = daemon
            .notified
            .all()
            .iter()
            .filter(|notice| fed(notice))
            .count();
        assert_eq!(after, before, "it was fed while a worker hung");
        nix::sys::ptrace::detach(nix::unistd::Pid::from_raw(worker), None).unwrap();
        let len = daemon.notified.len();
        daemon
            .notified
            .find_after(len, "it is fed again", fed)
            .await;
    });
}

#[tokio::test]
async fn all_ways_to_reload_do_the_same() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).log_level("info").start().await;
    for (level, way) in [
        ("debug", "signal"),
        ("warning", "command"),
        ("trace", "admin"),
    ] {
        daemon.change(|setup| setup.log_level(level));
        match way {
            "signal" => daemon.reload().await,
            "command" => {
                let ended = daemon.setup.run(&["reload"]);
                assert_eq!(
                    (ended.code, ended.stdout.trim()),
                    (Some(0), "reloaded"),
                    "{ended:?}"
                );
            }
            _ => {
                let (status, page) = daemon.admin("POST", "/-/reload");
                assert_eq!((status, page.contains("reloaded")), (200, true), "{page}");
            }
        }
        assert_eq!(daemon.status()["log_level"], level, "{way}");
        assert_eq!(daemon.status()["last_reload"]["outcome"], "reloaded");
    }
    let series = "mcp_auth_proxy_reloads_total{outcome=\"success\"}";
    // The start is a load too.
    assert_eq!(daemon.metric(series), 4.0);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_reported_everywhere() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).log_level("info").start().await;
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    client.ask(Ask::get("/before")).await;
    let good = daemon.setup.config();
    daemon
        .setup
        .file("config.toml", &good.replace("[log]", "[lgo]"));
    let reason = "unknown key \"lgo\"; did you mean \"log\"?";

    let before = daemon.notified.len();
    daemon.reload().await;
    let ready = daemon
        .notified
        .find_after(before, "READY=1", |notice| notice.says("READY=1"))
        .await;
    assert!(ready.value("STATUS").unwrap().contains(reason), "{ready:?}");
    let line = daemon
        .logged("the reason", |line| line["level"] == "error")
        .await;
    assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
    let status = daemon.status();
    assert_eq!(status["last_reload"]["outcome"], "refused");
    assert!(
        status["last_reload"]["reasons"][0]
            .as_str()
            .unwrap()
            .contains(reason)
    );
    assert_eq!(status["state"], "ready");
    assert_eq!(
        daemon.metric("mcp_auth_proxy_reloads_total{outcome=\"failure\"}"),
        1.0
    );

    let config = daemon.path("config.toml");
    let mut command = crate::common::process::command(daemon.setup.dir());
    command.args(["reload", "--config"]).arg(config);
    let ended = crate::common::process::run(&mut command);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains(reason), "{ended:?}");
    let (code, page) = daemon.admin("POST", "/-/reload");
    assert_eq!((code, page.contains("refused")), (422, true), "{page}");

    // It all goes on, the open connection included.
    assert_eq!(client.ask(Ask::get("/after")).await.status, 200);
    // And the next good file is taken.
    daemon.reload_with(|setup| setup.log_level("debug")).await;
    assert_eq!(daemon.status()["log_level"], "debug");
    assert_eq!(daemon.status()["last_reload"]["outcome"], "reloaded");
}

#[tokio::test]
async fn a_secret_that_went_missing_keeps_the_one_before() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    std::fs::remove_file(daemon.path("secret")).unwrap();
    daemon.reload().await;
    assert_eq!(daemon.status()["last_reload"]["outcome"], "refused");
    assert_eq!(daemon.get("/").await.status, 200);
}

#[tokio::test]
async fn listeners_come_and_go_with_a_reload() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).start().await;
    let (first, second) = (daemon.address(), daemon.path("second.sock"));
    let mut of_first = daemon.client(Way::Tcp(Http::One)).await;
    of_first.ask(Ask::get("/")).await;
    let mut of_unix = daemon.client(Way::Unix(Http::One)).await;
    of_unix.ask(Ask::get("/")).await;

    // The TCP port goes, a second socket comes, the first socket stays.
    let line = format!("unix = {second:?}");
    daemon
        .reload_with(|setup| setup.replaced_tcp_listener(&line))
        .await;
    let answer = Client::unix(&second, Http::One)
        .await
        .ask(Ask::get("/"))
        .await;
    assert_eq!(answer.status, 200);
    assert!(
        std::net::TcpStream::connect(first).is_err(),
        "the port is closed"
    );
    of_first.closed().await;
    assert_eq!(
        of_unix.ask(Ask::get("/kept")).await.status,
        200,
        "the connection was kept"
    );

    // And back.
    daemon
        .reload_with(|setup| setup.replaced_tcp_listener(&format!("tcp = \"{first}\"")))
        .await;
    let answer = Client::tcp(first, Http::One).await.ask(Ask::get("/")).await;
    assert_eq!(answer.status, 200);
    assert!(!second.exists(), "the socket file is removed");
}

#[tokio::test]
async fn a_new_listener_that_cannot_be_opened_refuses_the_whole_reload() {
    let upstream = Upstream::https();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut daemon = Setup::before(&upstream).start().await;
    let level = daemon.status()["log_level"].clone();
    let more = format!("[[listener]]\ntcp = \"{}\"\n", taken.local_addr().unwrap());
    daemon
        .reload_with(|setup| setup.log_level("trace").more(&more))
        .await;
    let status = daemon.status();
    assert_eq!(status["last_reload"]["outcome"], "refused");
    assert_eq!(status["log_level"], level);
    assert_eq!(daemon.get("/").await.status, 200);
}

#[tokio::test]
async fn a_sockets_new_mode_is_in_force_after_the_reload() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream)
        .unix_listener("mode = \"0600\"")
        .start()
        .await;
    let mode = |daemon: &crate::common::Daemon| {
        std::fs::metadata(daemon.socket())
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&daemon), 0o600);
    let mut client = daemon.client(Way::Unix(Http::One)).await;
    let config = daemon
        .setup
        .config()
        .replace("mode = \"0600\"", "mode = \"0666\"");
    daemon.setup.file("config.toml", &config);
    daemon.reload().await;
    assert_eq!(mode(&daemon), 0o666);
    assert_eq!(client.ask(Ask::get("/")).await.status, 200);
}

#[tokio::test]
async fn a_request_runs_to_its_end_under_the_configuration_it_began_with() {
    let upstream = Upstream::https();
    let other = Upstream::https();
    let mut daemon = Setup::before(&upstream).start().await;
    let pipes = upstream.streams_of("text/plain", "/long");
    for way in Way::ALL {
        let before = pipes.len();
        let mut client = daemon.client(way).await;
        let mut opened = client.open(Ask::get("/long")).await;
        let pipe = pipes.find_after(before, "the stream", |_| true).await;
        // Another upstream, and another secret.
        daemon.setup.file("secret", NEXT_SECRET);
        daemon
            .reload_with(|setup| setup.upstream_url(&other.url()))
            .await;
        pipe.send("still").await;
        opened.until("still").await;
        assert_eq!(daemon.ask_by(way, Ask::get("/now")).await.status, 200);
        assert_eq!(other.last().path(), "/now");
        pipe.end().await;
        assert!(opened.end().await.1.is_ok());
        daemon.setup.file("secret", SECRET);
        daemon
            .reload_with(|setup| setup.upstream_url(&upstream.url()))
            .await;
    }
}

#[tokio::test]
async fn connections_and_streams_whose_settings_did_not_change_are_kept() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let pipes = upstream.streams_at("/events");
    let mut client = daemon.client(Way::Tcp(Http::Two)).await;
    client.ask(Ask::get("/")).await;
    let mut stream = client.open(Ask::events("/events")).await;
    let pipe = pipes.find_after(0, "the stream", |_| true).await;
    let connection = upstream.last().connection;
    for secret in [NEXT_SECRET, SECRET, NEXT_SECRET] {
        daemon.setup.file("secret", secret);
        upstream.accept_only(&[(KEY_ID, secret)]);
        daemon.reload().await;
        assert_eq!(client.ask(Ask::get("/")).await.status, 200);
        assert_eq!(upstream.last().connection, connection, "the pool was kept");
        pipe.send("data: kept\n\n").await;
        stream.until("kept").await;
    }
}

#[tokio::test]
async fn the_log_level_follows_reloads_and_signals() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).log_level("info").start().await;
    let level =
        |daemon: &crate::common::Daemon| daemon.status()["log_level"].as_str().unwrap().to_owned();
    for (signal, expected) in [
        (Signal::SIGUSR1, "debug"),
        (Signal::SIGUSR1, "trace"),
        (Signal::SIGUSR1, "trace"),
        (Signal::SIGUSR2, "debug"),
        (Signal::SIGUSR2, "info"),
        (Signal::SIGUSR2, "warning"),
    ] {
        daemon.signal(signal);
        until(expected, || level(&daemon) == expected).await;
    }
    // At `warning` ordinary requests are not logged.
    daemon
        .ask(Ask::get("/").header("x-request-id", "unseen"))
        .await;
    daemon
        .ask(Ask::get("/a%2fb").header("x-request-id", "seen"))
        .await;
    daemon.logged_request("seen").await;
    assert!(
        daemon
            .log
            .all()
            .iter()
            .all(|line| fields(line)["request_id"] != "unseen")
    );
    daemon.reload_with(|setup| setup.log_level("info")).await;
    assert_eq!(level(&daemon), "info");
}

// The end.

#[tokio::test]
async fn requests_in_flight_are_answered_before_the_end() {
    for upstream in [Upstream::https(), Upstream::http()] {
        let mut daemon = Setup::before(&upstream).start().await;
        let pipes = upstream.streams_of("application/json", "/slow");
        let mut waiting = Vec::new();
        for way in Way::ALL {
            let mut client = daemon.client(way).await;
            waiting.push((
                way,
                tokio::spawn(async move {
                    let answer = client.try_ask(Ask::post("/slow", "{}")).await;
                    (answer, client)
                }),
            ));
        }
        pipes.find_after(3, "all four are upstream", |_| true).await;
        daemon.signal(Signal::SIGTERM);
        daemon
            .notified
            .find("STOPPING=1", |notice| notice.says("STOPPING=1"))
            .await;
        until("the port is closed", || {
            std::net::TcpStream::connect(daemon.address()).is_err()
        })
        .await;
        for pipe in pipes.all() {
            pipe.send("{\"late\":").await;
            pipe.send("true}").await;
            pipe.end().await;
        }
        for (way, waiting) in waiting {
            let (answer, mut client) = within("an answer", waiting).await.unwrap();
            let answer = answer.unwrap();
            assert_eq!(
                (answer.status.as_u16(), answer.text()),
                (200, "{\"late\":true}"),
                "{way:?}"
            );
            client.closed().await;
        }
        assert!(daemon.exit().await.success());
    }
}

#[tokio::test]
async fn a_keep_alive_client_is_told_to_close_and_gets_its_answer() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).start().await;
    upstream.at("/slow", |call| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        crate::common::upstream::echo(call).await
    });
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    client.ask(Ask::get("/warm")).await;
    let asking = async { client.ask(Ask::get("/slow")).await };
    let stopping = async {
        upstream.arrival("/slow").await;
        daemon.signal(Signal::SIGTERM);
    };
    let (answer, ()) = tokio::join!(asking, stopping);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), Some("close"));
    client.closed().await;
    assert!(daemon.exit().await.success());
}

#[tokio::test]
async fn an_idle_http2_client_gets_a_goaway() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).start().await;
    let mut client = daemon.client(Way::Unix(Http::Two)).await;
    client.ask(Ask::get("/")).await;
    let begun = Instant::now();
    assert!(daemon.stop().await.success());
    client.closed().await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_goaway_names_the_last_stream_that_will_be_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).start().await;
    let mut stream = tokio::net::TcpStream::connect(daemon.address())
        .await
        .unwrap();
    // The preface and an empty SETTINGS frame.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    stream.write_all(hello).await.unwrap();
    let mut first = [0; 9];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(first[3], 4, "SETTINGS");
    daemon.signal(Signal::SIGTERM);
    let mut rest = Vec::new();
    // Acknowledge whatever PING comes, as a client does: hyper waits for it before the final GOAWAY.
    let mut buffer = [0; 4096];
    within("the connection was closed", async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    rest.extend_from_slice(&buffer[..n]);
                    for frame in buffer[..n].windows(17) {
                        if frame[..5] == [0, 0, 8, 6, 0] {
                            let mut pong = frame.to_vec();
                            pong[4] = 1;
                            let _ = stream.write_all(&pong).await;
                        }
                    }
                }
            }
        }
    })
    .await;
    // Length 8, type GOAWAY.
    let goaway = rest.windows(5).any(|frame| frame == [0, 0, 8, 7, 0]);
    assert!(goaway, "{rest:?}");
    assert!(daemon.exit().await.success());
}

#[tokio::test]
async fn event_streams_end_cleanly_and_do_not_hold_the_exit() {
    let upstream = Upstream::https();
    upstream.says("/none", 405, &[], "");
    let mut daemon = Setup::before(&upstream).start().await;
    let pipes = upstream.streams_at("/events");
    let mut streams = Vec::new();
    for way in Way::ALL {
        for path in ["/events", "/none"] {
            let mut stream = daemon.client(way).await.open(Ask::events(path)).await;
            if path == "/none" {
                stream.until(":ok\n\n").await;
            }
            streams.push((way, path, stream));
        }
    }
    pipes.find_after(3, "all are upstream", |_| true).await;
    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM);
    for (way, path, stream) in streams {
        let (_, end) = stream.end().await;
        assert!(end.is_ok(), "{way:?} {path}: {end:?}");
    }
    assert!(daemon.exit().await.success());
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    upstream.idle().await;
}

#[tokio::test]
async fn the_exit_waits_no_longer_than_graceful_shutdown() {
    let upstream = Upstream::https();
    upstream.at("/hangs", |_| std::future::pending());
    let setup = Setup::before(&upstream).more("[server]\ngraceful_shutdown = \"700ms\"");
    let mut daemon = setup.start().await;
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    let asking = tokio::spawn(async move { client.try_ask(Ask::post("/hangs", "{}")).await });
    upstream.arrival("/hangs").await;
    let begun = Instant::now();
    daemon.stop().await;
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(400) && took < Duration::from_secs(3),
        "{took:?}"
    );
    // It sees that nothing came, and not an answer that looks whole.
    assert!(asking.await.unwrap().is_err());
    let line = daemon.logged("what was cut", |line| {
        line["level"] == "warning" && line["requests"] == 1
    });
    line.await;
}

#[tokio::test]
async fn a_second_signal_ends_the_wait() {
    let upstream = Upstream::https();
    upstream.at("/hangs", |_| std::future::pending());
    let mut daemon = Setup::before(&upstream).start().await;
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    let asking = tokio::spawn(async move { client.try_ask(Ask::post("/hangs", "{}")).await });
    upstream.arrival("/hangs").await;
    daemon.signal(Signal::SIGTERM);
    daemon
        .notified
        .find("STOPPING=1", |notice| notice.says("STOPPING=1"))
        .await;
    let begun = Instant::now();
    daemon.signal(Signal::SIGINT);
    daemon.exit().await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(asking.await.unwrap().is_err());
}

#[tokio::test]
async fn the_watchdog_is_fed_while_it_drains() {
    let upstream = Upstream::https();
    let pipes = upstream.streams_of("text/plain", "/slow");
    let setup = Setup::before(&upstream).env("WATCHDOG_USEC", "200000");
    let mut daemon = setup.start().await;
    let opened = daemon.open(Ask::get("/slow")).await;
    let pipe = pipes.find_after(0, "the request upstream", |_| true).await;
    daemon.signal(Signal::SIGTERM);
    let stopping = daemon
        .notified
        .find("STOPPING=1", |notice| notice.says("STOPPING=1"));
    let stopping = stopping.await.at;
    daemon
        .notified
        .find("the watchdog is fed", |notice| {
            notice.says("WATCHDOG=1") && notice.at > stopping
        })
        .await;
    pipe.end().await;
    assert!(opened.end().await.1.is_ok());
    assert!(daemon.exit().await.success());
}

#[tokio::test]
async fn no_core_file_is_written_and_no_other_process_of_the_user_may_look() {
    let daemon = Setup::at("http://127.0.0.1:1").start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let values: Vec<_> = core.split_whitespace().rev().skip(1).take(2).collect();
    assert_eq!(values, ["0", "0"], "{core}");
    // The kernel gives the files of a process that may not be looked into to root.
    use std::os::unix::fs::MetadataExt;
    let environ = std::fs::metadata(format!("/proc/{}/environ", daemon.pid())).unwrap();
    assert_eq!(environ.uid(), 0);
}
