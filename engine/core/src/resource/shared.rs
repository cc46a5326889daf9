//! What has a part on every node: a request goes to all of them and is over when all that are
//! online have answered.

use super::{Facts, Part, PartState, Parts, Progress, Status, answer, incarnation};
use crate::{
    decision::{Context, Decision},
    event::Event,
    ids::{NodeId, StreamId},
    network::{self, Network},
    operation::{Gain, Verb},
    pool::{self, Pool},
    rejection::{Noun, Rejection},
    task::{Report, Subject, Work},
    world::{World, missing},
};

/// Pools and networks that a node is asked for in one decision at most.
const PREPARED_MAX: usize = 200;

/// A pool or a network, as far as its parts are concerned.
pub(crate) struct Shared<'a> {
    pub stream: StreamId,
    pub subject: Subject,
    pub progress: &'a Progress,
    pub parts: &'a Parts,
    /// How its part is made, and removed.
    pub ensure: Work,
    pub remove: Work,
}

/// The facts about a part, in the words of one noun.
pub(crate) struct SharedFacts {
    pub whole: Facts,
    pub verb: Verb,
    pub asked: fn(NodeId, crate::ids::Generation) -> Event,
    pub ready: fn(NodeId) -> Event,
    pub failed: fn(NodeId, String) -> Event,
    pub gone: fn(NodeId) -> Event,
}

/// Orders the work of a request from these nodes.
pub(crate) fn order_all(
    decision: &mut Decision,
    context: &Context,
    nodes: impl IntoIterator<Item = NodeId>,
    subject: &Subject,
    progress: &Progress,
    work: &Work,
) {
    for node in nodes {
        super::order(decision, context, node, subject.clone(), progress, work.clone());
    }
}

/// What one node made of its part.
pub(crate) fn report_shared(
    world: &World,
    context: &Context,
    it: &Shared<'_>,
    facts: &SharedFacts,
    report: &Report,
) -> Decision {
    let mut decision = Decision::for_context(context);
    let node = report.node;
    let known = it.parts.get(node).filter(|part| part.state == PartState::Waiting);
    let is_due = known.is_some_and(|part| incarnation(part.generation) == report.incarnation);
    let (true, Some(answer)) = (is_due, answer(report)) else { return decision };
    if let Some(operation) = it.progress.operation {
        decision.answer.operation = operation;
    }
    match (answer, it.progress.status) {
        (Ok(()), Status::Creating | Status::Changing | Status::Deleting) => {
            if !it.parts.is_one() {
                let part = if it.progress.status == Status::Deleting {
                    (facts.gone)(node)
                } else {
                    (facts.ready)(node)
                };
                decision.record(it.stream, part);
            }
            if !is_awaited(world, it.parts, node) {
                finish(&mut decision, it, &facts.whole);
            }
        }
        (Ok(()), Status::Ready) => decision.record(it.stream, (facts.ready)(node)),
        (Err(error), Status::Ready) => {
            decision.record(it.stream, (facts.failed)(node, error.to_owned()));
        }
        (Err(error), Status::Creating | Status::Changing | Status::Deleting) => {
            fail(world, context, &mut decision, it, facts, (node, error));
        }
    }
    decision
}

/// Whether an online node besides `but` has still to answer.
fn is_awaited(world: &World, parts: &Parts, but: NodeId) -> bool {
    parts.iter().any(|(node, part)| {
        node != but
            && part.state == PartState::Waiting
            && world.nodes.get(&node).is_some_and(crate::node::Node::is_online)
    })
}

/// All that count have answered.
fn finish(decision: &mut Decision, it: &Shared<'_>, facts: &Facts) {
    if it.progress.status == Status::Deleting {
        facts.gone(decision, it.stream);
    } else {
        decision.record(it.stream, facts.ready.clone());
    }
    if let Some(operation) = it.progress.operation {
        decision.succeed(operation, Gain::Nothing);
    }
}

/// What could not be made on one node is undone on the others.
fn fail(
    world: &World,
    context: &Context,
    decision: &mut Decision,
    it: &Shared<'_>,
    facts: &SharedFacts,
    (node, error): (NodeId, &str),
) {
    let name = world.nodes.get(&node).map_or("", |node| node.name.as_str());
    let told =
        if it.parts.is_one() { error.to_owned() } else { format!("Member {name:?}: {error}") };
    if !it.parts.is_one() {
        decision.record(it.stream, (facts.failed)(node, error.to_owned()));
    }
    decision.record(it.stream, (facts.whole.failed)(facts.verb, told.clone()));
    if it.progress.status == Status::Deleting {
        // The others remove their parts all the same.
        let waiting = |(_, part): &(NodeId, &Part)| part.state == PartState::Waiting;
        for (other, _) in it.parts.iter().filter(waiting).filter(|(other, _)| *other != node) {
            decision.record(it.stream, (facts.gone)(other));
        }
    }
    if it.progress.status == Status::Creating {
        let mut progress = *it.progress;
        progress.generation = progress.generation.next();
        let others = it.parts.nodes().filter(|other| *other != node);
        order_all(decision, context, others, &it.subject, &progress, &it.remove);
        facts.whole.gone(decision, it.stream);
    }
    if let Some(operation) = it.progress.operation {
        decision.fail(operation, told);
    }
}

/// A node is lost or removed: what waited for nobody else is over.
pub(crate) fn settle_without(world: &World, decision: &mut Decision, node: NodeId) {
    let mut settle = |it: &Shared<'_>, facts: &SharedFacts| {
        let waits = it.progress.operation.is_some()
            && it.parts.get(node).is_some_and(|part| part.state == PartState::Waiting);
        let others = it.parts.iter().any(|(other, part)| {
            other != node
                && (part.state == PartState::Ready || it.progress.status == Status::Deleting)
        });
        if waits && others && !is_awaited(world, it.parts, node) {
            finish(decision, it, &facts.whole);
        }
    };
    for pool in world.pools.values() {
        settle(&pool.shared(), &pool::facts(pool));
    }
    for network in world.networks.values() {
        settle(&network.shared(), &network::facts(network));
    }
}

/// Whether the node was never asked for some pool or network. What it failed to make is asked for
/// again only when its daemon starts, or that would never end.
#[must_use]
pub fn lacks(world: &World, node: NodeId) -> bool {
    let lacks = |parts: &Parts, progress: &Progress| {
        parts.get(node).is_none() && progress.status != Status::Deleting
    };
    world.nodes.contains_key(&node)
        && (world.pools.values().any(|pool| lacks(&pool.parts, &pool.progress))
            || world.networks.values().any(|it| lacks(&it.parts, &it.progress)))
}

/// Whether some pool or network waits for the node's answer.
#[must_use]
pub fn awaits(world: &World, node: NodeId) -> bool {
    let awaits =
        |parts: &Parts| parts.get(node).is_some_and(|part| part.state == PartState::Waiting);
    world.pools.values().any(|pool| awaits(&pool.parts))
        || world.networks.values().any(|network| awaits(&network.parts))
}

/// Asks a node for the pools and networks that it was not asked for, or failed to make: when it is
/// new, and when its daemon starts. Nothing when it has all; else there may be more to ask for.
///
/// # Errors
/// When there is no such node.
pub fn prepare(world: &World, context: &Context, node: NodeId) -> Result<Decision, Rejection> {
    if !world.nodes.contains_key(&node) {
        return Err(missing(Noun::Node, &node.to_string()));
    }
    let mut decision = Decision::for_context(context);
    let pools = world.pools.values().map(|pool: &Pool| (pool.shared(), pool::facts(pool)));
    let networks = world.networks.values().map(|it: &Network| (it.shared(), network::facts(it)));
    let lacks = |(it, _): &(Shared<'_>, SharedFacts)| {
        let part = it.parts.get(node);
        let lacks = part.is_none_or(|Part { state, .. }| matches!(state, PartState::Failed(_)));
        lacks && it.progress.status != Status::Deleting
    };
    for (it, facts) in pools.chain(networks).filter(lacks).take(PREPARED_MAX) {
        // A request of its own, so that the node does not answer with how it failed before.
        let mut progress = *it.progress;
        progress.generation = progress.generation.next();
        decision.record(it.stream, (facts.asked)(node, progress.generation));
        super::order(&mut decision, context, node, it.subject, &progress, it.ensure);
    }
    Ok(decision)
}
