//! Requests and answers, plain.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming, header};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Client, ClientError,
    transport::{Body, Transport, api_error},
};
use crate::wire::{
    envelope::{Envelope, Kind},
    operation::Operation,
};

/// What a request was answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    pub envelope: Envelope,
    /// Quoted, as `If-Match` takes it back.
    pub etag: Option<String>,
    pub location: Option<String>,
    /// The sequence of the log at which the answer is true.
    pub sequence: Option<u64>,
}

impl Answer {
    /// The operation that was begun, if one was.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        (self.envelope.kind == Kind::Async)
            .then(|| serde_json::from_value(self.envelope.metadata.clone()).ok())
            .flatten()
    }

    /// The answer's metadata.
    ///
    /// # Errors
    /// When it is no `T`.
    pub fn metadata<T: DeserializeOwned>(self, what: &str) -> Result<T, ClientError> {
        serde_json::from_value(self.envelope.metadata)
            .map_err(|source| ClientError::Decode { what: what.to_owned(), source })
    }
}

/// A body to be read piece by piece.
#[derive(Debug)]
pub struct Download {
    pub response: Response<Incoming>,
}

impl Download {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(data) = frame.map_err(ClientError::broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// A header's value, when it is there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Everything.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        Ok(self.response.into_body().collect().await.map_err(ClientError::broken)?.to_bytes())
    }
}

impl Client {
    /// The metadata of `GET path`.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached, or its answer is no `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        Ok(self.get_with_etag(path).await?.0)
    }

    /// As [`Client::get`], with the ETag that [`Client::send_if_match`] takes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_with_etag<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<(T, Option<String>), ClientError> {
        let response = self.raw(Method::GET, path, empty(), &[]).await?;
        let etag = text_of(&response, header::ETAG.as_str());
        let body = response.into_body().collect().await.map_err(ClientError::broken)?.to_bytes();
        let what = || format!("GET {path}");
        // Straight into `T`, because lists may be long.
        let envelope: Envelope<Metadata<T>> = serde_json::from_slice(&body)
            .map_err(|source| ClientError::Decode { what: what(), source })?;
        match envelope.metadata.0 {
            Some(metadata) => Ok((metadata, etag)),
            None => serde_json::from_value(Value::Null)
                .map(|metadata| (metadata, etag))
                .map_err(|source| ClientError::Decode { what: what(), source }),
        }
    }

    /// Sends a change with a JSON body.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached.
    pub async fn send<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<Answer, ClientError> {
        self.send_if_match(method, path, body, None).await
    }

    /// As [`Client::send`], refused with 412 unless the thing is still as `etag` says.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_if_match<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: &B,
        etag: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let bytes = serde_json::to_vec(body)
            .map_err(|source| ClientError::Decode { what: format!("{method} {path}"), source })?;
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(etag.map(|etag| ("if-match", etag)));
        let response = self.raw(method.clone(), path, full(bytes), &headers).await?;
        answer(response, &format!("{method} {path}")).await
    }

    /// `DELETE path`.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached.
    pub async fn delete(&self, path: &str) -> Result<Answer, ClientError> {
        let response = self.raw(Method::DELETE, path, empty(), &[]).await?;
        answer(response, &format!("DELETE {path}")).await
    }

    /// Any bytes, with any headers: files, images, or a body that the user wrote.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached.
    pub async fn send_bytes(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        let response = self.raw(method.clone(), path, full(body), headers).await?;
        answer(response, &format!("{method} {path}")).await
    }

    /// A body that is no envelope: an export, a file, a log.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached.
    pub async fn download(&self, path: &str) -> Result<Download, ClientError> {
        Ok(Download { response: self.raw(Method::GET, path, empty(), &[]).await? })
    }

    /// One request; an error of the daemon is an error here too.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached.
    pub(super) async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(Transport::uri(&self.scoped(path))?)
            .header(header::USER_AGENT, concat!("stapes/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(reason) = &self.reason {
            request = request.header("X-Stapes-Reason", escape(reason));
        }
        let request = request.body(body).map_err(ClientError::broken)?;
        let response = self.transport.request(request).await?;
        let stale = response.headers().get("x-stapes-stale");
        self.note_stale(stale.and_then(|since| since.to_str().ok()));
        let status = response.status().as_u16();
        if status < 400 {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(ClientError::broken)?.to_bytes();
        Err(ClientError::Api(api_error(status, &body)))
    }

    /// The path with this client's project, unless it names one itself.
    pub(super) fn scoped(&self, path: &str) -> String {
        let query = path.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let named = query
            .split('&')
            .any(|pair| pair.starts_with("project=") || pair.starts_with("all-projects"));
        let join = if path.contains('?') { '&' } else { '?' };
        match &self.project {
            Some(project) if !named => format!("{path}{join}project={}", escape(project)),
            None if self.all_projects && !named => format!("{path}{join}all-projects=true"),
            Some(_) | None => path.to_owned(),
        }
    }
}

/// `Option` that keeps a `null` apart from the metadata itself.
struct Metadata<T>(Option<T>);

impl<T> Default for Metadata<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> serde::Deserialize<'de> for Metadata<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|metadata| Self(Some(metadata)))
    }
}

pub(super) fn empty() -> Body {
    full(Bytes::new())
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn text_of(response: &Response<Incoming>, header: &str) -> Option<String> {
    Some(response.headers().get(header)?.to_str().ok()?.to_owned())
}

pub(super) async fn answer(
    response: Response<Incoming>,
    what: &str,
) -> Result<Answer, ClientError> {
    let etag = text_of(&response, "etag");
    let location = text_of(&response, "location");
    let sequence = text_of(&response, "x-stapes-sequence").and_then(|text| text.parse().ok());
    let body = response.into_body().collect().await.map_err(ClientError::broken)?.to_bytes();
    let envelope: Envelope = serde_json::from_slice(&body)
        .map_err(|source| ClientError::Decode { what: what.to_owned(), source })?;
    Ok(Answer { envelope, etag, location, sequence })
}

/// A name as one segment of a path or one value of a query.
#[must_use]
pub fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gets_the_project_once() {
        let client = Client::unix("/nowhere").project("a b");
        assert_eq!(client.scoped("/1.0/instances"), "/1.0/instances?project=a%20b");
        assert_eq!(client.scoped("/1.0/x?recursion=1"), "/1.0/x?recursion=1&project=a%20b");
        assert_eq!(client.scoped("/1.0/x?project=c"), "/1.0/x?project=c");
        assert_eq!(client.all_projects().scoped("/1.0/x"), "/1.0/x?all-projects=true");
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_named() {
        let error = Client::unix("/nowhere/x").get::<Value>("/1.0").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot reach the daemon at /nowhere/x");
        assert!(matches!(error, ClientError::Unreachable { .. }));
    }
}
