//! What the query of a URL says, as far as more than one handler asks.

use std::{convert::Infallible, str::FromStr};

use axum::{extract::FromRequestParts, http::request::Parts};

use stapes_core::world::World;

use super::{fault::Fault, filter::Filter};
use crate::{client::escape, wire::ConfigMap};

/// The project of everything that names none.
pub(crate) const DEFAULT_PROJECT: &str = "default";

/// The pairs of a query, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

/// How much of each thing in a list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Recursion {
    Urls,
    Objects,
    Full,
}

/// The projects that a list is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Projects {
    One(String),
    All,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Params {
    pub(super) fn parse(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The value of a key; `None` when it is not given or empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    pub(super) fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| matches!(value, "1" | "true" | "yes" | "on"))
    }

    pub(super) fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, Fault> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let wrong = || Fault::bad_request(format!("Invalid {key} {text:?}: it is a number"));
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// `recursion=2;fields=state.disk` is LXD's; what it selects is shown like the rest.
    pub(super) fn recursion(&self) -> Recursion {
        let value = self.get("recursion").and_then(|value| value.split(';').next());
        match value {
            Some("1") => Recursion::Objects,
            Some("2") => Recursion::Full,
            Some(_) | None => Recursion::Urls,
        }
    }

    pub(super) fn project(&self) -> String {
        self.get("project").unwrap_or(DEFAULT_PROJECT).to_owned()
    }

    pub(super) fn projects(&self) -> Result<Projects, Fault> {
        match (self.is_true("all-projects"), self.get("project")) {
            (true, Some(_)) => {
                Err(Fault::bad_request("Cannot specify a project when requesting all projects"))
            }
            (true, None) => Ok(Projects::All),
            (false, _) => Ok(Projects::One(self.project())),
        }
    }

    pub(super) fn filter(&self) -> Result<Option<Filter>, Fault> {
        self.get("filter").map(Filter::parse).transpose()
    }

    /// The member, or the `@GROUP` of members, that something is asked for on.
    pub(super) fn target(&self, world: &World) -> Result<Option<String>, Fault> {
        let target = self.get("target");
        if target.is_some() && world.server.cluster.is_none() {
            // One server has no members to choose from.
            return Err(Fault::bad_request("Target only allowed when clustered")
                .hint("stapes cluster enable NAME"));
        }
        Ok(target.map(str::to_owned))
    }

    /// Whether this is the first half of the dialect's way to make a pool or a network in a cluster:
    /// once for each member (`--target`), then once for all. Here all members have the same, and the
    /// second half makes it; the first only has to be right.
    pub(super) fn for_one_member(&self, world: &World, config: &ConfigMap) -> Result<bool, Fault> {
        let Some(name) = self.target(world)? else { return Ok(false) };
        world.node(&name)?;
        match config.keys().next() {
            None => Ok(true),
            Some(key) => Err(Fault::bad_request(format!(
                "Config key {key:?} may not be used as member-specific key"
            ))
            .hint("give it without --target: it is the same on all members")),
        }
    }
}

/// The URL of a thing: `?project=` is left out for the default one.
pub(crate) fn url(segments: &[&str], project: Option<&str>) -> String {
    let path: String = segments.iter().map(|segment| format!("/{}", escape(segment))).collect();
    match project.filter(|project| *project != DEFAULT_PROJECT) {
        Some(project) => format!("/1.0{path}?project={}", escape(project)),
        None => format!("/1.0{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recursion_is_read_through_lxds_fields() {
        let recursion = |query| Params::parse(query).recursion();
        assert_eq!(recursion("recursion=2%3Bfields%3Dstate.disk"), Recursion::Full);
        assert_eq!(recursion("recursion=2;fields=state.disk"), Recursion::Full);
        assert_eq!(recursion("recursion=1"), Recursion::Objects);
        assert_eq!(recursion(""), Recursion::Urls);
    }

    #[test]
    fn one_project_or_all_of_them() {
        assert_eq!(Params::parse("").projects().unwrap(), Projects::One("default".into()));
        assert_eq!(Params::parse("all-projects=true").projects().unwrap(), Projects::All);
        assert_eq!(
            Params::parse("all-projects=true&project=a").projects().unwrap_err().status,
            400
        );
    }

    #[test]
    fn the_default_project_is_not_in_urls() {
        assert_eq!(url(&["instances", "a b"], Some("default")), "/1.0/instances/a%20b");
        assert_eq!(url(&["instances", "a"], Some("p")), "/1.0/instances/a?project=p");
    }
}
