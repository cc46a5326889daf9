//! Times, and what they come to.

use std::{
    fs,
    time::{Duration, Instant},
};

#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed());
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn sorted(mut self) -> Vec<Duration> {
        self.0.sort();
        self.0
    }
}

/// One line: how many, how fast, how long each took, and the memory.
pub(crate) fn stage(what: &str, count: usize, since: Instant, times: Times) {
    let whole = since.elapsed();
    let times = times.sorted();
    let at = |percent: usize| times.get((times.len().max(1) - 1) * percent / 100).copied();
    let (p50, p99) = (at(50).unwrap_or_default(), at(99).unwrap_or_default());
    let rate = count as f64 / whole.as_secs_f64();
    let each = format!("each p50 {p50:.2?} p99 {p99:.2?}");
    println!("{what:>18}: {count} in {whole:.1?} = {rate:.0}/s, {each}, RSS {}", rss());
}

/// The memory that this process has now, and the most that it had.
pub(crate) fn rss() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() >> 10
    };
    format!("{} MiB (at most {})", field("VmRSS:"), field("VmHWM:"))
}
