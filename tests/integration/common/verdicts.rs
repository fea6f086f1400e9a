//! The table of cases and what becomes of each.

use std::path::PathBuf;

/// A row: the family, the case, and what came of it.
pub type Row = (&'static str, String, String);

/// Compares with what is kept in `tests/integration/FILE`.
///
/// After a change that is meant, `KEEP_VERDICTS=1 cargo test` writes it anew.
pub fn assert_kept(file: &str, rows: &[Row]) {
    let width = |of: fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (first, second) = (width(|row| row.0.len()), width(|row| row.1.chars().count()));
    let mut table = String::new();
    for (family, case, verdict) in rows {
        table.push_str(&format!("{family:first$}  {case:second$}  {verdict}\n"));
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/integration")
        .join(file);
    if std::env::var_os("KEEP_VERDICTS").is_some() {
        std::fs::write(&path, table).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    for (kept, found) in kept.lines().zip(table.lines()) {
        assert_eq!(kept, found, "{} has another verdict", path.display());
    }
    assert_eq!(kept, table, "{} has other cases", path.display());
}
