//! Programs inside a guest, and its console.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use async_trait::async_trait;
use stapes_core::{
    ids::InstanceId,
    port::{
        DriverError,
        guest::{Console, ExecControl, ExecSession, ExecSpec},
    },
};
use stapes_shim::protocol::{CONSOLE_BYTES_MAX, Reply, Request};

use super::{
    Inner,
    conversation::Conversation,
    convert::{self, failed},
};

/// The driver's ends of a program's pipes, and the program's.
struct Pipes {
    ours: (OwnedFd, OwnedFd, OwnedFd),
    its: [OwnedFd; 3],
}

impl Pipes {
    fn make() -> io::Result<Self> {
        let (input, to_input) = io::pipe()?;
        let (from_output, output) = io::pipe()?;
        let (from_error, error) = io::pipe()?;
        Ok(Self {
            ours: (to_input.into(), from_output.into(), from_error.into()),
            its: [input.into(), output.into(), error.into()],
        })
    }
}

impl Inner {
    async fn call(&self, instance: InstanceId) -> Result<Conversation, DriverError> {
        let known = self.must_know(instance)?;
        match Conversation::with(&known.directory.fd).await {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                // It ends, or a new shim is about to take it over.
                Err(DriverError::NotFound(format!("running guest {instance}")))
            }
            answer => answer.map_err(failed("call the guest's shim")),
        }
    }

    pub(super) async fn exec(
        &self,
        instance: InstanceId,
        spec: &ExecSpec,
    ) -> Result<ExecSession, DriverError> {
        self.must_be_free(instance)?;
        let conversation = self.call(instance).await?;
        let words = "execute in the guest";
        let request = Request::Exec(convert::exec(spec));
        if spec.terminal.is_some() {
            conversation.tell(&request, &[]).await.map_err(failed(words))?;
            let input = started(&conversation).await?.into_iter().next();
            let input =
                input.ok_or_else(|| DriverError::Failed(format!("{words}: no terminal came")))?;
            return Ok(ExecSession { input, output: None, control: control(conversation) });
        }
        let Pipes { ours: (input, output, error), its } = Pipes::make().map_err(failed(words))?;
        let descriptors = its.each_ref().map(OwnedFd::as_fd);
        conversation.tell(&request, &descriptors).await.map_err(failed(words))?;
        drop(its);
        started(&conversation).await?;
        let control = control(conversation);
        Ok(ExecSession { input, output: Some((output, error)), control })
    }

    pub(super) async fn console(
        &self,
        instance: InstanceId,
        (columns, rows): (u16, u16),
    ) -> Result<Console, DriverError> {
        let request = Request::Console { columns, rows };
        Ok(Console { stream: self.descriptor(instance, &request).await? })
    }

    pub(super) async fn console_log(
        self: &Arc<Self>,
        instance: InstanceId,
    ) -> Result<Vec<u8>, DriverError> {
        let file = self.descriptor(instance, &Request::ConsoleLog).await?;
        let read = move |_: &Self| {
            let mut file = File::from(file);
            file.rewind()?;
            let mut bytes = Vec::new();
            file.take(CONSOLE_BYTES_MAX as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        self.blocking(read).await?.map_err(failed("read the console's log"))
    }

    async fn descriptor(
        &self,
        instance: InstanceId,
        request: &Request,
    ) -> Result<OwnedFd, DriverError> {
        let words = "open the guest's console";
        let conversation = self.call(instance).await?;
        conversation.tell(request, &[]).await.map_err(failed(words))?;
        match conversation.hear().await.map_err(failed(words))? {
            Some((Reply::Descriptor, descriptors)) => descriptors
                .into_iter()
                .next()
                .ok_or_else(|| DriverError::Failed(format!("{words}: none came"))),
            other => Err(unexpected(words, other.map(|(reply, _)| reply))),
        }
    }
}

async fn started(conversation: &Conversation) -> Result<Vec<OwnedFd>, DriverError> {
    let words = "execute in the guest";
    match conversation.hear().await.map_err(failed(words))? {
        Some((Reply::Started { .. }, descriptors)) => Ok(descriptors),
        other => Err(unexpected(words, other.map(|(reply, _)| reply))),
    }
}

fn unexpected(words: &str, reply: Option<Reply>) -> DriverError {
    match reply {
        Some(Reply::Refused { text, errno }) => convert::refusal(words, &text, errno),
        Some(other) => DriverError::Failed(format!("{words}: the shim answered {other:?}")),
        None => DriverError::NotFound("the guest has ended; it".to_owned()),
    }
}

fn control(conversation: Conversation) -> Box<dyn ExecControl> {
    Box::new(Control { conversation, status: None })
}

#[derive(Debug)]
struct Control {
    conversation: Conversation,
    status: Option<i32>,
}

impl Control {
    /// A program that has ended hears nothing any more; that is no failure.
    async fn tell(&self, request: &Request) -> Result<(), DriverError> {
        match self.conversation.tell(request, &[]).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(failed("reach the program")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl ExecControl for Control {
    async fn resize(&self, columns: u16, rows: u16) -> Result<(), DriverError> {
        self.tell(&Request::Resize { columns, rows }).await
    }

    async fn signal(&self, signal: i32) -> Result<(), DriverError> {
        self.tell(&Request::Signal(signal)).await
    }

    async fn wait(&mut self) -> Result<i32, DriverError> {
        while self.status.is_none() {
            match self.conversation.hear().await.map_err(failed("wait for the program"))? {
                Some((Reply::Ended { status }, _)) => self.status = Some(status),
                // Answers to what was told above: there is nothing in them.
                Some(_) => {}
                None => {
                    let text = "the guest's shim is gone, and with it the program's status";
                    return Err(DriverError::Failed(text.to_owned()));
                }
            }
        }
        Ok(self.status.unwrap_or_default())
    }
}
