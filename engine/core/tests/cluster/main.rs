//! One thread, one seed, three members over one log: users ask any of them, each decides by what it
//! has read so far; tasks and reports are lost, doubled and reordered; daemons and hosts crash, are
//! cut off, lost, fenced and come back; instances move in all three ways, are copied, replicated,
//! taken over, and evacuated. What runs is the shipped code; only the hosts are imagined.
//!
//! Checked at each step: no guest runs twice, no two hold one thing, of each journey exactly one end,
//! what arrives is what left, and replaying the log gives what is in memory. When the faults are
//! over every operation ends and the hosts are as the log says. `SEED=n` runs one seed alone,
//! `SEEDS=n` so many.

mod checks;
mod history;
mod host;
mod log;
mod member;
mod members;
#[path = "../simulation/random.rs"]
mod random;
mod requests;

use std::collections::BTreeMap;

use members::Members;
use random::Random;

const SEEDS: u64 = 100;
const STEPS: usize = 240;
/// Replaying everything at each step would take most of the test's time.
const REPLAY_EVERY: usize = 60;

fn run(seed: u64) -> BTreeMap<&'static str, u32> {
    let mut random = Random(seed);
    let mut members = Members::found();
    for step in 0..STEPS {
        members.step(&mut random);
        members.check_safety();
        if step % REPLAY_EVERY == 0 {
            members.check_replay();
        }
    }
    members.settle();
    members.check_safety();
    members.check_replay();
    members.check_liveness();
    members.history.counts
}

#[test]
fn no_seed_breaks_the_cluster() {
    let number = |name: &str| {
        std::env::var(name).ok().map(|text| text.parse::<u64>().expect("it is a number"))
    };
    let (only, seeds) = (number("SEED"), number("SEEDS").unwrap_or(SEEDS));
    let mut counts: BTreeMap<_, u32> = BTreeMap::new();
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let counted = std::panic::catch_unwind(|| run(seed));
        assert!(counted.is_ok(), "SEED={seed}");
        for (what, count) in counted.unwrap_or_default() {
            *counts.entry(what).or_default() += count;
        }
    }
    if only.is_none() && seeds >= SEEDS {
        // A simulation in which nothing happens proves nothing.
        let expected = [
            "moved",
            "moved alive",
            "move aborted",
            "taken over",
            "replicated",
            "fetched",
            "lost",
            "returned",
            "fenced",
            "evacuated",
            "restored",
        ];
        for what in expected {
            assert!(counts.get(what).is_some_and(|count| *count > 5), "{what}: {counts:?}");
        }
    }
}
