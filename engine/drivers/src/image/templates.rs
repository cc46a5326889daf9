//! Templates: the files that an image wants written into its guests (`/etc/hostname` ...).
//!
//! When an image is taken in, its templates are kept beside it, so that a start reads no archive.
//! They stay when the image is removed, for guests made from it still want them; they are small.
//!
//! A template is a stranger's program. What is plain text with plain values in it is put together
//! here, by a few lines that know nothing else ([`plain`]); everything else is rendered in the
//! helper, under its ceilings, with no loader, no files and few filters ([`render`]), for a fuel
//! limit does not bound memory. What comes out is text; the shim writes it, as the guest's root.
//!
//! A template that is wrong costs its guest that file and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stapes_core::{
    ids::Fingerprint,
    template::{RenderedFile, TemplateContext, Trigger},
};

use super::{ImageConfig, Limits, Metadata, Refusal, Template, helper};

mod plain;
mod pongo;
mod render;

pub(super) use render::render;

/// Of one file.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Of all files of one image at once: they travel in one record.
const OUTPUT_BYTES_MAX_ALL: usize = 512 * 1024;

/// The templates of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Templates {
    /// By the path inside the guest.
    places: BTreeMap<String, Template>,
    /// By file name.
    texts: BTreeMap<String, String>,
}

/// One file to render.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    /// Inside the guest.
    pub(super) path: String,
    pub(super) trigger: Trigger,
    pub(super) text: String,
    pub(super) properties: BTreeMap<String, String>,
}

/// What the helper is asked to render.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RenderJob {
    pub(super) context: TemplateContext,
    pub(super) sources: Vec<Source>,
    pub(super) limits: Limits,
}

impl Templates {
    /// Those that `metadata` names, with what the archive has for them.
    pub(super) fn of(metadata: &Metadata, mut texts: BTreeMap<String, String>) -> Self {
        let places = metadata.templates.clone();
        texts.retain(|name, _| places.values().any(|place| place.template == *name));
        Self { places, texts }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What a start with `due` wants. Both triggers of one start would write the same file; the
    /// later one wins, but where the file is only created the first one does.
    fn wanted(&self, due: Option<Trigger>) -> impl Iterator<Item = (&String, &Template, Trigger)> {
        self.places.iter().filter_map(move |(path, place)| {
            let asks = |trigger: &Trigger| place.when.iter().any(|when| when == trigger.as_str());
            let (due, start) = (due.filter(asks), Some(Trigger::Start).filter(asks));
            let trigger = if place.create_only { due.or(start) } else { start.or(due) };
            Some((path, place, trigger?))
        })
    }

    /// The files for a guest that starts now.
    pub(super) async fn render(
        &self,
        config: &ImageConfig,
        image: &Fingerprint,
        context: &TemplateContext,
    ) -> Vec<RenderedFile> {
        let mut wanted = Vec::new();
        for (path, place, trigger) in self.wanted(context.due) {
            let Some(text) = self.texts.get(&place.template) else {
                tracing::warn!(%image, path, template = place.template, "the image lacks a template");
                continue;
            };
            let (path, properties) = (path.clone(), place.properties.clone());
            wanted.push((place, Source { path, trigger, text: text.clone(), properties }));
        }
        let sources = wanted.iter().map(|(_, source)| source).collect::<Vec<_>>();
        let texts = texts(config, &sources, context).await;
        let mut files = Vec::new();
        let mut left = OUTPUT_BYTES_MAX_ALL;
        for ((place, source), text) in wanted.iter().zip(texts) {
            let fits = text.and_then(|text| {
                left =
                    left.checked_sub(text.len()).ok_or_else(|| too_much(OUTPUT_BYTES_MAX_ALL))?;
                Ok(text)
            });
            match fits {
                Ok(text) => files.push(file(place, source, text)),
                Err(refusal) => {
                    tracing::warn!(%image, path = source.path, %refusal, "a template is left out");
                }
            }
        }
        files
    }
}

fn file(place: &Template, source: &Source, content: String) -> RenderedFile {
    RenderedFile {
        path: source.path.clone(),
        content,
        mode: place.mode_bits(),
        uid: place.uid,
        gid: place.gid,
        create_only: place.create_only,
    }
}

/// In the order of the sources. The helper is asked once, and only for what needs it.
async fn texts(
    config: &ImageConfig,
    sources: &[&Source],
    context: &TemplateContext,
) -> Vec<Result<String, Refusal>> {
    let here: Vec<_> = sources.iter().map(|source| plain::put_together(source, context)).collect();
    let asked = || sources.iter().zip(&here).filter(|(_, text)| text.is_none());
    let sources: Vec<_> = asked().map(|(source, _)| (*source).clone()).collect();
    let mut answers = Vec::new().into_iter();
    if !sources.is_empty() {
        let count = sources.len();
        let limits = config.limits.clone();
        let job = RenderJob { context: context.clone(), sources, limits };
        let answer = helper::render(config, job).await;
        answers = answer.unwrap_or_else(|refusal| vec![Err(refusal); count]).into_iter();
    }
    let missing = || Err(Refusal::Host { what: "the helper left a template out".into() });
    here.into_iter()
        .map(|text| text.unwrap_or_else(|| answers.next().unwrap_or_else(missing)))
        .collect()
}

fn too_much(limit: usize) -> Refusal {
    Refusal::TooMuch { what: "bytes of rendered templates".into(), limit: limit as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_wanted_once() {
        let place = |when: &[&str], create_only| Template {
            when: when.iter().map(|when| (*when).to_owned()).collect(),
            create_only,
            template: "x".into(),
            ..Template::default()
        };
        let places = [
            ("/create", place(&["create", "copy"], false)),
            ("/each", place(&["start"], false)),
            ("/both", place(&["create", "start"], false)),
            ("/first", place(&["create", "start"], true)),
            ("/odd", place(&["never"], false)),
        ];
        let places = places.map(|(path, place)| (path.to_owned(), place)).into();
        let templates = Templates { places, texts: BTreeMap::new() };
        let wanted = |due| {
            let wanted = templates.wanted(due);
            wanted
                .map(|(path, _, trigger)| format!("{path} {}", trigger.as_str()))
                .collect::<Vec<_>>()
        };
        assert_eq!(wanted(None), ["/both start", "/each start", "/first start"]);
        assert_eq!(
            wanted(Some(Trigger::Create)),
            ["/both start", "/create create", "/each start", "/first create"]
        );
        assert_eq!(wanted(Some(Trigger::Copy)).len(), 4);
        assert_eq!(wanted(Some(Trigger::Rename)), wanted(None));
    }
}
