//! New images: one file, a metadata file and a root, or a description of where to get one.

use axum::{
    body::BodyDataStream,
    extract::{FromRequest, Multipart, Request, State},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use stapes_core::{command::Command, ids::Fingerprint, image::Import, port::image::Upload};
use tempfile::TempPath;
use tokio::{fs::File, io::AsyncWriteExt};

use super::{Answer, Api, Fault, body};
use crate::{
    server::{params::Params, peer::Caller},
    wire::image::ImagesPost,
};

/// Bytes of one file at most.
const FILE_MAX: u64 = 256 << 30;
/// Bytes of a description at most.
const JSON_MAX: usize = 1 << 20;

pub(in crate::server) async fn post(
    State(api): State<Api>,
    params: Params,
    caller: Caller,
    request: Request,
) -> Answer {
    let described = Described::of(request.headers())?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("multipart/")) {
        let parts = Multipart::from_request(request, &api).await;
        let parts = parts.map_err(|error| Fault::bad_request(error.body_text()))?;
        return split(&api, &caller, parts, params.project(), described).await;
    }
    let mut stream = request.into_body().into_data_stream();
    let first = match stream.next().await {
        Some(first) => first.map_err(broken)?,
        None => return Err(Fault::bad_request("No image was sent")),
    };
    // No image begins like JSON does.
    if first.first() == Some(&b'{') {
        return from_elsewhere(first, stream).await;
    }
    let rest = stream.map(|chunk| chunk.map_err(broken));
    let file = stage(&api, futures::stream::iter([Ok(first)]).chain(rest)).await?;
    let filename = described.filename.clone();
    let upload = Upload::Unified { file: file.to_path_buf(), filename };
    keep(&api, &caller, upload, params.project(), described).await
}

/// What the headers say of the image; LXD's clients name them after LXD.
fn header_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value =
        ["x-incus-", "x-lxd-"].iter().find_map(|prefix| headers.get(format!("{prefix}{name}")));
    value.and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

/// What is said of the image beside its bytes.
struct Described {
    properties: Vec<(String, String)>,
    public: bool,
    profiles: Vec<String>,
    aliases: Vec<(String, String)>,
    fingerprint: Option<Fingerprint>,
    filename: Option<String>,
}

impl Described {
    fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let pairs = |name: &str| {
            let query = header_of(headers, name).unwrap_or_default();
            form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<_>>()
        };
        let fingerprint = header_of(headers, "fingerprint").map(Fingerprint::new).transpose();
        Ok(Self {
            properties: pairs("properties"),
            public: header_of(headers, "public").is_some_and(|it| matches!(it, "1" | "true")),
            profiles: pairs("profiles").into_iter().map(|(_, name)| name).collect(),
            aliases: pairs("aliases").into_iter().map(|(_, name)| (name, String::new())).collect(),
            fingerprint: fingerprint.map_err(|error| Fault::bad_request(error.to_string()))?,
            filename: header_of(headers, "filename").map(str::to_owned),
        })
    }
}

/// First `metadata`, then `rootfs` or `rootfs.img`.
async fn split(
    api: &Api,
    caller: &Caller,
    mut parts: Multipart,
    project: String,
    described: Described,
) -> Answer {
    let wrong = |text: &str| {
        Fault::bad_request(text).hint("send \"metadata\", then \"rootfs\" or \"rootfs.img\"")
    };
    let (name, metadata) =
        part(api, &mut parts).await?.ok_or_else(|| wrong("No image was sent"))?;
    if name != "metadata" {
        return Err(wrong("Invalid multipart image: metadata is not first"));
    }
    let (name, root) =
        part(api, &mut parts).await?.ok_or_else(|| wrong("Invalid multipart image: no rootfs"))?;
    let root_is_vm = match name.as_str() {
        "rootfs" => false,
        "rootfs.img" => true,
        _ => return Err(wrong("Invalid multipart image: neither rootfs nor rootfs.img")),
    };
    let upload = Upload::Split {
        metadata: metadata.to_path_buf(),
        root: root.to_path_buf(),
        root_is_vm,
        filename: described.filename.clone(),
    };
    keep(api, caller, upload, project, described).await
}

async fn part(api: &Api, parts: &mut Multipart) -> Result<Option<(String, TempPath)>, Fault> {
    let field = parts.next_field().await.map_err(|error| Fault::bad_request(error.body_text()))?;
    let Some(field) = field else { return Ok(None) };
    let name = field.name().unwrap_or_default().to_owned();
    let bytes = field.map(|chunk| chunk.map_err(|error| Fault::bad_request(error.body_text())));
    Ok(Some((name, stage(api, bytes).await?)))
}

/// Writes the bytes to a file beside the store. It is removed unless the store moves it away.
async fn stage(
    api: &Api,
    bytes: impl Stream<Item = Result<Bytes, Fault>>,
) -> Result<TempPath, Fault> {
    let path = tempfile::Builder::new()
        .prefix("upload-")
        .tempfile_in(api.drivers.images.staging())?
        .into_temp_path();
    let mut file = File::create(&path).await?;
    let mut bytes = std::pin::pin!(bytes);
    let mut room = FILE_MAX;
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk?;
        room = room.checked_sub(chunk.len() as u64).ok_or_else(|| {
            Fault::new(413, "The image is too large").fact("limit_bytes", FILE_MAX.to_string())
        })?;
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    Ok(path)
}

/// Checks and keeps the files, then puts the image on the log. Files that no image is of are
/// found and removed by the store's own tidying.
async fn keep(
    api: &Api,
    caller: &Caller,
    upload: Upload,
    project: String,
    described: Described,
) -> Answer {
    let facts = api.drivers.images.ingest(upload, described.fingerprint.as_ref()).await?;
    let import = Import {
        project,
        facts,
        properties: described.properties.into_iter().collect(),
        public: described.public,
        auto_update: false,
        profiles: described.profiles,
        aliases: described.aliases,
        node: api.here(),
    };
    api.begin(Command::ImportImage(Box::new(import)), caller).await
}

/// A description in JSON asks the server to get the image from somewhere. None of it is served.
async fn from_elsewhere(first: Bytes, rest: BodyDataStream) -> Answer {
    let mut all = BytesMut::from(first);
    let mut rest = rest;
    while let Some(chunk) = rest.next().await {
        all.extend_from_slice(&chunk.map_err(broken)?);
        if all.len() > JSON_MAX {
            return Err(Fault::new(413, "The description is too large"));
        }
    }
    let post: ImagesPost = body(&all.freeze())?;
    let kind = post.source.map(|source| source.kind).unwrap_or_default();
    Err(match kind.as_str() {
        "instance" | "snapshot" => {
            Fault::not_implemented("Publishing instances as images is not supported")
        }
        "image" | "url" => {
            Fault::not_implemented("Fetching images from other servers is not supported")
                .hint("download it, then: stapes image import FILE --alias NAME")
        }
        _ => Fault::bad_request("Invalid images JSON"),
    })
}

fn broken(error: axum::Error) -> Fault {
    Fault::bad_request(format!("The upload broke off: {error}"))
}
