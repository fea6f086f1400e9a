//! Every kind of problem, at its exact place, in every format.

use super::*;

/// Where in the rendered file the problem must be.
#[derive(Clone, Copy)]
pub enum At {
    /// The key of this line of the case.
    Key(usize),
    Value(usize),
    /// The first item of the value's array.
    Item(usize),
    /// The table itself.
    Table,
}

use super::cases::CASES;
use At::{Item, Key, Table, Value};

/// A table such as `upstream.acme`, or an array of tables such as `[listener]`; its keys
/// and values (a TOML literal that YAML and JSON share); and the problem they make.
pub type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    At,
    &'static str,
);

/// A rendered case and the line and column its problem must be at.
struct Rendered {
    text: String,
    place: (usize, usize),
}

fn toml((table, lines, at, _): &Case) -> Rendered {
    let quoted = table.replace("b c", "\"b c\"");
    let mut text = if table.starts_with('[') {
        format!("[{table}]\n")
    } else {
        format!("[{quoted}]\n")
    };
    for (key, value) in *lines {
        text += &format!("{key} = {value}\n");
    }
    // A header's place is that of its last name; an array's item begins at its bracket.
    let header = if table.starts_with('[') {
        1
    } else {
        quoted.rfind('.').map_or(0, |dot| dot + 1) + 2
    };
    let place = match *at {
        Key(line) => (line + 2, 1),
        Value(line) => (line + 2, lines[line].0.len() + 4),
        Item(line) => (line + 2, lines[line].0.len() + 5),
        Table => (1, header),
    };
    Rendered { text, place }
}

fn yaml((table, lines, at, _): &Case) -> Rendered {
    let array = table.trim_matches(['[', ']']);
    let mut text = String::new();
    let depth = table.split('.').count();
    for (level, name) in array.split('.').enumerate() {
        text += &format!("{}{name}:\n", "  ".repeat(level));
    }
    for (number, (key, value)) in lines.iter().enumerate() {
        let bullet = if table.starts_with('[') && number == 0 {
            "- "
        } else {
            "  "
        };
        text += &format!("{}{bullet}{key}: {value}\n", "  ".repeat(depth - 1));
    }
    let first = depth * 2 + 1;
    let place = match *at {
        Key(line) => (depth + line + 1, first),
        Value(line) => (depth + line + 1, first + lines[line].0.len() + 2),
        Item(line) => (depth + line + 1, first + lines[line].0.len() + 3),
        Table if table.starts_with('[') => (2, 3),
        Table => (depth, depth * 2 - 1),
    };
    Rendered { text, place }
}

fn json((table, lines, at, _): &Case) -> Rendered {
    let (open, close) = if table.starts_with('[') {
        ("[{", "}]")
    } else {
        ("{", "}")
    };
    let names: Vec<&str> = table.trim_matches(['[', ']']).split('.').collect();
    let opened: Vec<String> = names
        .iter()
        .map(|name| format!("\"{name}\": {open}\n"))
        .collect();
    let pairs: Vec<String> = lines.iter().map(|(k, v)| format!("\"{k}\": {v}")).collect();
    let text = format!(
        "{{\n{}{}\n{}}}",
        opened.concat(),
        pairs.join(",\n"),
        close.repeat(names.len())
    );
    let above = names.len() + 1;
    let place = match *at {
        Key(line) => (above + line + 1, 1),
        Value(line) => (above + line + 1, lines[line].0.len() + 5),
        Item(line) => (above + line + 1, lines[line].0.len() + 6),
        Table if table.starts_with('[') => (2, names[0].len() + 6),
        Table => (above, 1),
    };
    Rendered { text, place }
}

/// The case as a fragment over the small configuration.
fn setup(name: &str, text: &str) -> Setup {
    Setup::toml(SMALL)
        .private("empty", "")
        .file("open", "s3cret")
        .file(&format!("conf.d/{name}"), text)
}

#[test]
fn every_problem_is_reported_at_its_place_in_every_format() {
    for case in CASES {
        for (name, Rendered { text, place }) in [
            ("x.toml", toml(case)),
            ("x.yaml", yaml(case)),
            ("x.json", json(case)),
        ] {
            let (line, column) = place;
            let expected = format!("conf.d/{name}:{line}:{column}: {}", case.3);
            let setup = setup(name, &text);
            std::fs::set_permissions(setup.path("open"), Permissions::from_mode(0o644)).unwrap();
            assert_eq!(setup.problems(), [expected], "{text}");
        }
    }
}
