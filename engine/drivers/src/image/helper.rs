//! Runs `stapes-unpack` for the store and turns its lines into an answer.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use super::{
    ImageConfig,
    job::{JOB_BYTES_MAX, Job, LINE_BYTES_MAX, Line, Progress, Request, Unpacked},
    refusal::Refusal,
    templates::RenderJob,
};

/// What a panicking helper says is worth a line in our log, no more.
const STDERR_BYTES_MAX: u64 = 4096;

/// Reads an image, and unpacks it when the job has a target.
pub(super) async fn read(
    config: &ImageConfig,
    job: Job,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Unpacked, Refusal> {
    match run(config, &Request::Read(Box::new(job)), progress).await? {
        Answer::Unpacked(unpacked) => Ok(*unpacked),
        Answer::Rendered(_) => Err(misheard()),
    }
}

/// The texts, in the order of the sources.
pub(super) async fn render(
    config: &ImageConfig,
    job: RenderJob,
) -> Result<Vec<Result<String, Refusal>>, Refusal> {
    let wanted = job.sources.len();
    match run(config, &Request::Render(Box::new(job)), &|_| {}).await? {
        Answer::Rendered(texts) if texts.len() == wanted => Ok(texts),
        Answer::Rendered(_) | Answer::Unpacked(_) => Err(misheard()),
    }
}

fn misheard() -> Refusal {
    Refusal::Host {
        what: "the unpacking helper answered something else; is it another version?".into(),
    }
}

enum Answer {
    Unpacked(Box<Unpacked>),
    Rendered(Vec<Result<String, Refusal>>),
}

async fn run(
    config: &ImageConfig,
    request: &Request,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Answer, Refusal> {
    let host = |doing: &str| {
        let doing = format!("{doing} {}", config.unpack_helper.display());
        move |error: std::io::Error| Refusal::host(&doing, &error)
    };
    let mut child = Command::new(&config.unpack_helper)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Dropped on a timeout or a cancelled request; the inner process dies with it.
        .kill_on_drop(true)
        .spawn()
        .map_err(host("run"))?;
    let mut line = serde_json::to_vec(request).map_err(|error| host("ask")(error.into()))?;
    line.push(b'\n');
    // Kept open: the helper takes its closing for our death.
    let mut stdin = child.stdin.take().expect("piped");
    if line.len() as u64 > JOB_BYTES_MAX {
        return Err(Refusal::TooMuch { what: "bytes of templates".into(), limit: JOB_BYTES_MAX });
    }
    stdin.write_all(&line).await.map_err(host("ask"))?;
    let wall = Duration::from_secs(config.limits.wall_seconds);
    match tokio::time::timeout(wall, converse(&mut child, progress)).await {
        Ok(answer) => answer,
        Err(_) => {
            drop(child.start_kill());
            drop(child.wait().await);
            Err(Refusal::Died { how: format!("it took more than {} s", wall.as_secs()) })
        }
    }
}

/// Reads lines until the helper closes its stdout; its last word counts.
async fn converse(
    child: &mut Child,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Answer, Refusal> {
    let host = |error: std::io::Error| Refusal::host("hear the unpacking helper", &error);
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let stderr = child.stderr.take().expect("piped");
    let complaints = tokio::spawn(async move {
        let mut said = Vec::new();
        drop(stderr.take(STDERR_BYTES_MAX).read_to_end(&mut said).await);
        String::from_utf8_lossy(&said).into_owned()
    });
    let mut answer = None;
    loop {
        let mut line = Vec::new();
        // No buffer in front of it: that would take the next line away with it.
        let mut limited = (&mut stdout).take(LINE_BYTES_MAX);
        if limited.read_until(b'\n', &mut line).await.map_err(host)? == 0 {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(Line::Progress(now)) => progress(now),
            Ok(Line::Done(unpacked)) => answer = Some(Ok(Answer::Unpacked(unpacked))),
            Ok(Line::Rendered(texts)) => answer = Some(Ok(Answer::Rendered(texts))),
            Ok(Line::Refused(refusal)) => answer = answer.or(Some(Err(refusal))),
            Err(error) => return Err(host(error.into())),
        }
    }
    let status = child.wait().await.map_err(host)?;
    let complaints = complaints.await.unwrap_or_default();
    if !complaints.is_empty() {
        tracing::warn!(%status, complaints, "the unpacking helper complained");
    }
    answer.unwrap_or_else(|| Err(Refusal::Died { how: status.to_string() }))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::{super::job::Owners, *};

    #[tokio::test]
    async fn lines_that_come_together_are_all_heard() {
        let dir = tempfile::tempdir().unwrap();
        let progress = || Line::Progress(Progress { read_bytes: 1, total_bytes: 2 });
        let said = [progress(), progress(), Line::Refused(Refusal::NoRoot)];
        let said: Vec<_> = said.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        let helper = dir.path().join("helper");
        let text = said.join("\n");
        fs::write(&helper, format!("#!/bin/sh\nread job\nprintf '%s\\n' '{text}'\n")).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let config = ImageConfig::new(dir.path().join("images"), helper);
        let heard = std::sync::atomic::AtomicU32::new(0);
        let count = |_| {
            heard.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        let job = Job {
            metadata: dir.path().to_owned(),
            root: None,
            root_is_vm: false,
            target: None,
            expected: None,
            owners: Owners::Mine,
            limits: config.limits.clone(),
        };
        let answer = read(&config, job, &count).await;
        assert_eq!(answer.err(), Some(Refusal::NoRoot));
        assert_eq!(heard.into_inner(), 2);
    }
}
