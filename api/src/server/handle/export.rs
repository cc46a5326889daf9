//! An image's files, as they were sent.

use std::path::Path as File;

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};
use stapes_core::port::image::{ImageFiles, ImageKind};
use tokio_util::io::ReaderStream;

use super::{Answer, Api, images::by_fingerprint};
use crate::server::{fault::Fault, params::Params};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path(image): Path<String>,
    params: Params,
) -> Answer {
    let facts = api.look(|world| {
        by_fingerprint(world, &params.project(), &image).map(|it| it.facts.clone())
    })?;
    let ImageFiles { metadata, root } = api.drivers.images.files(&facts.fingerprint).await?;
    let response = match root {
        None => one(&metadata, &facts.filename).await?,
        Some(root) => {
            let name = match facts.kind {
                ImageKind::Container => "rootfs",
                ImageKind::VirtualMachine => "rootfs.img",
            };
            two(&metadata, &root, name, &facts.filename).await?
        }
    };
    Ok(([("x-incus-type", "incus")], response).into_response())
}

async fn one(file: &File, filename: &str) -> Result<Response, Fault> {
    let length = tokio::fs::metadata(file).await?.len();
    let body = Body::from_stream(bytes_of(file).await?);
    let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    // Clients need the name, so what cannot be one is made one.
    let safe: String =
        filename.chars().map(|it| if it.is_ascii_graphic() { it } else { '_' }).collect();
    if let Ok(value) = HeaderValue::from_str(&format!("inline;filename={safe}")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

async fn two(metadata: &File, root: &File, name: &str, filename: &str) -> Result<Response, Fault> {
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let part = |lead: &str, name: &str, filename: &str| {
        let filename = filename.replace(['"', '\r', '\n'], "_");
        text(format!(
            "{lead}--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; \
             filename=\"{filename}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        ))
    };
    let root_filename = format!("{filename}.root");
    let bytes = part("", "metadata", filename)
        .chain(bytes_of(metadata).await?)
        .chain(part("\r\n", name, &root_filename))
        .chain(bytes_of(root).await?)
        .chain(text(format!("\r\n--{boundary}--\r\n")));
    let kind = format!("multipart/form-data; boundary={boundary}");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(bytes)).into_response())
}

async fn bytes_of(
    file: &File,
) -> Result<impl Stream<Item = std::io::Result<Bytes>> + use<>, Fault> {
    Ok(ReaderStream::with_capacity(tokio::fs::File::open(file).await?, CHUNK))
}

fn text(text: String) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::iter([Ok(Bytes::from(text))])
}
