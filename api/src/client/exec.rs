//! Programs in an instance, and its console: the sockets, without a terminal's manners.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use hyper::Method;
use tokio_tungstenite::tungstenite::Message;

use super::{Client, ClientError, escape, transport::Socket};
use crate::wire::{
    exec::{Control, InstanceConsolePost, InstanceExecPost},
    operation::Operation,
};

/// A program that runs, with its sockets connected.
#[derive(Debug)]
pub struct ExecHandle {
    client: Client,
    pub operation: Operation,
    /// Interactive: the terminal, both ways. Otherwise the program's standard input.
    pub stdin: Option<ExecSocket>,
    /// Not there when interactive.
    pub stdout: Option<ExecSocket>,
    pub stderr: Option<ExecSocket>,
    pub control: Option<ExecSocket>,
}

/// The console of an instance.
#[derive(Debug)]
pub struct ConsoleSession {
    pub operation: Operation,
    pub terminal: ExecSocket,
    pub control: ExecSocket,
}

/// What a program wrote, all of it, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub status: i32,
}

/// One stream of a program: bytes, and an empty text frame as its end.
#[derive(Debug)]
pub struct ExecSocket {
    sender: SplitSink<Socket, Message>,
    receiver: SplitStream<Socket>,
}

impl ExecSocket {
    async fn open(client: &Client, operation: &str, secret: &str) -> Result<Self, ClientError> {
        let path = format!("/1.0/operations/{operation}/websocket?secret={}", escape(secret));
        let (sender, receiver) = client.transport.websocket(&path).await?.split();
        Ok(Self { sender, receiver })
    }

    /// The next bytes; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, ClientError> {
        receive(&mut self.receiver).await
    }

    /// # Errors
    /// When the connection is closed.
    pub async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), ClientError> {
        self.sender.send(Message::Binary(bytes.into())).await.map_err(ClientError::broken)
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn end(&mut self) -> Result<(), ClientError> {
        self.sender.send(Message::Text("".into())).await.map_err(ClientError::broken)
    }

    /// # Errors
    /// When the connection is closed.
    pub async fn control(&mut self, control: &Control) -> Result<(), ClientError> {
        let text = serde_json::to_string(control)
            .map_err(|source| ClientError::Decode { what: "control".into(), source })?;
        self.sender.send(Message::Text(text.into())).await.map_err(ClientError::broken)
    }

    /// Its two halves, to send and to receive at the same time.
    #[must_use]
    pub fn split(self) -> (ExecSender, ExecReceiver) {
        (ExecSender(self.sender), ExecReceiver(self.receiver))
    }

    /// All bytes until the end of the stream.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn collect(mut self) -> Result<Vec<u8>, ClientError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.recv().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

/// The half of an [`ExecSocket`] that sends.
#[derive(Debug)]
pub struct ExecSender(SplitSink<Socket, Message>);

impl ExecSender {
    /// # Errors
    /// When the connection is closed.
    pub async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), ClientError> {
        self.0.send(Message::Binary(bytes.into())).await.map_err(ClientError::broken)
    }

    /// # Errors
    /// When the connection is closed.
    pub async fn end(&mut self) -> Result<(), ClientError> {
        self.0.send(Message::Text("".into())).await.map_err(ClientError::broken)
    }
}

/// The half of an [`ExecSocket`] that receives.
#[derive(Debug)]
pub struct ExecReceiver(SplitStream<Socket>);

impl ExecReceiver {
    /// The next bytes; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, ClientError> {
        receive(&mut self.0).await
    }
}

async fn receive(socket: &mut SplitStream<Socket>) -> Result<Option<Bytes>, ClientError> {
    while let Some(message) = socket.next().await {
        match message.map_err(ClientError::broken)? {
            Message::Binary(bytes) => return Ok(Some(bytes)),
            // The barrier: everything before it has arrived.
            Message::Text(text) if text.is_empty() => return Ok(None),
            Message::Text(text) => return Ok(Some(text.into())),
            Message::Close(_) => return Ok(None),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Ok(None)
}

impl Client {
    /// Runs a program in an instance and connects its streams.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached.
    pub async fn exec(
        &self,
        instance: &str,
        post: &InstanceExecPost,
    ) -> Result<ExecHandle, ClientError> {
        let path = format!("/1.0/instances/{}/exec", escape(instance));
        let post = InstanceExecPost { wait_for_websocket: true, ..post.clone() };
        let (operation, mut fds) = self.begin_sockets(&path, &post).await?;
        let mut sockets = BTreeMap::new();
        // The control socket first and the input last: the program starts when all are there.
        for name in ["control", "2", "1", "0"] {
            if let Some(secret) = fds.remove(name) {
                sockets.insert(name, ExecSocket::open(self, &operation.id, &secret).await?);
            }
        }
        Ok(ExecHandle {
            client: self.clone(),
            operation,
            stdin: sockets.remove("0"),
            stdout: sockets.remove("1"),
            stderr: sockets.remove("2"),
            control: sockets.remove("control"),
        })
    }

    /// Runs a program with `input`, and collects all that it writes.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached, or the connection breaks.
    pub async fn exec_output(
        &self,
        instance: &str,
        post: &InstanceExecPost,
        input: &[u8],
    ) -> Result<ExecOutput, ClientError> {
        let post = InstanceExecPost { interactive: false, ..post.clone() };
        let mut handle = self.exec(instance, &post).await?;
        let (stdin, stdout, stderr) =
            (handle.stdin.take(), handle.stdout.take(), handle.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input closes it; that is no failure.
                for chunk in input.chunks(64 << 10) {
                    if stdin.send(Bytes::copy_from_slice(chunk)).await.is_err() {
                        break;
                    }
                }
                let _ = stdin.end().await;
                // Held until the program ended: closing is not the same as ending.
                return Some(stdin);
            }
            None
        };
        let (_stdin, stdout, stderr) = tokio::join!(feed, drain(stdout), drain(stderr));
        let (stdout, stderr) = (stdout?, stderr?);
        Ok(ExecOutput { stdout, stderr, status: handle.wait().await? })
    }

    /// Connects to an instance's console.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached.
    pub async fn console(
        &self,
        instance: &str,
        post: &InstanceConsolePost,
    ) -> Result<ConsoleSession, ClientError> {
        let path = format!("/1.0/instances/{}/console", escape(instance));
        let (operation, mut fds) = self.begin_sockets(&path, post).await?;
        let missing = || ClientError::Unexpected {
            what: "console".into(),
            found: "an operation without secrets".into(),
        };
        let terminal = fds.remove("0").ok_or_else(missing)?;
        let control = fds.remove("control").ok_or_else(missing)?;
        Ok(ConsoleSession {
            control: ExecSocket::open(self, &operation.id, &control).await?,
            terminal: ExecSocket::open(self, &operation.id, &terminal).await?,
            operation,
        })
    }

    /// Begins an operation of class `websocket`; answers it with the secrets of its sockets.
    async fn begin_sockets<B: serde::Serialize>(
        &self,
        path: &str,
        post: &B,
    ) -> Result<(Operation, BTreeMap<String, String>), ClientError> {
        let answer = self.send(Method::POST, path, post).await?;
        let unexpected = |found: &str| ClientError::Unexpected {
            what: format!("POST {path}"),
            found: found.into(),
        };
        let operation =
            answer.operation().ok_or_else(|| unexpected("an answer without operation"))?;
        let fds = operation.metadata.as_ref().and_then(|metadata| metadata.get("fds")).cloned();
        let fds = fds.ok_or_else(|| unexpected("an operation without secrets"))?;
        let fds = serde_json::from_value(fds)
            .map_err(|source| ClientError::Decode { what: format!("POST {path}"), source })?;
        Ok((operation, fds))
    }
}

async fn drain(socket: Option<ExecSocket>) -> Result<Vec<u8>, ClientError> {
    match socket {
        Some(socket) => socket.collect().await,
        None => Ok(Vec::new()),
    }
}

impl ExecHandle {
    /// The program's exit status, once it ended.
    ///
    /// # Errors
    /// When the operation fails or the connection breaks.
    pub async fn wait(self) -> Result<i32, ClientError> {
        let operation = self.client.wait(&self.operation.id).await?;
        let status = operation.metadata.as_ref().and_then(|metadata| metadata.get("return"));
        let status = status.and_then(serde_json::Value::as_i64);
        status.and_then(|status| i32::try_from(status).ok()).ok_or_else(|| {
            ClientError::Unexpected { what: "exec".into(), found: "no exit status".into() }
        })
    }
}
