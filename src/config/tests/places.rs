//! Every problem is reported at its exact place.

use super::*;

#[test]
fn a_problem_shows_its_line_with_a_caret() {
    let setup = Setup::small_and("[limits]\nmax_body = \"lots\"\n");
    let message = "not a size up to 1 TiB; \
                   write bytes as a number, or a unit: \"512KiB\", \"64MiB\"";
    let expected = format!(
        "config.toml:9:12: limits.max_body: {message}\n\
         \x20   9 | max_body = \"lots\"\n\
         \x20     |            ^"
    );
    assert_eq!(setup.report(), expected);
}
