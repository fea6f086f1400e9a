//! Framing of the stdio transport: one message a line, whatever pieces the pipe makes of them.

use super::{pieces, seeded};
use crate::bridge::input::lines::{Line, Lines};
use crate::bridge::message::END;

/// The smallest limit under which both kept ends fit.
const LIMIT: usize = END;

pub fn check(data: &[u8]) {
    let (seed, data) = seeded(data);
    // Half of the seeds make the input long enough to pass the limit.
    let long = if seed & 1 == 1 {
        data.repeat(END / data.len().max(1) + 1)
    } else {
        Vec::new()
    };
    let data = if seed & 1 == 1 { &long[..] } else { data };
    let mut lines = Lines::new(LIMIT);
    let mut found = Vec::new();
    for mut piece in pieces(seed, data) {
        found.extend(std::iter::from_fn(|| lines.take(&mut piece)));
    }
    found.extend(lines.finish());
    assert_eq!(found, reference(data));
}

fn reference(data: &[u8]) -> Vec<Line> {
    data.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            if line.len() > LIMIT {
                let (head, tail) = (line[..END].to_vec(), line[line.len() - END..].to_vec());
                return Some(Line::TooLong { head, tail });
            }
            let line = line.trim_ascii();
            (!line.is_empty()).then(|| Line::Whole(line.to_vec().into()))
        })
        .collect()
}
