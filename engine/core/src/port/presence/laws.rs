//! The laws of presence: what every implementation is run against.
//!
//! They need two ends that hear each other, such as two connections to one cluster.

use std::{future::Future, sync::Arc, time::Duration};

use chrono::DateTime;
use futures::{StreamExt, stream::BoxStream};
use uuid::Uuid;

use super::{Beat, Presence};
use crate::ids::{NodeId, Sequence};

/// Nothing takes longer, or the law is broken.
const SOON: Duration = Duration::from_secs(20);
/// Said by one who does not listen.
const MANY: u64 = 10_000;

type Listening = BoxStream<'static, Beat>;

/// Tries every law. `one` speaks as node 1, `other` as node 2.
pub async fn all(one: Arc<dyn Presence>, other: Arc<dyn Presence>) {
    what_is_said_is_heard_by_all_as_it_was(&*one, &*other).await;
    what_was_said_before_is_not_heard(&*one, &*other).await;
    nobody_waits_for_one_who_does_not_listen(&*one, &*other).await;
}

/// The node that the first end speaks as.
#[must_use]
pub const fn first_node() -> NodeId {
    NodeId(Uuid::from_u128(1))
}

/// The node that the second end speaks as.
#[must_use]
pub const fn second_node() -> NodeId {
    NodeId(Uuid::from_u128(2))
}

fn beat(node: NodeId, applied: u64) -> Beat {
    let at = DateTime::from_timestamp_millis(1_795_000_000_123).unwrap_or_default();
    Beat { node, applied: Sequence(applied), boot: Uuid::from_u128(7), at }
}

async fn soon<F: Future>(what: &str, answer: F) -> F::Output {
    match tokio::time::timeout(SOON, answer).await {
        Ok(output) => output,
        Err(_) => panic!("no answer within {SOON:?}: {what}"),
    }
}

async fn say(presence: &dyn Presence, beat: Beat) {
    soon("beat", presence.beat(beat)).await.expect("it can be said");
}

async fn listen(presence: &dyn Presence) -> Listening {
    soon("listen", presence.heard()).await.expect("it can be heard")
}

async fn next(listening: &mut Listening) -> Beat {
    soon("hear", listening.next()).await.expect("there is more to hear")
}

/// Says it until the other hears it: that somebody listens may take its time to get around.
async fn until_heard(speaker: &dyn Presence, listening: &mut Listening, said: Beat) {
    let hears = async {
        loop {
            say(speaker, said).await;
            let heard = tokio::time::timeout(Duration::from_millis(200), listening.next()).await;
            if heard.is_ok_and(|heard| heard == Some(said)) {
                return;
            }
        }
    };
    soon("be heard", hears).await;
}

/// By both ends, in order, nothing changed.
pub async fn what_is_said_is_heard_by_all_as_it_was(one: &dyn Presence, other: &dyn Presence) {
    let (mut here, mut there) = (listen(one).await, listen(other).await);
    until_heard(one, &mut there, beat(first_node(), 1)).await;
    until_heard(other, &mut here, beat(second_node(), 1)).await;
    for applied in 2..10 {
        say(one, beat(first_node(), applied)).await;
    }
    for listening in [&mut here, &mut there] {
        let mut applied = 1;
        while applied < 9 {
            let heard = next(listening).await;
            if heard.node == first_node() && heard.applied.0 > 1 {
                applied += 1;
                assert_eq!(heard, beat(first_node(), applied), "in order, as it was said");
            }
        }
    }
}

/// Who listens hears what is said from then on.
pub async fn what_was_said_before_is_not_heard(one: &dyn Presence, other: &dyn Presence) {
    let mut before = listen(other).await;
    until_heard(one, &mut before, beat(first_node(), 100)).await;
    let mut listening = listen(other).await;
    loop {
        say(one, beat(first_node(), 101)).await;
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(200), listening.next()).await
        {
            assert_eq!(heard, Some(beat(first_node(), 101)));
            return;
        }
    }
}

/// However many it misses.
pub async fn nobody_waits_for_one_who_does_not_listen(one: &dyn Presence, other: &dyn Presence) {
    let asleep = listen(other).await;
    for applied in 0..MANY {
        say(one, beat(first_node(), 1000 + applied)).await;
    }
    drop(asleep);
    let mut awake = listen(other).await;
    until_heard(one, &mut awake, beat(first_node(), 1000 + MANY)).await;
}
