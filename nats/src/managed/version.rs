//! Which nats-server it is, and whether it will do.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

use super::ManagedError;

/// Atomic batches with message ids.
const NEEDED: [u64; 3] = [2, 12, 1];
/// Replicated streams that are synced by the batch.
const ADVISED: [u64; 3] = [2, 15, 0];

pub(super) async fn check(binary: &Path) -> Result<(), ManagedError> {
    let output = Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| ManagedError::NoBinary { binary: binary.to_owned(), source })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.trim().rsplit('v').next().unwrap_or_default();
    let number = parse(version);
    if number < NEEDED {
        let version = if version.is_empty() { "unknown" } else { version }.to_owned();
        return Err(ManagedError::TooOld { binary: binary.to_owned(), version });
    }
    if number < ADVISED {
        tracing::warn!(
            version,
            "nats-server 2.15 or newer appends to three servers fifteen times faster"
        );
    }
    Ok(())
}

/// The numbers of a version; what cannot be read counts as nought.
fn parse(version: &str) -> [u64; 3] {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse("2.15.1"), [2, 15, 1]);
        assert_eq!(parse("2.16.0-RC.1"), [2, 16, 0]);
        assert!(parse("2.9.25") < NEEDED && parse("2.12.0") < NEEDED && parse("2.12.1") >= NEEDED);
        assert!(parse("") < NEEDED);
    }
}
