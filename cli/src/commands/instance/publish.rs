//! `stapes publish`: an instance becomes an image.

use serde_json::{Value, json};
use stapes_api::{
    client::Method,
    wire::{StatusCode, instance::Instance, instance_state::InstanceStatePut},
};

use super::state::while_stopped;
use crate::{
    args::instance::PublishArgs,
    commands::{image::alias, object::Object},
    exit::ExitStatus,
    failure::{Failure, Result},
    name::instance_or_snapshot,
    operation::{Outcome, submit},
    pairs,
    session::Session,
};

/// Makes an image of it and prints the image's fingerprint.
pub(crate) async fn run(session: &Session, args: PublishArgs) -> Result<ExitStatus> {
    let source = instance_or_snapshot(&args.source)?;
    let object = Object::instance(&source.instance)?;
    let found: Instance = object.explain(session, session.get(&object.path).await).await?;
    let must_stop = source.snapshot.is_none() && found.status_code != StatusCode::STOPPED;
    if must_stop && !args.force {
        return Err(Failure::usage(format!("{} is running", object.name))
            .hint(format!("stapes publish -f {}    (stops it for that long)", args.source))
            .hint(format!(
                "stapes snapshot create {}    (and publish the snapshot)",
                object.name
            )));
    }
    let (kind, name) = match &source.snapshot {
        Some(snapshot) => ("snapshot", format!("{}/{snapshot}", source.instance)),
        None => ("instance", source.instance.clone()),
    };
    let aliases: Vec<Value> =
        args.alias.iter().map(|name| json!({ "name": name, "description": "" })).collect();
    let mut body = json!({
        "public": args.public,
        "properties": pairs::flags(&args.properties)?,
        "compression_algorithm": args.compression.clone().unwrap_or_default(),
        "aliases": aliases,
        "source": { "type": kind, "name": name },
    });
    if let Some(expiry) = &args.expire {
        body["expires_at"] = json!(expiry);
    }
    let what = format!("publishing {}", args.source);
    let published = async {
        if args.reuse {
            alias::take_away(session, &args.alias).await?;
        }
        submit(session, Method::POST, "/1.0/images", &body, &what).await
    };
    let outcome = if must_stop {
        let stop = InstanceStatePut { timeout: -1, ..Default::default() };
        while_stopped(session, &object.name, stop, published).await?
    } else {
        published.await?
    };
    if let Outcome::Finished(operation) = outcome {
        let made = operation.metadata.as_ref().and_then(|metadata| metadata.get("fingerprint"));
        session.printer.line(made.and_then(Value::as_str).unwrap_or_default())?;
    }
    Ok(ExitStatus::Done)
}
