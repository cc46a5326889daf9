//! What things were called when: the names that records carry only by id.
//!
//! Folded record by record, in the order of the log. It forgets nothing, because a record may be
//! about a thing that is gone; a hundred bytes for each thing that ever was.

use std::collections::HashMap;

use stapes_core::{
    event::Event,
    ids::{ProjectId, StreamId, StreamKind},
    image, instance, name, network, node, operation, pool, profile, project,
    record::{Body, Recorded},
    volume,
};
use uuid::Uuid;

use crate::backend::Subject;

#[derive(Clone, Debug, Default)]
pub struct Naming {
    names: HashMap<StreamId, (Option<ProjectId>, String)>,
    projects: HashMap<Uuid, String>,
}

impl Naming {
    /// What the record is about, by the names that hold after it.
    pub fn subject(&mut self, recorded: &Recorded) -> Subject {
        let stream = recorded.stream;
        if let Body::Events(events) = &recorded.record.body {
            for event in events {
                self.learn(stream, event);
            }
        }
        let (project, name) = match self.names.get(&stream) {
            Some((project, name)) => (*project, name.clone()),
            None => (None, String::new()),
        };
        let project = project.map(|id| self.project(id));
        Subject { kind: stream.kind, id: stream.id, project, name }
    }

    /// Knows the projects alone: for the records of one stream, which name the rest themselves.
    #[must_use]
    pub fn of_projects(&self) -> Self {
        Self { names: HashMap::new(), projects: self.projects.clone() }
    }

    fn project(&self, id: ProjectId) -> String {
        self.projects.get(&id.0).cloned().unwrap_or_else(|| id.to_string())
    }

    fn learn(&mut self, stream: StreamId, event: &Event) {
        match event {
            Event::Instance(instance::Event::Created(created)) => {
                self.set(stream, Some(created.project), &created.name);
            }
            Event::Instance(instance::Event::Renamed { to, .. }) => self.rename(stream, to),
            Event::Project(event) => self.learn_project(stream, event),
            Event::Profile(profile::Event::Created { project, name, .. }) => {
                self.set(stream, Some(*project), name);
            }
            Event::Profile(profile::Event::Renamed { to, .. }) => self.rename(stream, to),
            Event::Network(network::Event::Created { project, name, .. }) => {
                self.set(stream, Some(*project), name);
            }
            Event::Pool(pool::Event::Created { name, .. }) => self.set(stream, None, name),
            Event::Volume(volume::Event::Created { project, name, pool, .. }) => {
                let pool = self.names.get(&StreamId::new(StreamKind::Pool, *pool));
                let pool = pool.map_or("", |(_, name)| name.as_str());
                let name = format!("{pool}/{name}");
                self.set(stream, Some(*project), &name);
            }
            Event::Volume(volume::Event::Renamed { to, .. }) => {
                let known = self.names.get(&stream).and_then(|(_, name)| name.split_once('/'));
                let name = format!("{}/{to}", known.map_or("", |(pool, _)| pool));
                self.rename(stream, &name);
            }
            Event::Image(image::Event::Imported { project, facts, .. }) => {
                self.set(stream, Some(*project), facts.fingerprint.as_str());
            }
            Event::Operation(operation::Event::Accepted { operation, project, .. }) => {
                self.set(stream, Some(*project), &operation.to_string());
            }
            Event::Node(node::Event::Started { name, .. }) => self.set(stream, None, name),
            Event::Name(name::Event::Reserved { name, .. } | name::Event::Released { name }) => {
                let project = self.projects.contains_key(&name.scope);
                let project = project.then_some(ProjectId(name.scope));
                self.set(stream, project, &name.name);
            }
            // What neither gives a name nor changes one.
            Event::Server(_)
            | Event::Instance(_)
            | Event::Profile(_)
            | Event::Network(_)
            | Event::Pool(_)
            | Event::Volume(_)
            | Event::Image(_)
            | Event::Operation(_) => {}
        }
    }

    fn learn_project(&mut self, stream: StreamId, event: &project::Event) {
        let name = match event {
            project::Event::Created { name, .. } => name,
            project::Event::Renamed { to, .. } => to,
            project::Event::Configured { .. } | project::Event::Deleted => return,
        };
        self.projects.insert(stream.id, name.clone());
        self.set(stream, None, name);
    }

    fn set(&mut self, stream: StreamId, project: Option<ProjectId>, name: &str) {
        self.names.insert(stream, (project, name.to_owned()));
    }

    fn rename(&mut self, stream: StreamId, to: &str) {
        if let Some((_, name)) = self.names.get_mut(&stream) {
            to.clone_into(name);
        }
    }
}
