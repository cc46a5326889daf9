//! What took how long while a guest stood still: one line in the log for each task of a move.

use std::{fmt, time::Instant};

/// One after the other, since it was begun.
#[derive(Debug)]
pub(crate) struct Phases {
    since: Instant,
    over: Vec<(&'static str, u128)>,
}

impl Phases {
    pub(crate) fn begin() -> Self {
        Self { since: Instant::now(), over: Vec::new() }
    }

    /// What was done since the phase before.
    pub(crate) fn over(&mut self, what: &'static str) {
        self.over.push((what, self.since.elapsed().as_millis()));
        self.since = Instant::now();
    }

    /// One of several that go on at the same time.
    pub(crate) fn beside(&mut self, what: &'static str) {
        self.over.push((what, self.since.elapsed().as_millis()));
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (what, took_ms)) in self.over.iter().enumerate() {
            let between = if nth == 0 { "" } else { ", " };
            write!(to, "{between}{what} {took_ms} ms")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_in_their_order() {
        let mut phases = Phases::begin();
        assert_eq!(phases.to_string(), "");
        phases.over("fetch");
        phases.over("restore");
        let told = phases.to_string();
        assert!(told.starts_with("fetch ") && told.contains(" ms, restore "), "{told}");
    }
}
