//! What every command works with: the settings, the way out, and the daemon.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use stapes_api::client::{Answer, Client, ClientError, Method};

use crate::{
    exit::ExitStatus,
    failure::{Failure, Result},
    output::Printer,
    settings::Settings,
};

/// A question that only makes an answer nicer may take this long.
pub(crate) const COURTESY: Duration = Duration::from_millis(300);

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) printer: Printer,
    pub(crate) client: Client,
}

impl Session {
    pub(crate) fn new(settings: Settings) -> Self {
        let printer = Printer::new(settings.quiet);
        let mut client = Client::unix(settings.socket()).project(&settings.project);
        if let Some(reason) = &settings.submit.reason {
            client = client.reason(reason);
        }
        Self { settings, printer, client }
    }

    /// The same, for lists of all projects.
    pub(crate) fn all_projects(&self, all: bool) -> Self {
        if !all {
            return self.clone();
        }
        Self { client: self.client.all_projects(), ..self.clone() }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.trace("GET", path);
        Ok(self.client.get(path).await?)
    }

    /// As the daemon gave it, so that nothing it said is lost on the way out.
    pub(crate) async fn value(&self, path: &str) -> Result<Value> {
        self.get(path).await
    }

    /// A list of objects, as the daemon gave them.
    pub(crate) async fn values(&self, path: &str) -> Result<Vec<Value>> {
        Ok(self.get::<Option<Vec<Value>>>(path).await?.unwrap_or_default())
    }

    pub(crate) async fn value_with_etag(&self, path: &str) -> Result<(Value, Option<String>)> {
        self.trace("GET", path);
        Ok(self.client.get_with_etag(path).await?)
    }

    /// One change; what goes on in the background is in the answer.
    pub(crate) async fn send<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: &B,
        etag: Option<&str>,
    ) -> Result<Answer> {
        self.trace(method.as_str(), path);
        tokio::select! {
            biased;
            sent = self.client.send_if_match(method, path, body, etag) => {
                sent.map_err(|error| unchanged(error.into()))
            }
            () = crate::operation::interrupt() => Err(interrupted()),
        }
    }

    /// The newest sequence of the log, as the daemon says it with every answer.
    pub(crate) async fn head(&self) -> Result<u64> {
        let answer = self.client.send_bytes(Method::GET, "/1.0", Vec::new(), &[]).await?;
        answer
            .sequence
            .ok_or_else(|| Failure::protocol("the daemon does not say where its log ends"))
    }

    pub(crate) fn trace(&self, method: &str, path: &str) {
        if self.settings.debug {
            self.printer.say(&format!("{method} {path}"));
        }
    }
}

/// A refusal changed nothing; a broken connection leaves that open and says so itself.
fn unchanged(failure: Failure) -> Failure {
    let refused =
        [ExitStatus::Failed, ExitStatus::NotFound, ExitStatus::Denied, ExitStatus::Conflict];
    if refused.contains(&failure.exit()) && failure.code() != BROKEN {
        failure.effect("Nothing was changed.")
    } else {
        failure
    }
}

/// Before the daemon answered. What it had read by then it may still do.
fn interrupted() -> Failure {
    Failure::end(ExitStatus::Interrupted, "interrupted before the daemon took it")
}

const BROKEN: &str = "connection-broke";
/// It was accepted, and failed later.
pub(crate) const FAILED: &str = "operation-failed";

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = match &error {
            ClientError::Unreachable { socket, source } => {
                unreachable(&socket.display().to_string(), source)
            }
            ClientError::Api(refusal) => {
                let exit = ExitStatus::from_http(refusal.error_code);
                let code =
                    refusal.code.clone().unwrap_or_else(|| format!("http-{}", refusal.error_code));
                let facts = refusal.facts.iter().map(|(key, value)| format!("{key}  {value}"));
                Self::new(exit, code, refusal.text.clone()).facts(facts).hints(refusal.hint.clone())
            }
            ClientError::Operation { operation } => {
                let cancelled = operation.status_code == stapes_api::wire::StatusCode::CANCELLED;
                let message = match operation.err.as_str() {
                    "" if cancelled => format!("{}: cancelled", operation.description),
                    "" => format!("{}: failed without a reason", operation.description),
                    text => text.to_owned(),
                };
                Self::new(ExitStatus::Failed, FAILED, message)
                    .fact(format!("operation  {} ({})", operation.id, operation.description))
                    .hint(format!("stapes op show {}", operation.id))
            }
            ClientError::Broken(_) => Self::new(ExitStatus::Unreachable, BROKEN, error.to_string())
                .hint("stapes op list --all    (whether it was taken)")
                .effect("Whether the request had an effect is unknown."),
            ClientError::File { path, source } => {
                Self::local(format!("cannot use the file {}", path.display()), source)
            }
            ClientError::Decode { .. } | ClientError::Unexpected { .. } => {
                Self::protocol(error.to_string())
            }
        };
        failure.cause(&error)
    }
}

fn unreachable(socket: &str, source: &std::io::Error) -> Failure {
    let message = format!("cannot reach the daemon at {socket}");
    let failure = Failure::new(ExitStatus::Unreachable, "unreachable", message.clone());
    let kind = source.kind();
    let failure = if kind == std::io::ErrorKind::PermissionDenied {
        Failure::new(ExitStatus::Denied, "no-access", message)
            .fact("You may not open this socket.")
            .hint("sudo stapes …")
    } else if kind == std::io::ErrorKind::NotFound {
        failure
            .fact("There is no such socket.")
            .hint("stapes daemon    (start it; or set STAPES_DIR if it uses another directory)")
    } else {
        failure
            .fact(source.to_string())
            .hint("stapes daemon    (nobody answers: it may have stopped)")
    };
    failure.effect("Nothing was changed.")
}
