//! `stapes image …`

pub(crate) mod alias;
pub(crate) mod build;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod list;

use serde_json::{Value, json};
use stapes_api::client::{Method, escape};

use super::{
    instance::each,
    object::{self, Object},
};
use crate::{
    args::image::{ImagesArgs, PropertyArgs, SetPropertyArgs},
    exit::ExitStatus,
    failure::Result,
    name,
    operation::submit,
    session::Session,
};

/// The image that an alias names, or a fingerprint begins.
pub(crate) async fn resolve(session: &Session, typed: &str) -> Result<Object> {
    let typed = name::local(typed)?;
    let path = format!("/1.0/images/aliases/{}", escape(typed));
    let alias: std::result::Result<Value, _> = session.client.get(&path).await;
    match alias.as_ref().ok().and_then(|alias| alias.get("target")).and_then(Value::as_str) {
        Some(fingerprint) => Object::image(fingerprint),
        None => Object::image(typed),
    }
}

pub(crate) async fn delete(session: &Session, args: ImagesArgs) -> Result<ExitStatus> {
    each(session, args.images, |typed| async move {
        let image = resolve(session, &typed).await?;
        let what = format!("deleting {typed}");
        let done = submit(session, Method::DELETE, &image.path, &json!({}), &what).await;
        image.explain(session, done).await.map(drop)
    })
    .await
}

pub(crate) async fn get_property(session: &Session, args: PropertyArgs) -> Result<ExitStatus> {
    object::get(session, &resolve(session, &args.image).await?, &args.key, false).await
}

pub(crate) async fn unset_property(session: &Session, args: PropertyArgs) -> Result<ExitStatus> {
    object::unset(session, &resolve(session, &args.image).await?, &args.key, false).await
}

pub(crate) async fn set_property(session: &Session, args: SetPropertyArgs) -> Result<ExitStatus> {
    let pairs = [(args.key, args.value)].into();
    object::set(session, &resolve(session, &args.image).await?, pairs, false).await
}
