//! Images made on this host, from its packages: no image server is needed.
//!
//! A recipe leaves a directory tree and its metadata; packing is the same for all: sorted, times no
//! later than the build's, tar and zstd in one file, or metadata and a squashfs in two.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use stapes_core::port::{DriverError, image::Upload};

use super::{
    Metadata, Template,
    publish::{Packing, pack_with},
};

mod busybox;
mod debian;
mod process;

pub use debian::{Debian, Release, Variant};

/// What to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSpec {
    pub recipe: Recipe,
    pub format: Format,
    /// Becomes the image's date and the latest time in it.
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// The host's static busybox, 2 MB: an init, a shell and DHCP. For tests and first steps.
    Busybox,
    Debian(Debian),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One `tar.zst`: unpacks fastest.
    #[default]
    Unified,
    /// `tar.zst` with the metadata, and a squashfs.
    Split,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no recipe {0:?}; there are busybox, debian/11, debian/12 and debian/13")]
pub struct NoRecipe(String);

impl std::str::FromStr for Recipe {
    type Err = NoRecipe;
    /// As on the command line: `busybox`, `debian/12`, `debian/bookworm`.
    fn from_str(text: &str) -> Result<Self, NoRecipe> {
        let none = || NoRecipe(text.to_owned());
        match text.split_once('/') {
            None if text == "busybox" => Ok(Self::Busybox),
            Some(("debian", release)) => {
                Release::parse(release).map(Debian::new).map(Self::Debian).ok_or_else(none)
            }
            None | Some(_) => Err(none()),
        }
    }
}

/// A tree ready to be packed.
struct Tree {
    root: PathBuf,
    properties: BTreeMap<String, String>,
}

/// Builds the image and leaves its files in `staging`, to be ingested. `tell` gets a line for each
/// step. Needs root for a Debian. When it is dropped or fails, nothing is left.
///
/// # Errors
/// When a program or file that the recipe needs is missing, or fails: with its own words.
pub async fn build(
    spec: &BuildSpec,
    staging: &Path,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<Upload, DriverError> {
    let place = tempfile::Builder::new().prefix("build-").tempdir_in(staging);
    let place = place.map_err(|error| failed("make a directory to build in", &error))?;
    let tree = match &spec.recipe {
        Recipe::Busybox => busybox::make(place.path()),
        Recipe::Debian(debian) => debian::make(debian, place.path(), tell).await,
    }?;
    let (metadata, templates) = describe(tree.properties, spec.created_at);
    let filename = filename(&metadata);
    tell("packing");
    let upload = match spec.format {
        Format::Unified => {
            let file = pack(Some(tree.root), metadata, templates, staging).await?;
            Upload::Unified { file, filename: Some(filename) }
        }
        Format::Split => {
            let root = squash(&tree.root, spec.created_at, staging).await?;
            let metadata = pack(None, metadata, templates, staging).await?;
            Upload::Split { metadata, root, root_is_vm: false, filename: Some(filename) }
        }
    };
    // Removing a Debian takes a moment, which is nobody else's business.
    tokio::task::spawn_blocking(move || drop(place)).await.ok();
    Ok(upload)
}

fn describe(
    mut properties: BTreeMap<String, String>,
    created_at: DateTime<Utc>,
) -> (Metadata, BTreeMap<String, String>) {
    let serial = created_at.format("%Y%m%d_%H:%M").to_string();
    let get = |key: &str| properties.get(key).cloned().unwrap_or_default();
    let description =
        format!("{} {} {} ({serial})", get("os"), get("release"), get("architecture"));
    properties.insert("description".into(), description);
    properties.insert("serial".into(), serial);
    let when = |when: &[&str]| when.iter().map(|when| (*when).to_owned()).collect();
    let template =
        |when, file: &str| Template { when, template: file.into(), ..Template::default() };
    let templates = [
        ("/etc/hostname".to_owned(), template(when(&["create", "copy", "rename"]), "hostname.tpl")),
        ("/etc/hosts".to_owned(), template(when(&["create", "copy", "rename"]), "hosts.tpl")),
    ];
    let metadata = Metadata {
        architecture: std::env::consts::ARCH.to_owned(),
        creation_date: created_at.timestamp(),
        expiry_date: None,
        properties,
        templates: templates.into(),
    };
    let files = [
        ("hostname.tpl".to_owned(), "{{ instance.name }}\n".to_owned()),
        (
            "hosts.tpl".to_owned(),
            "127.0.0.1\tlocalhost\n127.0.1.1\t{{ instance.name }}\n\n::1\tlocalhost ip6-localhost \
             ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
                .to_owned(),
        ),
    ];
    (metadata, files.into())
}

fn filename(metadata: &Metadata) -> String {
    let get = |key: &str| metadata.properties.get(key).map_or("", String::as_str);
    let parts = [get("os"), get("release"), get("architecture"), &get("serial").replace(':', "")];
    format!("{}.tar.zst", parts.join("-").to_lowercase())
}

async fn pack(
    root: Option<PathBuf>,
    metadata: Metadata,
    templates: BTreeMap<String, String>,
    staging: &Path,
) -> Result<PathBuf, DriverError> {
    let staging = staging.to_path_buf();
    let packing =
        move || pack_with(root.as_deref(), &metadata, &templates, Packing::Zstd, &staging);
    let packed = tokio::task::spawn_blocking(packing).await.map_err(std::io::Error::other);
    packed.and_then(|packed| packed).map_err(|error| failed("pack the image", &error))
}

async fn squash(
    root: &Path,
    created_at: DateTime<Utc>,
    staging: &Path,
) -> Result<PathBuf, DriverError> {
    let place = tempfile::Builder::new().suffix(".squashfs").tempfile_in(staging);
    let file = place.map_err(|error| failed("make a file", &error))?.into_temp_path();
    let mut command = process::command("mksquashfs");
    let seconds = created_at.timestamp().to_string();
    command.arg(root).arg(&file).args(["-noappend", "-no-progress", "-quiet", "-comp", "zstd"]);
    command.args(["-mkfs-time", &seconds, "-e", "dev"]);
    process::run(command, "squashfs-tools", &|_| {}).await?;
    file.keep().map_err(|error| failed("keep a file", &error.error))
}

fn failed(doing: &str, error: &std::io::Error) -> DriverError {
    let text = format!("could not {doing}: {error}; nothing was built");
    if error.kind() == std::io::ErrorKind::StorageFull {
        DriverError::Full(text)
    } else {
        DriverError::Failed(text)
    }
}

/// Writes the files of a recipe: path, mode and content.
fn write_files(root: &Path, files: &[(&str, u32, &str)]) -> Result<(), DriverError> {
    use std::os::unix::fs::PermissionsExt;
    for (path, mode, content) in files {
        let to = root.join(path);
        let write = || -> std::io::Result<()> {
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            // Anew: what was there may be a link that leads to the host's file.
            match std::fs::remove_file(&to) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            std::fs::write(&to, content)?;
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(*mode))
        };
        write().map_err(|error| failed(&format!("write {path}"), &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_have_names() {
        assert_eq!("busybox".parse(), Ok(Recipe::Busybox));
        let debian = |release| Ok(Recipe::Debian(Debian::new(release)));
        assert_eq!("debian/12".parse(), debian(Release::Bookworm));
        assert_eq!("debian/trixie".parse(), debian(Release::Trixie));
        for bad in ["", "debian", "debian/4", "busybox/1", "ubuntu/24.04"] {
            assert_eq!(bad.parse::<Recipe>(), Err(NoRecipe(bad.into())));
        }
    }
}
