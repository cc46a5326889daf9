//! Names for instances whose users gave them none.

use uuid::Uuid;

const HOW: [&str; 45] = [
    "able", "amber", "brave", "bright", "calm", "clear", "clever", "cosmic", "daring", "eager",
    "easy", "fair", "fast", "fine", "fond", "fresh", "gentle", "glad", "golden", "grand", "happy",
    "honest", "humble", "keen", "kind", "light", "lively", "lucky", "mellow", "merry", "modest",
    "noble", "polite", "proud", "quick", "quiet", "rapid", "ready", "sharp", "silver", "smooth",
    "steady", "sunny", "swift", "warm",
];

const WHO: [&str; 45] = [
    "badger", "bat", "bear", "beaver", "bison", "bobcat", "crane", "crow", "deer", "dingo", "dove",
    "eagle", "elk", "falcon", "ferret", "finch", "fox", "gecko", "goose", "hare", "hawk", "heron",
    "ibis", "jay", "koala", "lark", "lemur", "lion", "lynx", "marten", "mole", "moose", "otter",
    "owl", "panda", "quail", "raven", "robin", "seal", "stork", "swan", "tiger", "toad", "wolf",
    "wren",
];

/// A name that follows from the id.
pub(super) fn name(id: Uuid) -> String {
    let (high, low) = id.as_u64_pair();
    let pick = |words: &'static [&'static str; 45], number: u64| words[(number % 45) as usize];
    format!("{}-{}", pick(&HOW, high), pick(&WHO, low))
}
