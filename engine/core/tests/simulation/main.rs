//! One thread, one seed, one world: users ask, tasks and reports are lost, doubled and reordered,
//! guests die, daemons and hosts crash. What runs is the shipped code; only the host is imagined.
//!
//! Safety is checked at each step: replaying the log gives the world that is in memory, and no two
//! hold one name, address or range. Liveness is checked when the faults are over: every operation
//! ends, and the host is as the log says. A failing seed is printed; `SEED=n` runs it alone.

mod host;
mod installation;
mod random;

use installation::Installation;
use random::Random;

const SEEDS: u64 = 120;
const STEPS: usize = 200;
/// Replaying everything at each step would take most of the test's time; each crash replays too.
const REPLAY_EVERY: usize = 20;

#[test]
fn no_seed_breaks_the_installation() {
    let only =
        std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().expect("SEED is a number"));
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let run = || {
            let mut random = Random(seed);
            let mut installation = Installation::found();
            for step in 0..STEPS {
                installation.step(&mut random);
                installation.check_safety();
                if step % REPLAY_EVERY == 0 {
                    installation.check_replay();
                }
            }
            installation.settle();
            installation.check_replay();
            installation.check_liveness();
        };
        assert!(std::panic::catch_unwind(run).is_ok(), "SEED={seed}");
    }
}
