//! What all configurable things have in common: `show`, `get`, `set`, `unset`, `edit`, `rename`,
//! `delete`. A change reads, alters and writes back under the ETag that it read, so that nobody's
//! change in between is overwritten.

mod delete;
mod edit;
mod get;
mod rename;
mod set;
mod show;

pub(crate) use delete::delete;
pub(crate) use edit::edit;
pub(crate) use get::get;
pub(crate) use rename::rename;
pub(crate) use set::{set, unset};
pub(crate) use show::show;

use serde_json::{Map, Value};
use stapes_api::client::{Method, escape};

use crate::{
    exit::ExitStatus,
    failure::{Failure, Result},
    operation::{Outcome, follow_answer},
    session::Session,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noun {
    Instance,
    Snapshot,
    Profile,
    Project,
    Network,
    Pool,
    Volume,
    Image,
    Server,
    Member,
    Group,
}

impl Noun {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Snapshot => "snapshot",
            Self::Profile => "profile",
            Self::Project => "project",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Volume => "volume",
            Self::Image => "image",
            Self::Server => "server",
            Self::Member => "member",
            Self::Group => "cluster group",
        }
    }

    /// The fields that may be written back.
    const fn writable(self) -> &'static [&'static str] {
        match self {
            Self::Instance => &[
                "architecture",
                "config",
                "devices",
                "ephemeral",
                "profiles",
                "stateful",
                "description",
            ],
            Self::Snapshot => &["expires_at"],
            Self::Profile => &["config", "description", "devices"],
            Self::Project | Self::Network | Self::Pool | Self::Volume => &["config", "description"],
            Self::Image => &["auto_update", "properties", "public", "expires_at", "profiles"],
            Self::Server => &["config"],
            Self::Member => &["roles", "failure_domain", "description", "config", "groups"],
            Self::Group => &["description", "members"],
        }
    }

    /// The field that `get`, `set` and `unset` are about.
    const fn keys(self) -> &'static str {
        if matches!(self, Self::Image) { "properties" } else { "config" }
    }
}

/// One thing, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) noun: Noun,
    pub(crate) name: String,
    pub(crate) path: String,
}

impl Object {
    pub(crate) fn new(noun: Noun, name: &str, path: String) -> Self {
        Self { noun, name: name.to_owned(), path }
    }

    pub(crate) fn instance(name: &str) -> Result<Self> {
        let name = crate::name::local(name)?;
        Ok(Self::new(Noun::Instance, name, format!("/1.0/instances/{}", escape(name))))
    }

    pub(crate) fn snapshot(instance: &str, snapshot: &str) -> Self {
        let path = format!("/1.0/instances/{}/snapshots/{}", escape(instance), escape(snapshot));
        Self::new(Noun::Snapshot, &format!("{instance}/{snapshot}"), path)
    }

    pub(crate) fn profile(name: &str) -> Result<Self> {
        let name = crate::name::local(name)?;
        Ok(Self::new(Noun::Profile, name, format!("/1.0/profiles/{}", escape(name))))
    }

    pub(crate) fn project(name: &str) -> Result<Self> {
        let name = crate::name::local(name)?;
        Ok(Self::new(Noun::Project, name, format!("/1.0/projects/{}", escape(name))))
    }

    pub(crate) fn network(name: &str) -> Result<Self> {
        let name = crate::name::local(name)?;
        Ok(Self::new(Noun::Network, name, format!("/1.0/networks/{}", escape(name))))
    }

    pub(crate) fn pool(name: &str) -> Result<Self> {
        let name = crate::name::local(name)?;
        Ok(Self::new(Noun::Pool, name, format!("/1.0/storage-pools/{}", escape(name))))
    }

    pub(crate) fn image(name: &str) -> Result<Self> {
        let name = crate::name::local(name)?;
        Ok(Self::new(Noun::Image, name, format!("/1.0/images/{}", escape(name))))
    }

    pub(crate) fn member(name: &str) -> Result<Self> {
        let name = crate::name::local(name)?;
        Ok(Self::new(Noun::Member, name, format!("/1.0/cluster/members/{}", escape(name))))
    }

    pub(crate) fn group(name: &str) -> Result<Self> {
        let name = crate::name::local(name)?;
        Ok(Self::new(Noun::Group, name, format!("/1.0/cluster/groups/{}", escape(name))))
    }

    pub(crate) fn server() -> Self {
        Self::new(Noun::Server, "", "/1.0".to_owned())
    }

    /// `instance web`.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.noun.as_str(), self.name).trim_end().to_owned()
    }

    pub(crate) async fn read(&self, session: &Session) -> Result<Value> {
        self.explain(session, session.value(&self.path).await).await
    }

    async fn read_with_etag(&self, session: &Session) -> Result<(Value, Option<String>)> {
        self.explain(session, session.value_with_etag(&self.path).await).await
    }

    /// Writes back under the ETag of what was read.
    async fn write(&self, session: &Session, body: &Value, etag: Option<&str>) -> Result<Outcome> {
        let answer = session.send(Method::PUT, &self.path, body, etag).await?;
        follow_answer(session, answer, &format!("updating {}", self.title())).await
    }

    /// What may be written of what was read.
    pub(crate) fn writable(&self, object: &Value) -> Value {
        let fields = self.noun.writable().iter();
        let kept = fields.filter_map(|field| {
            object.get(*field).map(|value| ((*field).to_owned(), value.clone()))
        });
        Value::Object(kept.collect())
    }

    /// Reads, lets `change` alter the writable part, and writes it back.
    pub(crate) async fn alter(
        &self,
        session: &Session,
        change: impl FnOnce(&mut Map<String, Value>) -> Result<()>,
    ) -> Result<Outcome> {
        let (object, etag) = self.read_with_etag(session).await?;
        let Value::Object(mut body) = self.writable(&object) else {
            return Err(Failure::protocol(format!("{} is no object", self.title())));
        };
        change(&mut body)?;
        self.write(session, &Value::Object(body), etag.as_deref()).await
    }

    /// Names the nearest that there are when this one is not there.
    pub(crate) async fn explain<T>(&self, session: &Session, read: Result<T>) -> Result<T> {
        match read {
            Err(failure) if failure.exit() == ExitStatus::NotFound => {
                Err(missing(session, self, failure).await)
            }
            other => other,
        }
    }
}

/// The failure with the names that were perhaps meant.
async fn missing(session: &Session, object: &Object, failure: Failure) -> Failure {
    let failure = failure.effect("Nothing was changed.");
    // What is not there may be something else: a snapshot of the instance, the project.
    let not_found = format!("{} not found", object.noun.as_str());
    if !failure.message().to_lowercase().ends_with(&not_found) {
        return failure;
    }
    let (list, hint) = match object.noun {
        Noun::Instance => ("/1.0/instances", "stapes list"),
        Noun::Profile => ("/1.0/profiles", "stapes profile list"),
        Noun::Project => ("/1.0/projects", "stapes project list"),
        Noun::Network => ("/1.0/networks", "stapes network list"),
        Noun::Pool => ("/1.0/storage-pools", "stapes storage list"),
        Noun::Image => ("/1.0/images/aliases", "stapes image list"),
        Noun::Member => ("/1.0/cluster/members", "stapes cluster list"),
        Noun::Group => ("/1.0/cluster/groups", "stapes cluster group list"),
        Noun::Snapshot | Noun::Volume | Noun::Server => return failure,
    };
    let asked =
        tokio::time::timeout(crate::session::COURTESY, session.client.get::<Vec<String>>(list));
    let urls = asked.await.ok().and_then(std::result::Result::ok).unwrap_or_default();
    let names: Vec<&str> = urls.iter().map(|url| last_segment(url)).collect();
    let nearest = crate::suggest::nearest(&object.name, names.iter().copied());
    let named = Failure::new(
        ExitStatus::NotFound,
        failure.code(),
        format!("there is no {} `{}`", object.noun.as_str(), object.name),
    );
    let named = named.fact(format!("The daemon says: {}", failure.message()));
    let named = match nearest.as_slice() {
        [] => named,
        near => named.fact(format!("Did you mean {}?", near.join(", "))),
    };
    let named = if object.noun == Noun::Instance {
        named.hint(format!("stapes log {}    (was it deleted?)", object.name))
    } else {
        named
    };
    named.hint(hint).effect("Nothing was changed.")
}

pub(crate) fn last_segment(url: &str) -> &str {
    let path = url.split('?').next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}
