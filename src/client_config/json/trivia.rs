//! What is between the values of JSONC: blanks, comments, commas.
//!
//! All of these start outside a string, at a place that the parser found.

/// The comment or the blanks that begin at `at`: where they end, if there are any.
fn skip(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    if rest.starts_with("//") {
        return Some(at + rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(at + rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    let first = rest.chars().next().filter(|c| c.is_whitespace())?;
    Some(at + first.len_utf8())
}

/// The comma that follows a value which ends at `at`.
pub fn comma(text: &str, mut at: usize) -> Option<usize> {
    while let Some(next) = skip(text, at) {
        at = next;
    }
    text[at..].starts_with(',').then_some(at)
}

/// The end of the last comma or comment between `from` and `to`, or `from` if there is none.
pub fn content_end(text: &str, from: usize, to: usize) -> usize {
    let (mut at, mut end) = (from, from);
    while at < to {
        let blank = text[at..].starts_with(char::is_whitespace);
        let next = skip(text, at).unwrap_or(at + 1).min(to);
        if !blank {
            // A line comment ends before the line's end, however that is written.
            end = at + text[at..next].trim_end_matches('\r').len();
        }
        at = next;
    }
    end
}

/// Whether what is between `from` and `to` ends in a line comment.
pub fn is_line_comment(text: &str, from: usize, to: usize) -> bool {
    let (mut at, mut line) = (from, false);
    while at < to {
        line = text[at..].starts_with("//");
        at = skip(text, at).unwrap_or(at + 1);
    }
    line
}

/// The end of what belongs to the line of `at`: comments that begin in it.
pub fn after_line(text: &str, at: usize) -> usize {
    let mut end = at;
    loop {
        let rest = &text[end..];
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let comment = end + blanks;
        if !text[comment..].starts_with("//") && !text[comment..].starts_with("/*") {
            return end;
        }
        let next = skip(text, comment).unwrap_or(comment);
        end = comment + text[comment..next].trim_end_matches('\r').len();
        if text[comment..end].contains('\n') || text[comment..].starts_with("//") {
            return end;
        }
    }
}
