//! Names of things as they are typed: `[local:]web`, `web/snap0`, `net/br0`, `vol/pool/data`.

use stapes_api::client::escape;

use crate::failure::{Failure, Result};

/// Incus's name for the daemon on this machine.
const LOCAL: &str = "local";

/// Takes `local:` off.
pub(crate) fn local(text: &str) -> Result<&str> {
    match text.split_once(':') {
        None => Ok(text),
        Some((LOCAL, name)) => Ok(name),
        Some((remote, _)) => Err(Failure::usage(format!("there is no remote `{remote}`"))
            .fact("This client speaks to the daemon whose directory is $STAPES_DIR.")
            .hint("export STAPES_DIR=/var/lib/stapes")),
    }
}

/// An instance's name, or an instance's and a snapshot's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceOrSnapshot {
    pub(crate) instance: String,
    pub(crate) snapshot: Option<String>,
}

pub(crate) fn instance_or_snapshot(text: &str) -> Result<InstanceOrSnapshot> {
    let name = local(text)?;
    let (instance, snapshot) = match name.split_once('/') {
        Some((instance, snapshot)) => (instance, Some(snapshot)),
        None => (name, None),
    };
    if instance.is_empty() || snapshot == Some("") {
        return Err(Failure::usage(format!("`{text}` is not a name: write web, or web/snap0")));
    }
    let snapshot = snapshot.map(str::to_owned);
    Ok(InstanceOrSnapshot { instance: instance.to_owned(), snapshot })
}

/// An image: an alias, or a fingerprint's first digits. The daemon asks no image server, so `images:`,
/// Incus's name for its public one, means what was built or imported here under the same alias.
pub(crate) fn image(text: &str) -> Result<&str> {
    text.strip_prefix("images:").map_or_else(|| local(text), Ok)
}

/// Anything that has a history: what `log`, `show`, `why` … are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// The pool of a volume, the instance of a snapshot.
    pub(crate) parent: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Instance,
    Snapshot,
    Image,
    Network,
    Pool,
    Volume,
    Profile,
    Project,
    Node,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Snapshot => "snapshot",
            Self::Image => "image",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Volume => "volume",
            Self::Profile => "profile",
            Self::Project => "project",
            Self::Node => "node",
        }
    }

    fn from_prefix(prefix: &str) -> Option<Self> {
        Some(match prefix {
            "inst" | "instance" => Self::Instance,
            "snap" | "snapshot" => Self::Snapshot,
            "image" => Self::Image,
            "net" | "network" => Self::Network,
            "pool" | "storage" => Self::Pool,
            "vol" | "volume" => Self::Volume,
            "profile" => Self::Profile,
            "project" => Self::Project,
            "node" => Self::Node,
            _ => return None,
        })
    }
}

impl Resource {
    /// Without a prefix it is an instance; `web/snap0` is a snapshot of one.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let typed = local(text)?;
        let prefixed = typed
            .split_once('/')
            .and_then(|(prefix, rest)| Kind::from_prefix(prefix).map(|kind| (kind, rest)));
        let (kind, rest) = match prefixed {
            Some(found) => found,
            None if typed.contains('/') => (Kind::Snapshot, typed),
            None => (Kind::Instance, typed),
        };
        let (parent, name) = match (kind, rest.split_once('/')) {
            (Kind::Volume | Kind::Snapshot, Some((parent, name))) => (Some(parent), name),
            (Kind::Volume | Kind::Snapshot, None) => (None, ""),
            _ => (None, rest),
        };
        if name.is_empty() || parent == Some("") {
            return Err(Failure::usage(format!("`{text}` does not name anything")).fact(
                "Write web, web/snap0, net/br0, pool/default, vol/default/data, profile/default, \
                 project/blue, image/FINGERPRINT or node/n1.",
            ));
        }
        Ok(Self { kind, name: name.to_owned(), parent: parent.map(str::to_owned) })
    }

    /// As the log names it.
    pub(crate) fn log_name(&self) -> String {
        match &self.parent {
            Some(parent) => format!("{}/{parent}/{}", self.kind.as_str(), self.name),
            None => format!("{}/{}", self.kind.as_str(), self.name),
        }
    }

    /// As it is typed.
    pub(crate) fn typed(&self) -> String {
        if self.kind == Kind::Instance { self.name.clone() } else { self.log_name() }
    }

    /// Its URL's path.
    pub(crate) fn path(&self) -> String {
        let name = escape(&self.name);
        let parent = escape(self.parent.as_deref().unwrap_or_default());
        match self.kind {
            Kind::Instance => format!("/1.0/instances/{name}"),
            Kind::Snapshot => format!("/1.0/instances/{parent}/snapshots/{name}"),
            Kind::Image => format!("/1.0/images/{name}"),
            Kind::Network => format!("/1.0/networks/{name}"),
            Kind::Pool => format!("/1.0/storage-pools/{name}"),
            Kind::Volume => format!("/1.0/storage-pools/{parent}/volumes/custom/{name}"),
            Kind::Profile => format!("/1.0/profiles/{name}"),
            Kind::Project => format!("/1.0/projects/{name}"),
            Kind::Node => format!("/1.0/cluster/members/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_incus_writes_them() {
        assert_eq!(local("local:web").unwrap(), "web");
        assert!(local("prod:web").is_err());
        let named = instance_or_snapshot("web/s0").unwrap();
        assert_eq!((named.instance.as_str(), named.snapshot.as_deref()), ("web", Some("s0")));
        assert!(instance_or_snapshot("web/").is_err());
        assert_eq!(image("local:alpine/3.20").unwrap(), "alpine/3.20");
        assert_eq!(image("images:debian/12").unwrap(), "debian/12");
        assert!(image("prod:debian/12").is_err());
    }

    #[test]
    fn a_resource_knows_its_log_name_and_its_url() {
        let cases = [
            ("web", "instance/web", "/1.0/instances/web"),
            ("web/s0", "snapshot/web/s0", "/1.0/instances/web/snapshots/s0"),
            ("net/br0", "network/br0", "/1.0/networks/br0"),
            (
                "vol/default/a b",
                "volume/default/a b",
                "/1.0/storage-pools/default/volumes/custom/a%20b",
            ),
            ("profile/default", "profile/default", "/1.0/profiles/default"),
        ];
        for (text, log_name, path) in cases {
            let resource = Resource::parse(text).unwrap();
            assert_eq!((resource.log_name().as_str(), resource.path().as_str()), (log_name, path));
        }
        for bad in ["", "vol/data", "net/", "web/"] {
            assert!(Resource::parse(bad).is_err(), "{bad}");
        }
    }
}
