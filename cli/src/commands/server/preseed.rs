//! What `init` makes, as Incus's preseed writes it; each part is one API call, and what is there
//! already is altered instead of made again, so that the same preseed can be applied twice.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stapes_api::{
    client::{Method, escape},
    wire::{ConfigMap, DevicesMap},
};

use crate::{
    failure::{Failure, Result},
    operation::submit,
    session::Session,
};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Preseed {
    pub(crate) config: ConfigMap,
    pub(crate) networks: Vec<Part>,
    pub(crate) storage_pools: Vec<Part>,
    pub(crate) storage_volumes: Vec<Part>,
    pub(crate) profiles: Vec<Part>,
    pub(crate) projects: Vec<Part>,
    /// What Incus's preseeds may have and this daemon has not: named, not silently dropped.
    #[serde(flatten, skip_serializing)]
    pub(crate) unknown: serde_json::Map<String, Value>,
}

/// Any of the things that a preseed lists.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Part {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) driver: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) pool: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) project: String,
    pub(crate) config: ConfigMap,
    #[serde(skip_serializing_if = "DevicesMap::is_empty")]
    pub(crate) devices: DevicesMap,
}

/// A list of the API and what its parts are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Projects,
    Pools,
    Networks,
    Volumes,
    Profiles,
}

impl Section {
    const fn noun(self) -> &'static str {
        match self {
            Self::Projects => "project",
            Self::Pools => "pool",
            Self::Networks => "network",
            Self::Volumes => "volume",
            Self::Profiles => "profile",
        }
    }

    fn list(self, part: &Part) -> String {
        match self {
            Self::Projects => "/1.0/projects".to_owned(),
            Self::Pools => "/1.0/storage-pools".to_owned(),
            Self::Networks => "/1.0/networks".to_owned(),
            Self::Volumes => format!("/1.0/storage-pools/{}/volumes/custom", escape(&part.pool)),
            Self::Profiles => "/1.0/profiles".to_owned(),
        }
    }
}

pub(crate) async fn apply(session: &Session, preseed: Preseed) -> Result<()> {
    let unknown: Vec<&String> = preseed
        .unknown
        .iter()
        .filter(|(_, value)| !value.is_null() && **value != json!([]) && **value != json!({}))
        .map(|(key, _)| key)
        .collect();
    if let [first, ..] = unknown.as_slice() {
        return Err(Failure::usage(format!("the preseed's `{first}` is not known to this daemon"))
            .fact("Known: config, storage_pools, networks, projects, storage_volumes, profiles."));
    }
    if !preseed.config.is_empty() {
        let body = json!({ "config": preseed.config });
        submit(session, Method::PATCH, "/1.0", &body, "setting the server's configuration").await?;
    }
    let sections = [
        (Section::Pools, preseed.storage_pools),
        (Section::Networks, preseed.networks),
        (Section::Projects, preseed.projects),
        (Section::Volumes, preseed.storage_volumes),
        (Section::Profiles, preseed.profiles),
    ];
    for (section, parts) in sections {
        for part in parts {
            make(session, section, &part).await?;
        }
    }
    Ok(())
}

async fn make(session: &Session, section: Section, part: &Part) -> Result<()> {
    if part.name.is_empty() {
        return Err(Failure::usage(format!("a {} of the preseed has no name", section.noun())));
    }
    let project = if part.project.is_empty() { &session.settings.project } else { &part.project };
    let list = section.list(part);
    let one = format!("{list}/{}?project={}", escape(&part.name), escape(project));
    let mut body = serde_json::to_value(part)
        .map_err(|error| Failure::local("cannot write the request", &error))?;
    if let Some(fields) = body.as_object_mut() {
        fields.remove("pool");
        fields.remove("project");
    }
    let title = format!("{} {}", section.noun(), part.name);
    if session.client.get::<Value>(&one).await.is_ok() {
        submit(session, Method::PATCH, &one, &body, &format!("altering {title}")).await?;
        session.printer.say(&format!("{title} is as the preseed says"));
    } else {
        let path = format!("{list}?project={}", escape(project));
        submit(session, Method::POST, &path, &body, &format!("making {title}")).await?;
        session.printer.say(&format!("{title} is made"));
    }
    Ok(())
}

/// What is there, as a preseed that makes it again.
pub(crate) async fn dump(session: &Session) -> Result<Preseed> {
    let read = |path: &'static str| async move {
        let values = session.values(path).await?;
        values.into_iter().map(part).collect::<Result<Vec<Part>>>()
    };
    let server: stapes_api::wire::server::Server = session.get("/1.0").await?;
    let mut networks = Vec::new();
    for value in session.values("/1.0/networks?recursion=1").await? {
        if value.get("managed") == Some(&Value::Bool(true)) {
            networks.push(part(value)?);
        }
    }
    Ok(Preseed {
        config: server.config,
        networks,
        storage_pools: read("/1.0/storage-pools?recursion=1").await?,
        profiles: read("/1.0/profiles?recursion=1").await?,
        projects: read("/1.0/projects?recursion=1").await?,
        ..Preseed::default()
    })
}

fn part(value: Value) -> Result<Part> {
    let mut part: Part = serde_json::from_value(value)
        .map_err(|error| Failure::protocol("an object cannot be read").cause(&error))?;
    part.config.retain(|key, _| !key.starts_with("volatile."));
    Ok(part)
}
