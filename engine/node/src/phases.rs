//! What took how long while a guest stood still: one line in the log for each task of a move.

use std::{
    fmt,
    time::{Duration, Instant},
};

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

    /// One of several that went on at the same time, in the phase under way.
    pub(crate) fn beside(&mut self, what: &'static str, took: Duration) {
        self.over.push((what, took.as_millis()));
    }
}

/// How long it took, beside what came of it.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let since = Instant::now();
    let done = work.await;
    (done, since.elapsed())
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
