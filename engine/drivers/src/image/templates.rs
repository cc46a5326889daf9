//! Templates: the files that an image wants written into its guests (`/etc/hostname` ...).
//!
//! The template is a stranger's program, and a fuel limit does not bound memory: it is rendered in
//! the helper, under its ceilings, with no loader, no files and few filters ([`render`]). What comes
//! out is text; it is written here, below the guest's root ([`write`]).

use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use stapes_core::port::DriverError;

use super::{ImageStore, Limits, Metadata, Refusal, Template, helper};

mod pongo;
mod render;
mod write;

pub(super) use render::render;

/// What happened to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    Create,
    Copy,
    Start,
    Rename,
}

impl Trigger {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Copy => "copy",
            Self::Start => "start",
            Self::Rename => "rename",
        }
    }
}

/// What a template may see; all of it is the instance's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// `name`, `architecture`, `type`, `ephemeral`, `privileged` ...
    pub instance: BTreeMap<String, String>,
    pub config: BTreeMap<String, String>,
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
}

/// One file to render.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    /// Inside the guest.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) properties: BTreeMap<String, String>,
}

/// What the helper is asked to render.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RenderJob {
    pub(super) trigger: Trigger,
    pub(super) context: Context,
    pub(super) sources: Vec<Source>,
    pub(super) limits: Limits,
}

impl ImageStore {
    /// Renders the templates that `trigger` asks for, from `image_dir` (with `metadata.yaml` and
    /// `templates/`), and writes them below `root`, the guest's root directory. Answers with the
    /// paths that it wrote. Repeating it is fine.
    ///
    /// # Errors
    /// When a template is missing or wrong: which, and why. Nothing is written then.
    pub async fn apply_templates(
        &self,
        image_dir: &Path,
        trigger: Trigger,
        context: &Context,
        root: BorrowedFd<'_>,
    ) -> Result<Vec<PathBuf>, DriverError> {
        let limits = &self.config().limits;
        let not_written = |refusal: Refusal| refusal.into_error("no template was written");
        let metadata =
            read(image_dir, "metadata.yaml", limits.metadata_bytes).map_err(not_written)?;
        let metadata = Metadata::parse(&metadata, limits).map_err(not_written)?;
        let wanted = wanted(&metadata, trigger, root).map_err(not_written)?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let sources = sources(image_dir, &wanted, limits).map_err(not_written)?;
        let job = RenderJob { trigger, context: context.clone(), sources, limits: limits.clone() };
        let texts = helper::render(self.config(), job).await.map_err(not_written)?;
        let mut written = Vec::new();
        for ((path, template), text) in wanted.iter().zip(&texts) {
            write::write(root, path, template, text.as_bytes()).map_err(|refusal| {
                refusal.into_error(&format!("{} of them were written", written.len()))
            })?;
            written.push(PathBuf::from(path));
        }
        Ok(written)
    }
}

/// Those for this trigger whose file is not already there when they are to create it only.
fn wanted<'a>(
    metadata: &'a Metadata,
    trigger: Trigger,
    root: BorrowedFd<'_>,
) -> Result<Vec<(&'a String, &'a Template)>, Refusal> {
    let mut wanted = Vec::new();
    for (path, template) in &metadata.templates {
        let asked = template.when.iter().any(|when| when == trigger.as_str());
        if asked && !(template.create_only && write::exists(root, path)?) {
            wanted.push((path, template));
        }
    }
    Ok(wanted)
}

fn sources(
    image_dir: &Path,
    wanted: &[(&String, &Template)],
    limits: &Limits,
) -> Result<Vec<Source>, Refusal> {
    let directory = image_dir.join("templates");
    let source = |(path, template): &(&String, &Template)| {
        let text = read(&directory, &template.template, limits.template_bytes)?;
        Ok(Source { path: (*path).clone(), text, properties: template.properties.clone() })
    };
    wanted.iter().map(source).collect()
}

/// A small file of an unpacked image; its name is checked to be one.
fn read(directory: &Path, name: &str, limit: u64) -> Result<String, Refusal> {
    use std::io::Read;
    let path = directory.join(name);
    let shown = format!("read {}", path.display());
    let host = |error: std::io::Error| Refusal::host(&shown, &error);
    let flags =
        rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    let file = rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
        .map_err(|error| host(error.into()))?;
    let mut text = String::new();
    std::fs::File::from(file).take(limit + 1).read_to_string(&mut text).map_err(host)?;
    if text.len() as u64 > limit {
        return Err(Refusal::TooMuch { what: format!("bytes in {name}"), limit });
    }
    Ok(text)
}
