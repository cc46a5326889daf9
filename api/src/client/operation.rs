//! Operations in the background: begun after listening, waited for by their events.

use hyper::Method;
use serde::Serialize;

use super::{Answer, Client, ClientError, EventStream, request::empty};
use crate::wire::{StatusCode, envelope::Envelope, operation::Operation};

/// An operation that was begun.
#[derive(Debug)]
pub struct Pending {
    client: Client,
    pub operation: Operation,
    /// Open since before the operation was asked for; `None` when the daemon would not.
    events: Option<EventStream>,
}

impl Client {
    /// Asks for something that runs in the background. Listens before it asks, so that the
    /// operation's last event is not missed.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached, or answers that it is done already; use
    /// [`Client::run`] when either may be.
    pub async fn begin<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<Pending, ClientError> {
        let events = self.operation_events().await?;
        let what = format!("{method} {path}");
        let answer = self.send(method, path, body).await?;
        self.pending(answer, events, what)
    }

    /// Listens to operations if the daemon lets us.
    pub(super) async fn operation_events(&self) -> Result<Option<EventStream>, ClientError> {
        let everywhere = Self { project: None, all_projects: true, ..self.clone() };
        match everywhere.events(&["operation"], None).await {
            Ok(events) => Ok(Some(events)),
            Err(ClientError::Api(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    pub(super) fn pending(
        &self,
        answer: Answer,
        events: Option<EventStream>,
        what: String,
    ) -> Result<Pending, ClientError> {
        match answer.operation() {
            Some(operation) => Ok(Pending { client: self.clone(), operation, events }),
            None => {
                Err(ClientError::Unexpected { what, found: "an answer without operation".into() })
            }
        }
    }

    /// Asks for a change and waits until it is done, in the background or not. Answers the
    /// operation, if there was one.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached, or the operation fails.
    pub async fn run<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<Option<Operation>, ClientError> {
        let answer = self.send(method, path, body).await?;
        match answer.operation() {
            Some(operation) => self.wait(&operation.id).await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`Client::run`], for `DELETE`.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub async fn run_delete(&self, path: &str) -> Result<Option<Operation>, ClientError> {
        match self.delete(path).await?.operation() {
            Some(operation) => self.wait(&operation.id).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits until the operation is done; a failure is an error.
    ///
    /// # Errors
    /// When the operation fails or is cancelled, or the daemon does not know it.
    pub async fn wait(&self, id: &str) -> Result<Operation, ClientError> {
        loop {
            // Bounded, so that a daemon that is gone is noticed.
            let path = format!("/1.0/operations/{id}/wait?timeout=60");
            let envelope: Envelope<Operation> = self.get_envelope(&path).await?;
            if envelope.metadata.is_final() {
                return outcome(envelope.metadata);
            }
        }
    }

    /// The envelope of a `GET` whose headers come before its outcome is known.
    async fn get_envelope(&self, path: &str) -> Result<Envelope<Operation>, ClientError> {
        let response = self.raw(Method::GET, path, empty(), &[]).await?;
        let bytes = super::Download { response }.bytes().await?;
        let decode = |source| ClientError::Decode { what: format!("GET {path}"), source };
        let envelope: Envelope<Option<Operation>> =
            serde_json::from_slice(&bytes).map_err(decode)?;
        match envelope.metadata {
            Some(operation) => Ok(Envelope::sync(operation)),
            None => Err(ClientError::Api(super::transport::api_error(500, &bytes))),
        }
    }
}

impl Pending {
    #[must_use]
    pub fn id(&self) -> &str {
        &self.operation.id
    }

    /// Waits until it is done; a failure is an error.
    ///
    /// # Errors
    /// When the operation fails or is cancelled, or the daemon is gone.
    pub async fn wait(self) -> Result<Operation, ClientError> {
        self.wait_with(|_| {}).await
    }

    /// As [`Pending::wait`]; `progress` sees every change on the way.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub async fn wait_with(
        mut self,
        mut progress: impl FnMut(&Operation),
    ) -> Result<Operation, ClientError> {
        if self.operation.is_final() {
            return outcome(self.operation);
        }
        if let Some(mut events) = self.events.take() {
            while let Ok(Some(event)) = events.next().await {
                if event.metadata.get("id").and_then(|id| id.as_str()) != Some(self.id()) {
                    continue;
                }
                let Ok(operation) = serde_json::from_value::<Operation>(event.metadata) else {
                    break;
                };
                progress(&operation);
                if operation.is_final() {
                    return outcome(operation);
                }
            }
        }
        // No events, or no more of them: the daemon was restarted, or we were too slow.
        self.client.wait(&self.operation.id).await
    }

    /// Asks the daemon to give it up.
    ///
    /// # Errors
    /// When the operation cannot be cancelled.
    pub async fn cancel(&self) -> Result<(), ClientError> {
        self.client.delete(&format!("/1.0/operations/{}", self.operation.id)).await?;
        Ok(())
    }
}

fn outcome(operation: Operation) -> Result<Operation, ClientError> {
    if operation.status_code == StatusCode::SUCCESS {
        Ok(operation)
    } else {
        Err(ClientError::Operation { operation: Box::new(operation) })
    }
}
