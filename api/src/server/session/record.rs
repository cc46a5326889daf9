//! The output of a program that no client listens to, kept in files.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use stapes_core::ids::{InstanceId, OperationId};
use tokio::{fs::File, io::AsyncWriteExt};

use super::pump::Sink;
use crate::server::fault::Fault;

/// Bytes of one stream that are kept; what follows is dropped.
const KEPT_MAX: u64 = 64 << 20;

/// The directory of recorded outputs, one below it for each instance.
#[derive(Clone, Debug)]
pub(crate) struct OutputFiles {
    directory: PathBuf,
}

/// One stream on its way into a file.
#[derive(Debug)]
pub(crate) struct Recorded {
    file: Option<File>,
    room: u64,
}

impl OutputFiles {
    pub(crate) fn below(state: &Path) -> Self {
        Self { directory: state.join("exec-output") }
    }

    fn of(&self, instance: InstanceId) -> PathBuf {
        self.directory.join(instance.to_string())
    }

    pub(crate) fn file_name(operation: OperationId, stream: &str) -> String {
        format!("exec_{operation}.{stream}")
    }

    pub(crate) async fn create(
        &self,
        instance: InstanceId,
        operation: OperationId,
        stream: &str,
    ) -> std::io::Result<Recorded> {
        let directory = self.of(instance);
        tokio::fs::create_dir_all(&directory).await?;
        let file = File::create(directory.join(Self::file_name(operation, stream))).await?;
        Ok(Recorded { file: Some(file), room: KEPT_MAX })
    }

    /// The names of an instance's files, in order.
    pub(crate) async fn list(&self, instance: InstanceId) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut entries = match tokio::fs::read_dir(self.of(instance)).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(error),
        };
        while let Some(entry) = entries.next_entry().await? {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Where a file that [`OutputFiles::list`] named is.
    pub(crate) fn path(&self, instance: InstanceId, name: &str) -> Result<PathBuf, Fault> {
        let ours = name.strip_prefix("exec_").and_then(|rest| rest.split_once('.'));
        let ours = ours.is_some_and(|(operation, stream)| {
            operation.parse::<OperationId>().is_ok() && matches!(stream, "stdout" | "stderr")
        });
        if ours {
            Ok(self.of(instance).join(name))
        } else {
            Err(Fault::bad_request(format!("Invalid log file name {name:?}")))
        }
    }
}

impl Recorded {
    /// Takes everything and keeps nothing.
    pub(crate) const fn nothing() -> Self {
        Self { file: None, room: 0 }
    }
}

impl Sink for Recorded {
    async fn take(&mut self, bytes: Bytes) -> bool {
        let kept = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        self.room -= kept as u64;
        match &mut self.file {
            Some(file) if kept > 0 => file.write_all(&bytes[..kept]).await.is_ok(),
            Some(_) | None => false,
        }
    }

    async fn end(&mut self) {
        if let Some(mut file) = self.file.take() {
            // A disk that is full shows as a short file; the program's own end is what counts.
            let _ = file.flush().await;
        }
    }
}
