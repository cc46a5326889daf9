//! On which nodes a pool or a network is: each node makes its own part of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Generation, NodeId},
    node::Node,
    table::Table,
};

/// By node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(BTreeMap<NodeId, Part>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Of the request that the node was sent last.
    pub generation: Generation,
    pub state: PartState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartState {
    /// For the node's answer.
    Waiting,
    Ready,
    Failed(String),
}

impl Parts {
    /// Of what was asked from these nodes; from all there were if none is named.
    pub(crate) fn asked_of<'a>(
        named: impl IntoIterator<Item = &'a NodeId>,
        known: &Table<NodeId, Node>,
    ) -> Self {
        let mut parts = Self::default();
        named.into_iter().for_each(|node| parts.ask(*node, Generation(1)));
        if parts.0.is_empty() {
            known.keys().for_each(|node| parts.ask(*node, Generation(1)));
        }
        parts
    }

    pub(crate) fn ask(&mut self, node: NodeId, generation: Generation) {
        self.0.insert(node, Part { generation, state: PartState::Waiting });
    }

    pub(crate) fn ask_again(&mut self, generation: Generation) {
        let part = Part { generation, state: PartState::Waiting };
        self.0.values_mut().for_each(|it| it.clone_from(&part));
    }

    pub(crate) fn set(&mut self, node: NodeId, state: PartState) {
        if let Some(part) = self.0.get_mut(&node) {
            part.state = state;
        }
    }

    pub(crate) fn remove(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// The whole is ready: where there is one part, that is it.
    pub(crate) fn settle(&mut self) {
        if self.0.len() == 1 {
            self.0.values_mut().for_each(|part| part.state = PartState::Ready);
        }
    }

    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Part> {
        self.0.get(&node)
    }

    #[must_use]
    pub fn is_ready_on(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|part| part.state == PartState::Ready)
    }

    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + Clone {
        self.0.keys().copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Part)> {
        self.0.iter().map(|(node, part)| (*node, part))
    }

    #[must_use]
    pub fn is_one(&self) -> bool {
        self.0.len() == 1
    }
}
