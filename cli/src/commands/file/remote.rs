//! A file inside an instance, as the API gives and takes it.

use serde_json::Value;
use stapes_api::client::{Download, Method, escape};

use crate::{
    args::file::OwnerArgs,
    commands::object::Object,
    failure::{Failure, Result},
    name,
    session::Session,
};

/// `web/etc/hosts`: an instance and an absolute path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemotePath {
    pub(crate) instance: String,
    pub(crate) path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        match text {
            "file" | "" => Ok(Self::File),
            "directory" => Ok(Self::Directory),
            "symlink" => Ok(Self::Symlink),
            _ => Err(Failure::protocol(format!("a file of the unknown type `{text}`"))),
        }
    }
}

impl RemotePath {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (instance, path) = name::local(text)?
            .split_once('/')
            .filter(|(instance, _)| !instance.is_empty())
            .ok_or_else(|| {
                Failure::usage(format!("`{text}` is not INSTANCE/PATH, as in web/etc/hosts"))
            })?;
        Ok(Self { instance: instance.to_owned(), path: format!("/{path}") })
    }

    pub(crate) fn join(&self, name: &str) -> Self {
        let path = format!("{}/{name}", self.path.trim_end_matches('/'));
        Self { instance: self.instance.clone(), path }
    }

    /// The last part of the path; empty for the root.
    pub(crate) fn file_name(&self) -> &str {
        self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn is_directory_like(&self) -> bool {
        self.path.ends_with('/')
    }

    pub(crate) fn url(&self) -> String {
        let (instance, path) = (escape(&self.instance), escape(&self.path));
        format!("/1.0/instances/{instance}/files?path={path}")
    }
}

/// A file on its way out of the instance.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) body: Download,
}

impl Found {
    /// The names in a directory.
    pub(crate) async fn names(self) -> Result<Vec<String>> {
        let bytes = self.body.bytes().await?;
        let envelope: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::protocol("a directory cannot be read").cause(&error))?;
        let names = envelope.get("metadata").cloned().unwrap_or_default();
        serde_json::from_value(names)
            .map_err(|error| Failure::protocol("a directory cannot be read").cause(&error))
    }

    pub(crate) async fn bytes(self) -> Result<Vec<u8>> {
        Ok(self.body.bytes().await?.to_vec())
    }
}

pub(crate) async fn get(session: &Session, file: &RemotePath) -> Result<Found> {
    session.trace("GET", &file.url());
    let got = session.client.download(&file.url()).await.map_err(Failure::from);
    let body = match got {
        // The instance may be what is not there; it says so itself if it is.
        Err(failure) if failure.exit() == crate::exit::ExitStatus::NotFound => {
            Object::instance(&file.instance)?.read(session).await?;
            return Err(failure.fact(format!("{}{}", file.instance, file.path)));
        }
        other => other?,
    };
    let header = |name: &str| body.header(name).unwrap_or_default().to_owned();
    let kind = Kind::parse(&header("x-incus-type"))?;
    let mode = u32::from_str_radix(&header("x-incus-mode"), 8).unwrap_or(0o644);
    Ok(Found { kind, mode, body })
}

/// Makes a file, a directory or a symlink; the body of the last is its target.
pub(crate) async fn put(
    session: &Session,
    file: &RemotePath,
    kind: Kind,
    body: Vec<u8>,
    owner: &OwnerArgs,
) -> Result<()> {
    session.trace("POST", &file.url());
    let mut headers =
        vec![("x-incus-type", kind.as_str().to_owned()), ("x-incus-write", "overwrite".to_owned())];
    headers.extend(owner.uid.map(|uid| ("x-incus-uid", uid.to_string())));
    headers.extend(owner.gid.map(|gid| ("x-incus-gid", gid.to_string())));
    if let Some(mode) = &owner.mode {
        let parsed = u32::from_str_radix(mode, 8).map_err(|_| {
            Failure::usage(format!("`{mode}` is no mode: write it in octal, as 0644"))
        })?;
        headers.push(("x-incus-mode", format!("{parsed:04o}")));
    }
    headers.push(("content-type", "application/octet-stream".to_owned()));
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    session.client.send_bytes(Method::POST, &file.url(), body, &headers).await?;
    Ok(())
}

/// Makes the directories that are missing above it.
pub(crate) async fn make_parents(session: &Session, file: &RemotePath) -> Result<()> {
    let parts: Vec<&str> = file.path.split('/').filter(|part| !part.is_empty()).collect();
    let mut place = RemotePath { instance: file.instance.clone(), path: "/".to_owned() };
    let owner = OwnerArgs { uid: Some(0), gid: Some(0), mode: Some("0755".to_owned()) };
    for part in parts.iter().take(parts.len().saturating_sub(1)) {
        place = place.join(part);
        match session.client.download(&place.url()).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {
                put(session, &place, Kind::Directory, Vec::new(), &owner).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_path_is_absolute() {
        let hosts = RemotePath::parse("web/etc/hosts").unwrap();
        assert_eq!((hosts.path.as_str(), hosts.file_name()), ("/etc/hosts", "hosts"));
        assert_eq!(hosts.url(), "/1.0/instances/web/files?path=%2Fetc%2Fhosts");
        let root = RemotePath::parse("web/").unwrap();
        assert!(root.is_directory_like());
        assert_eq!(root.join("srv").path, "/srv");
        assert!(RemotePath::parse("web").is_err());
        assert!(RemotePath::parse("/etc/hosts").is_err());
    }
}
