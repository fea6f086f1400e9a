//! What a change would do to a file, as `diff -U0` writes it.
//!
//! Without context: the lines around an entry may hold other servers' keys.

use std::fmt::Write;
use std::path::Path;

pub fn diff(path: &Path, old: Option<&str>, new: Option<&str>) -> String {
    let name = |text: Option<&str>| match text {
        Some(_) => path.display().to_string(),
        None => "/dev/null".to_owned(),
    };
    let (from, to) = (name(old), name(new));
    let old: Vec<_> = old.unwrap_or_default().split_inclusive('\n').collect();
    let new: Vec<_> = new.unwrap_or_default().split_inclusive('\n').collect();
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(&new).take_while(same).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev());
    let tail = tail.take_while(same).count();
    let old = &old_rest[..old_rest.len() - tail];
    let new = &new_rest[..new_rest.len() - tail];
    let mut text = format!("--- {from}\n+++ {to}\n");
    let at = |lines: &[&str]| if lines.is_empty() { head } else { head + 1 };
    let _ = writeln!(
        text,
        "@@ -{},{} +{},{} @@",
        at(old),
        old.len(),
        at(new),
        new.len()
    );
    for (sign, lines) in [('-', old), ('+', new)] {
        for line in lines {
            text.push(sign);
            text.push_str(line);
            if !line.ends_with('\n') {
                text.push_str("\n\\ No newline at end of file\n");
            }
        }
    }
    text
}
