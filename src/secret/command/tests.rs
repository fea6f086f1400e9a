use std::path::Path;

use super::*;

fn shell(script: &str) -> Command {
    Command {
        arguments: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: Duration::from_secs(10),
        refresh: None,
        run_as: None,
        pass_env: vec!["PASSED_ON".to_owned(), "UNSET".to_owned()],
    }
}

fn env() -> Env {
    Env::from_pairs([
        ("HOME", "/home/somebody"),
        ("PASSED_ON", "as it is"),
        ("MCP_API_SECRET", "hush"),
        ("PATH", "/nowhere"),
    ])
}

fn run(script: &str) -> Result<String, String> {
    shell(script)
        .run(&env())
        .map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap())
        .map_err(|error| error.to_string())
}

#[test]
fn what_a_program_prints_is_the_secret_without_its_line_end() {
    assert_eq!(run("echo hush").unwrap(), "hush");
    assert_eq!(run("printf 'a\\n\\n'").unwrap(), "a\n");
    assert_eq!(
        run("printf '%65536s\\n' x | wc -c").unwrap().trim(),
        "65537"
    );
    assert_eq!(run("printf '%65536s\\n' x").unwrap().len(), 65_536);
}

#[test]
fn a_program_has_a_clean_environment_nothing_to_read_and_the_root_directory() {
    let seen = run("env; pwd; cat").unwrap();
    for line in [
        "HOME=/home/somebody",
        "PASSED_ON=as it is",
        "LANG=C.UTF-8",
        "/",
    ] {
        assert!(
            seen.lines().any(|seen| seen == line),
            "{line} is not in {seen}"
        );
    }
    assert!(seen.contains(&format!("PATH={PATH}")), "{seen}");
    assert!(!seen.contains("hush") && !seen.contains("UNSET"), "{seen}");
}

#[test]
fn arguments_are_passed_as_they_are_without_a_shell() {
    let mut command = shell("");
    command.arguments = ["/bin/echo", "$HOME; `id` *"].map(str::to_owned).to_vec();
    assert_eq!(command.run(&env()).unwrap().expose(), b"$HOME; `id` *");
}

#[test]
fn a_failure_is_told_with_the_programs_last_words_and_never_with_what_it_printed() {
    assert_eq!(
        run("echo hush; echo first >&2; echo 'permission denied' >&2; exit 3").unwrap_err(),
        "the program /bin/sh ended with status 3, saying: permission denied"
    );
    assert_eq!(
        run("kill -9 $$").unwrap_err(),
        "the program /bin/sh ended with signal 9"
    );
    assert!(run("true").unwrap_err().contains("printed nothing"));
    let mut command = shell("");
    command.arguments = vec!["/nonexistent/program".to_owned()];
    assert_eq!(
        command.run(&env()).unwrap_err().to_string(),
        "the program /nonexistent/program does not exist; install it or correct its path"
    );
}

#[test]
fn a_program_that_takes_too_long_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut command = shell(&format!("sleep 60 & echo $! > {}; wait", file.display()));
    command.timeout = Duration::from_millis(300);
    let begun = Instant::now();
    let error = command.run(&env()).unwrap_err().to_string();
    assert!(error.contains("took longer than 300ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let pid: i32 = std::fs::read_to_string(file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    // Whoever adopts orphans collects it sooner or later; until then it is a zombie.
    while !is_gone(pid) {
        assert!(Instant::now() < deadline, "{pid} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    match stat {
        Ok(stat) => stat.rsplit(')').next().unwrap().trim().starts_with('Z'),
        Err(_) if Path::new("/proc/self").exists() => true,
        // No /proc, as on macOS.
        Err(_) => nix::sys::signal::kill(Pid::from_raw(pid), None).is_err(),
    }
}

#[test]
fn a_program_that_prints_without_end_is_stopped() {
    let error = run("cat /dev/zero").unwrap_err();
    assert!(error.contains("more than 64 KiB"), "{error}");
    let error = run("printf '%65537s' x").unwrap_err();
    assert!(error.contains("more than 64 KiB"), "{error}");
}

#[test]
fn a_program_that_complains_without_end_still_tells_its_secret() {
    let secret = run("head -c 300000 /dev/zero >&2; echo hush").unwrap();
    assert_eq!(secret, "hush");
}

#[test]
fn what_a_program_leaves_running_is_not_waited_for() {
    let begun = Instant::now();
    assert_eq!(run("sleep 20 & echo hush").unwrap(), "hush");
    assert!(begun.elapsed() < Duration::from_secs(9));
}
