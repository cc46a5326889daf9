//! Two texts side by side, as a unified diff in colour.

use std::fmt::Write as _;

use similar::{ChangeTag, TextDiff};

use super::style::{ADDED, DIM, REMOVED};

/// Empty when they are the same.
pub(crate) fn unified(old: &str, new: &str) -> String {
    let mut text = String::new();
    if old == new {
        return text;
    }
    let diff = TextDiff::from_lines(old, new);
    for (ordinal, group) in diff.grouped_ops(3).iter().enumerate() {
        if ordinal > 0 {
            let _ = writeln!(text, "{DIM}…{DIM:#}");
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = change.value().trim_end_matches('\n');
            let _ = match change.tag() {
                ChangeTag::Equal => writeln!(text, "  {line}"),
                ChangeTag::Delete => writeln!(text, "{REMOVED}- {line}{REMOVED:#}"),
                ChangeTag::Insert => writeln!(text, "{ADDED}+ {line}{ADDED:#}"),
            };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_marked() {
        let text = unified("a: 1\nb: 2\n", "a: 1\nb: 3\n");
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "  a: 1\n- b: 2\n+ b: 3\n");
        assert_eq!(unified("a\n", "a\n"), "");
    }
}
