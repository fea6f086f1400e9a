//! mcp-auth-proxy-security(7) names tests that exist, and all unsafe code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../man/mcp-auth-proxy-security.7");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_test_that_the_page_names_exists() {
    let named: Vec<_> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix(".Ql "))
        .map(|line| line.trim_end_matches([' ', ',', '.']))
        .filter(|name| name.contains("::"))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let (module, function) = name.rsplit_once("::").unwrap();
        let file = format!("tests/integration/{}.rs", module.replace("::", "/"));
        let text = fs::read_to_string(root().join(&file)).unwrap_or_else(|_| panic!("no {file}"));
        assert!(
            text.contains(&format!("fn {function}()")),
            "no {function} in {file}"
        );
    }
}

#[test]
fn every_file_that_the_page_names_exists() {
    let named = PAGE.lines().filter_map(|line| line.strip_prefix(".Pa "));
    for name in named
        .flat_map(|line| line.split([' ', ',']))
        .filter(|name| name.contains('/'))
    {
        let places = [
            root().join(name),
            root().join("tests/integration").join(name),
        ];
        assert!(places.iter().any(|place| place.exists()), "no {name}");
    }
}

/// Family, cases, and how many of them are refused.
type Sums = Vec<(String, usize, usize)>;

fn sums(files: &[&str], is_refused: impl Fn(&str) -> bool) -> Sums {
    let mut sums = Sums::new();
    for file in files {
        let text = fs::read_to_string(root().join("tests/integration").join(file)).unwrap();
        for line in text.lines() {
            let (family, _) = line.split_once("  ").unwrap();
            let verdict = line.rsplit("  ").next().unwrap();
            if sums.last().is_none_or(|(last, ..)| last != family) {
                sums.push((family.to_owned(), 0, 0));
            }
            let (_, cases, refused) = sums.last_mut().unwrap();
            *cases += 1;
            *refused += usize::from(is_refused(verdict));
        }
    }
    sums
}

/// As they stand on the page.
fn shown() -> Sums {
    let rows = PAGE.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix(".It ")?.split(" Ta ").collect();
        let [family, cases, refused, passed] = cells[..] else {
            return None;
        };
        let (cases, refused) = (cases.parse().ok()?, refused.parse().ok()?);
        assert_eq!(
            Ok(cases),
            passed.parse().map(|passed: usize| passed + refused)
        );
        Some((family.to_owned(), cases, refused))
    });
    rows.collect()
}

#[test]
fn the_sums_of_cases_are_those_of_the_verdicts() {
    let smuggled = ["smuggling/h1.txt", "smuggling/h2.txt"];
    let mut expected = sums(&smuggled, |verdict| verdict.ends_with(" 0 upstream"));
    let hostile = ["hostile_upstream/verdicts.txt"];
    expected.extend(sums(&hostile, |verdict| verdict.starts_with("50")));
    assert_eq!(shown(), expected);
}

#[test]
fn the_list_of_unsafe_code_is_complete() {
    let list = PAGE
        .split(".Sh UNSAFE CODE")
        .nth(1)
        .unwrap()
        .split(".Sh ")
        .next()
        .unwrap();
    let listed: BTreeSet<_> = list
        .lines()
        .filter_map(|line| line.strip_prefix(".It Pa "))
        .flat_map(|line| line.split(" , "))
        .map(str::to_owned)
        .collect();
    let mut sources = Vec::new();
    collect(&root().join("src"), &mut sources);
    let has_unsafe = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        // Blocks, functions, impls and foreign items; not the lint's name, and not what is said of it.
        text.lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
            .any(|word| word == "unsafe")
    };
    let found: BTreeSet<_> = sources
        .iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .filter(|path| has_unsafe(path))
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    assert_eq!(found, listed);
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}
