//! Images and their aliases.

use stapes_core::{ids::ProjectId, image::Image, name::NameKind, world::World};

use super::{instance::kind, project_name};
use crate::wire::image::{self, ImageAlias, ImageAliasesEntry, ImagePut};

pub(in crate::server) fn image(world: &World, it: &Image) -> image::Image {
    let aliases = world.held(NameKind::ImageAlias, it.project);
    let aliases = aliases.filter(|(_, held)| held.holder == it.id.0).map(|(name, held)| {
        ImageAlias { name: name.to_owned(), description: held.description.clone() }
    });
    image::Image {
        writable: ImagePut {
            auto_update: it.auto_update,
            properties: it.properties.clone(),
            public: it.public,
            expires_at: it.expires_at.into(),
            profiles: it.profiles.clone(),
        },
        aliases: aliases.collect(),
        architecture: it.facts.architecture.clone(),
        cached: false,
        filename: it.facts.filename.clone(),
        fingerprint: it.facts.fingerprint.to_string(),
        size: it.facts.size_bytes,
        update_source: None,
        kind: kind(it.facts.kind).to_owned(),
        created_at: it.facts.created_at.into(),
        last_used_at: crate::wire::Time::NEVER,
        uploaded_at: it.uploaded_at.into(),
        project: project_name(world, it.project),
    }
}

/// The aliases of a project, in order.
pub(in crate::server) fn aliases(world: &World, project: ProjectId) -> Vec<ImageAliasesEntry> {
    let held = world.held(NameKind::ImageAlias, project);
    held.filter_map(|(name, _)| alias(world, project, name)).collect()
}

pub(in crate::server) fn alias(
    world: &World,
    project: ProjectId,
    name: &str,
) -> Option<ImageAliasesEntry> {
    let held = world.holder(NameKind::ImageAlias, project, name)?;
    let image = world.images.get(&stapes_core::ids::ImageId(held.holder))?;
    Some(ImageAliasesEntry {
        description: held.description.clone(),
        target: image.facts.fingerprint.to_string(),
        name: name.to_owned(),
        kind: kind(image.facts.kind).to_owned(),
    })
}
