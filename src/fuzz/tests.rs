use std::fs;
use std::path::PathBuf;

/// Where cargo-fuzz keeps the inputs of a target.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus")).join(target);
    let files = fs::read_dir(&directory).expect("a corpus");
    let paths = files.map(|file| file.expect("a file").path());
    paths
        .map(|path| {
            let bytes = fs::read(&path).expect("readable");
            (path, bytes)
        })
        .collect()
}

/// One of the changes a fuzzer makes first.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.usize(..=bytes.len());
    let end = (at + random.usize(..8)).min(bytes.len());
    match random.u8(..6) {
        0 => drop(bytes.drain(at..end)),
        1 => bytes.insert(at, random.u8(..)),
        2 => bytes.insert(
            at,
            *random.choice(b" \t\r\n\0:;,%\"\\{}[]/.=&").unwrap_or(&0),
        ),
        3 => bytes[at..end]
            .iter_mut()
            .for_each(|byte| *byte ^= 1 << random.u8(..8)),
        4 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        _ => bytes
            .splice(at.., other[at.min(other.len())..].iter().copied())
            .for_each(drop),
    }
}

/// What is committed, and a few thousand neighbours of it, the same in each run.
fn run(target: &str, check: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 3, "{target} has next to no corpus");
    for (path, bytes) in &corpus {
        let checked = std::panic::catch_unwind(|| check(bytes));
        assert!(checked.is_ok(), "{}", path.display());
    }
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..3000 {
        let mut bytes = corpus[random.usize(..corpus.len())].1.clone();
        let other = &corpus[random.usize(..corpus.len())].1;
        for _ in 0..=random.usize(..3) {
            mutate(&mut random, &mut bytes, other);
        }
        let checked = std::panic::catch_unwind(|| check(&bytes));
        assert!(
            checked.is_ok(),
            "{target}: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

macro_rules! targets {
    ($($target:ident),+) => {
        $(
            #[test]
            fn $target() {
                run(stringify!($target), super::$target::check);
            }
        )+

        #[test]
        fn every_target_is_a_program_of_the_fuzzer_and_is_run_here() {
            let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets");
            let files = fs::read_dir(directory).expect("the programs");
            let mut programs: Vec<_> = files
                .map(|file| file.expect("a file").file_name().into_string().expect("a name"))
                .collect();
            programs.sort();
            assert_eq!(programs, [$(concat!(stringify!($target), ".rs")),+]);
        }
    };
}

targets!(
    agreement,
    chunks,
    configuration,
    events,
    hygiene,
    json_rpc,
    lines,
    listing,
    path,
    question,
    request_head,
    response,
    signature_base
);
