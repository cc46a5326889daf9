//! The laws of the queue port: what every implementation is run against, the one in memory included.
//!
//! Every wait is bounded, so an implementation that never delivers fails like one that delivers wrong.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use uuid::Uuid;

use super::{Deliveries, Delivery, Tasks};
use crate::{
    ids::{CommitId, NodeId, Revision, Sequence, StreamId, StreamKind},
    port::log::{Commit, EventLog, Expected, Part},
};

/// No delivery takes longer, or the law is broken.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Makes what the laws are tried on.
#[async_trait]
pub trait Maker: Send + Sync {
    /// An empty log that shares nothing with those made before.
    async fn log(&self) -> Arc<dyn EventLog>;

    /// The queue of a node's tasks in that log.
    async fn tasks(&self, log: &Arc<dyn EventLog>, node: NodeId) -> Arc<dyn Tasks>;

    /// The same queue after the node's process ended and came back; `before` is the only handle left.
    async fn reopen(
        &self,
        before: Arc<dyn Tasks>,
        log: &Arc<dyn EventLog>,
        node: NodeId,
    ) -> Arc<dyn Tasks> {
        drop(before);
        self.tasks(log, node).await
    }
}

/// Tries every law.
pub async fn all(maker: &dyn Maker) {
    own_tasks_come_in_order(maker).await;
    later_tasks_come_when_they_are_ordered(maker).await;
    unacknowledged_tasks_come_again(maker).await;
    acknowledged_tasks_never_come_again(maker).await;
    delivering_again_begins_with_the_oldest(maker).await;
    acknowledgements_have_any_order(maker).await;
    nodes_share_nothing(maker).await;
}

fn node(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

async fn soon<F: Future>(what: &str, answer: F) -> F::Output {
    match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(output) => output,
        Err(_) => panic!("no answer within {ANSWER_MAX:?}: {what}"),
    }
}

/// Orders tasks `numbers` from a node, one or two in a commit and each with a fact before it.
async fn order(
    log: &Arc<dyn EventLog>,
    node: NodeId,
    numbers: std::ops::Range<u64>,
) -> Vec<Delivery> {
    let mut ordered = Vec::new();
    for number in numbers {
        let name = format!("{node} {number}");
        let fact = StreamId::derive(StreamKind::Instance, &[&name]);
        let task = |ordinal: u64| Part {
            stream: StreamId::new(StreamKind::Task, node),
            expected: Expected::Any,
            payload: format!("{name} {ordinal}").into(),
        };
        let expected = Expected::Exact(Revision(0));
        let mut parts = vec![Part { stream: fact, expected, payload: name.clone().into() }];
        parts.extend((0..=number % 2).map(task));
        let payloads: Vec<_> = parts.iter().skip(1).map(|part| part.payload.clone()).collect();
        let commit = Commit { id: CommitId::derive(&["order", &name]), parts };
        let appended = soon("order", log.append(commit)).await.expect("tasks can be ordered");
        ordered.extend(
            (appended.first.0 + 1..)
                .zip(payloads)
                .map(|(sequence, payload)| Delivery { sequence: Sequence(sequence), payload }),
        );
    }
    ordered
}

async fn deliver(tasks: &Arc<dyn Tasks>) -> Deliveries {
    soon("deliver", tasks.deliver()).await.expect("tasks can be delivered")
}

async fn next(deliveries: &mut Deliveries, count: usize) -> Vec<Delivery> {
    let mut delivered = Vec::new();
    while delivered.len() < count {
        let delivery = soon("the next task", deliveries.next()).await;
        delivered.push(delivery.expect("it does not end").expect("it does not fail"));
    }
    delivered
}

async fn acknowledge(tasks: &Arc<dyn Tasks>, deliveries: &[Delivery]) {
    for delivery in deliveries {
        soon("acknowledge", tasks.acknowledge(delivery.sequence)).await.expect("it is taken");
    }
}

async fn done(tasks: &Arc<dyn Tasks>) -> Sequence {
    soon("done", tasks.done()).await.expect("it is known")
}

/// What was ordered before and nothing else, each once, in order, as it was ordered.
async fn own_tasks_come_in_order(maker: &dyn Maker) {
    let log = maker.log().await;
    let tasks = maker.tasks(&log, node(1)).await;
    let mut ordered = order(&log, node(1), 0..10).await;
    order(&log, node(2), 0..10).await;
    ordered.extend(order(&log, node(1), 10..20).await);
    let mut deliveries = deliver(&tasks).await;
    assert_eq!(next(&mut deliveries, ordered.len()).await, ordered);
    assert!(done(&tasks).await < ordered[0].sequence, "nothing is done with");
}

/// Who waits gets what is ordered meanwhile, acknowledged or not.
async fn later_tasks_come_when_they_are_ordered(maker: &dyn Maker) {
    let log = maker.log().await;
    let tasks = maker.tasks(&log, node(1)).await;
    let mut deliveries = deliver(&tasks).await;
    for round in 0..10 {
        let ordered = order(&log, node(1), round * 3..round * 3 + 3).await;
        let delivered = next(&mut deliveries, ordered.len()).await;
        assert_eq!(delivered, ordered);
        if round % 2 == 0 {
            acknowledge(&tasks, &delivered).await;
        }
    }
}

/// After a restart everything from the oldest task on that is not done with comes again, in order.
async fn unacknowledged_tasks_come_again(maker: &dyn Maker) {
    let log = maker.log().await;
    let mut tasks = maker.tasks(&log, node(1)).await;
    let ordered = order(&log, node(1), 0..8).await;
    let mut deliveries = deliver(&tasks).await;
    next(&mut deliveries, ordered.len()).await;
    // The third is held; the fourth is done with and may come again.
    for index in [0, 1, 3] {
        acknowledge(&tasks, &ordered[index..=index]).await;
    }
    for _ in 0..2 {
        drop(deliveries);
        tasks = maker.reopen(tasks, &log, node(1)).await;
        let at = done(&tasks).await;
        let range = ordered[1].sequence..ordered[2].sequence;
        assert!(range.contains(&at), "done up to {at}, which is not in {range:?}");
        deliveries = deliver(&tasks).await;
        let mut again = next(&mut deliveries, ordered.len() - 3).await;
        if again[1] == ordered[3] {
            again.remove(1);
            again.extend(next(&mut deliveries, 1).await);
        }
        let expected: Vec<_> = [2].into_iter().chain(4..ordered.len()).collect();
        assert_eq!(again, expected.iter().map(|&at| ordered[at].clone()).collect::<Vec<_>>());
    }
    let later = order(&log, node(1), 8..10).await;
    assert_eq!(next(&mut deliveries, later.len()).await, later);
}

/// When all is done with only what is new comes, however often the process restarts.
async fn acknowledged_tasks_never_come_again(maker: &dyn Maker) {
    let log = maker.log().await;
    let mut tasks = maker.tasks(&log, node(1)).await;
    for round in 0..4 {
        let ordered = order(&log, node(1), round * 5..round * 5 + 5).await;
        let mut deliveries = deliver(&tasks).await;
        assert_eq!(next(&mut deliveries, ordered.len()).await, ordered);
        acknowledge(&tasks, &ordered).await;
        let last = ordered.last().expect("there are some").sequence;
        let at = done(&tasks).await;
        assert!(at >= last, "done up to {at}, not to {last}");
        drop(deliveries);
        tasks = maker.reopen(tasks, &log, node(1)).await;
        assert!(done(&tasks).await >= last);
    }
}

/// Within a process too, delivering anew begins where something is left to do.
async fn delivering_again_begins_with_the_oldest(maker: &dyn Maker) {
    let log = maker.log().await;
    let tasks = maker.tasks(&log, node(1)).await;
    let ordered = order(&log, node(1), 0..6).await;
    for round in 0..3 {
        let mut deliveries = deliver(&tasks).await;
        assert_eq!(next(&mut deliveries, ordered.len() - round).await, ordered[round..]);
        acknowledge(&tasks, &ordered[round..=round]).await;
    }
}

/// Tasks end in any order; done with is only what has nothing older beside it.
async fn acknowledgements_have_any_order(maker: &dyn Maker) {
    let log = maker.log().await;
    let tasks = maker.tasks(&log, node(1)).await;
    let ordered = order(&log, node(1), 0..100).await;
    let mut deliveries = deliver(&tasks).await;
    next(&mut deliveries, ordered.len()).await;
    let mut open: BTreeSet<_> = ordered.iter().map(|delivery| delivery.sequence).collect();
    // Seven is no divisor of their number, so this visits each once.
    for step in 0..ordered.len() {
        let delivery = &ordered[step * 7 % ordered.len()];
        acknowledge(&tasks, std::slice::from_ref(delivery)).await;
        open.remove(&delivery.sequence);
        if step % 10 == 0
            && let Some(oldest) = open.first()
        {
            assert!(done(&tasks).await < *oldest);
        }
    }
    assert!(done(&tasks).await >= ordered[ordered.len() - 1].sequence);
}

/// What one node is done with is nothing to another.
async fn nodes_share_nothing(maker: &dyn Maker) {
    let log = maker.log().await;
    let (one, two) = (maker.tasks(&log, node(1)).await, maker.tasks(&log, node(2)).await);
    let (first, second) = (order(&log, node(1), 0..4).await, order(&log, node(2), 0..4).await);
    let mut deliveries = deliver(&one).await;
    assert_eq!(next(&mut deliveries, first.len()).await, first);
    acknowledge(&one, &first).await;
    let two = maker.reopen(two, &log, node(2)).await;
    let mut deliveries = deliver(&two).await;
    assert_eq!(next(&mut deliveries, second.len()).await, second);
}
