//! Images up and down, streamed: they are larger than memory should be.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Method, body::Frame};
use tokio::{fs::File, io::AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::{Client, ClientError, Download, Pending, escape, request::answer, transport::Body};

/// What is said of an image with its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOptions {
    pub public: bool,
    pub aliases: Vec<String>,
    pub properties: Vec<(String, String)>,
    /// What the bytes must hash to, if the sender knows.
    pub fingerprint: Option<String>,
}

/// The files of an image that was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    pub metadata: PathBuf,
    pub root: Option<PathBuf>,
}

impl Client {
    /// Sends an image in one file, or a metadata file and a root (`root_is_vm`: a disk).
    ///
    /// # Errors
    /// When a file cannot be read, or the daemon refuses or cannot be reached.
    pub async fn upload_image(
        &self,
        metadata: &Path,
        root: Option<(&Path, bool)>,
        options: &UploadOptions,
    ) -> Result<Pending, ClientError> {
        let (body, kind) = match root {
            None => (unified(metadata).await?, "application/octet-stream".to_owned()),
            Some((root, root_is_vm)) => split(metadata, root, root_is_vm).await?,
        };
        let filename = metadata.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let headers = headers(options, &kind, &filename);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let events = self.operation_events().await?;
        let what = "POST /1.0/images";
        let response = self.raw(Method::POST, "/1.0/images", body, &headers).await?;
        self.pending(answer(response, what).await?, events, what.into())
    }

    /// Fetches an image's files into `directory`.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached, or a file cannot be written.
    pub async fn export_image(
        &self,
        fingerprint: &str,
        directory: &Path,
    ) -> Result<Downloaded, ClientError> {
        let path = format!("/1.0/images/{}/export", escape(fingerprint));
        let download = self.download(&path).await?;
        let kind = download.header("content-type").unwrap_or_default().to_owned();
        match multer::parse_boundary(&kind) {
            Ok(boundary) => save_split(download, boundary, directory).await,
            Err(_) => save_unified(download, fingerprint, directory).await,
        }
    }
}

fn headers(options: &UploadOptions, kind: &str, filename: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("content-type", kind.to_owned()),
        ("x-incus-filename", filename.to_owned()),
        ("x-incus-public", options.public.to_string()),
    ];
    let pairs = |pairs: Vec<(&str, &str)>| -> String {
        let pairs = pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value)));
        pairs.collect::<Vec<_>>().join("&")
    };
    if !options.aliases.is_empty() {
        let aliases = options.aliases.iter().map(|alias| ("alias", alias.as_str())).collect();
        headers.push(("x-incus-aliases", pairs(aliases)));
    }
    if !options.properties.is_empty() {
        let properties = options.properties.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        headers.push(("x-incus-properties", pairs(properties.collect())));
    }
    if let Some(fingerprint) = &options.fingerprint {
        headers.push(("x-incus-fingerprint", fingerprint.clone()));
    }
    headers
}

async fn open(path: &Path) -> Result<File, ClientError> {
    let file = |source| ClientError::File { path: path.to_owned(), source };
    File::open(path).await.map_err(file)
}

async fn unified(path: &Path) -> Result<Body, ClientError> {
    Ok(streamed(bytes_of(open(path).await?)))
}

fn bytes_of(file: File) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync {
    ReaderStream::with_capacity(file, 256 << 10)
}

fn streamed(bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static) -> Body {
    BodyExt::boxed(StreamBody::new(bytes.map_ok(Frame::data)))
}

/// Two parts, in the order that the server wants them.
async fn split(
    metadata: &Path,
    root: &Path,
    root_is_vm: bool,
) -> Result<(Body, String), ClientError> {
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let part = |name: &str, path: &Path, first: bool| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().replace('"', "");
        let lead = if first { "" } else { "\r\n" };
        let head = format!(
            "{lead}--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; \
             filename=\"{file}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        text(head)
    };
    let root_name = if root_is_vm { "rootfs.img" } else { "rootfs" };
    let bytes = part("metadata", metadata, true)
        .chain(bytes_of(open(metadata).await?))
        .chain(part(root_name, root, false))
        .chain(bytes_of(open(root).await?))
        .chain(text(format!("\r\n--{boundary}--\r\n")));
    Ok((streamed(bytes), format!("multipart/form-data; boundary={boundary}")))
}

fn text(text: String) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync {
    stream::iter([Ok(Bytes::from(text))])
}

async fn save_unified(
    mut download: Download,
    fingerprint: &str,
    directory: &Path,
) -> Result<Downloaded, ClientError> {
    let disposition = download.header("content-disposition").unwrap_or_default();
    let name = disposition.split("filename=").nth(1).unwrap_or_default();
    let path = directory.join(safe_name(name.trim_matches('"'), &format!("{fingerprint}.tar")));
    let mut file = create(&path).await?;
    while let Some(bytes) = download.chunk().await? {
        write(&mut file, &path, &bytes).await?;
    }
    flush(&mut file, &path).await?;
    Ok(Downloaded { metadata: path, root: None })
}

async fn save_split(
    download: Download,
    boundary: String,
    directory: &Path,
) -> Result<Downloaded, ClientError> {
    let body = download.response.into_body().into_data_stream();
    let mut parts = multer::Multipart::new(body, boundary);
    let mut saved = Vec::new();
    while let Some(mut part) = parts.next_field().await.map_err(ClientError::broken)? {
        let fallback = part.name().unwrap_or("part").to_owned();
        let path = directory.join(safe_name(part.file_name().unwrap_or_default(), &fallback));
        let mut file = create(&path).await?;
        while let Some(bytes) = part.chunk().await.map_err(ClientError::broken)? {
            write(&mut file, &path, &bytes).await?;
        }
        flush(&mut file, &path).await?;
        saved.push(path);
    }
    let mut saved = saved.into_iter();
    match saved.next() {
        Some(metadata) => Ok(Downloaded { metadata, root: saved.next() }),
        None => Err(ClientError::Unexpected { what: "export".into(), found: "no file".into() }),
    }
}

/// The last part of what the daemon calls the file: it may not choose the directory.
fn safe_name(name: &str, fallback: &str) -> String {
    let last = Path::new(name).file_name().map(|name| name.to_string_lossy().into_owned());
    last.filter(|name| !name.is_empty()).unwrap_or_else(|| fallback.replace('/', "_"))
}

async fn create(path: &Path) -> Result<File, ClientError> {
    File::create(path).await.map_err(|source| ClientError::File { path: path.to_owned(), source })
}

async fn write(file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), ClientError> {
    file.write_all(bytes)
        .await
        .map_err(|source| ClientError::File { path: path.to_owned(), source })
}

async fn flush(file: &mut File, path: &Path) -> Result<(), ClientError> {
    file.flush().await.map_err(|source| ClientError::File { path: path.to_owned(), source })
}
