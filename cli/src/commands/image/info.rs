//! `stapes image info` and `show`

use serde_json::json;

use super::{list::read, resolve};
use crate::{
    args::image::ShowArgs, exit::ExitStatus, failure::Result, output::format::Shape,
    session::Session, units::size,
};

pub(crate) async fn run(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let value = resolve(session, &args.image).await?.read(session).await?;
    if args.format.format.shape != Shape::Table {
        session.printer.object(args.format.format, &value)?;
        return Ok(ExitStatus::Done);
    }
    let image = read(&value)?;
    let aliases: Vec<&str> = image.aliases.iter().map(|alias| alias.name.as_str()).collect();
    let shown = json!({
        "Fingerprint": image.fingerprint,
        "Size": size::show(image.size),
        "Architecture": image.architecture,
        "Type": image.kind,
        "Public": image.writable.public,
        "Uploaded": image.uploaded_at,
        "Last used": image.last_used_at,
        "Properties": image.writable.properties,
        "Aliases": aliases,
        "Auto update": image.writable.auto_update,
        "Profiles": image.writable.profiles,
    });
    session.printer.object(args.format.format, &shown)?;
    Ok(ExitStatus::Done)
}
