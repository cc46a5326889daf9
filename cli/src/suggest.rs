//! Did you mean: the nearest of the names that there are.

/// How many are offered.
const MOST: usize = 3;

/// The names most like `typed`, best first; what begins with it counts too.
pub(crate) fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    // One slip in three letters is a slip; more is another word.
    let most_slips = (typed.chars().count() / 3).max(1);
    let mut found: Vec<(bool, usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let begins = typed.len() >= 2 && name.starts_with(typed);
            let slips = strsim::damerau_levenshtein(typed, name);
            (begins || slips <= most_slips).then_some((!begins, slips, name))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().take(MOST).map(|(_, _, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_seen_through() {
        let names = ["web", "web-staging", "db", "mail"];
        assert_eq!(nearest("wbe", names), ["web"]);
        assert_eq!(nearest("web-", names)[0], "web-staging");
        assert!(nearest("xyz", names).is_empty());
    }
}
