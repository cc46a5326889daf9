//! What every implementation of [`Guests`] must do.
//!
//! A law is given a [`Ground`] and takes from it a fresh host and guests whose root has a shell
//! and the usual small programs.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;

use super::{ExecSession, ExecSpec, ExitCause, Exited, Guests, Stop};
use crate::{
    ids::{Epoch, Generation, InstanceId, PoolId},
    lease::Boottime,
    port::{DriverError, storage::RootLayers},
    spec::{GuestSpec, IdMap, Incarnation, Limits, Security},
};

mod moving;

/// Nothing in these laws may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where laws are tried.
#[async_trait]
pub trait Ground: Send {
    /// A driver over an empty host.
    async fn guests(&mut self) -> Arc<dyn Guests>;
    /// The next daemon's driver over the same host; the one before has been dropped.
    async fn restarted(&mut self) -> Arc<dyn Guests>;
    /// A directory that is not there yet, for checkpoints; whoever asked removes it.
    fn images(&mut self) -> PathBuf;
    /// Why no guest can be checkpointed here, if so: then it must be refused.
    fn not_live(&self) -> Option<&str> {
        None
    }
    /// A guest that does not run yet.
    async fn guest(&mut self) -> (GuestSpec, RootLayers);
}

/// A spec with nothing special; the id follows from `name`.
#[must_use]
pub fn plain_guest(name: &str) -> GuestSpec {
    GuestSpec {
        instance: InstanceId::derive(&["law", name]),
        incarnation: Incarnation { epoch: Epoch(1), generation: Generation(1) },
        operation: None,
        hostname: name.to_owned(),
        pool: PoolId::derive(&["law"]),
        image: None,
        idmap: IdMap { base: 1_700_000_000, size: 65536 },
        limits: Limits::default(),
        security: Security::default(),
        environment: std::collections::BTreeMap::new(),
        nics: Vec::new(),
        disks: Vec::new(),
        template: None,
        files: Vec::new(),
    }
}

/// Every law, one after the other.
pub async fn all(ground: &mut dyn Ground) {
    starting_twice_is_starting_once(ground).await;
    another_incarnation_is_refused_while_one_runs(ground).await;
    stopping_what_does_not_run_is_fine(ground).await;
    a_program_answers_its_output_and_status(ground).await;
    a_terminal_is_one_stream(ground).await;
    a_signal_ends_a_program(ground).await;
    stopping_ends_the_programs(ground).await;
    what_ends_by_itself_is_told_once(ground).await;
    stopping_is_not_told_as_an_exit(ground).await;
    a_frozen_guest_is_shown_frozen(ground).await;
    guests_outlive_the_driver(ground).await;
    what_ended_unheard_is_told_at_adoption(ground).await;
    a_guest_ends_with_its_lease(ground).await;
    a_guest_that_does_not_run_is_not_found(ground).await;
    moving::all(ground).await;
}

fn command(words: &[&str]) -> ExecSpec {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    ExecSpec { command, ..ExecSpec::default() }
}

/// Reads to the end, away from the runtime's threads.
///
/// # Panics
/// When it takes longer than a law may.
pub async fn drain(stream: OwnedFd) -> String {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // A terminal's end is an error (EIO), not an end of file.
        let _ = File::from(stream).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    timely(read).await.expect("the reader ends")
}

async fn timely<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("this takes no longer than patience lasts")
}

/// Runs `words` with `input` and answers output, error output and status.
///
/// # Panics
/// When it cannot be run.
pub async fn run(
    guests: &dyn Guests,
    instance: InstanceId,
    words: &[&str],
    input: &str,
) -> (String, String, i32) {
    let session = timely(guests.exec(instance, &command(words))).await.expect("exec");
    let ExecSession { input: stdin, output, mut control } = session;
    let (stdout, stderr) = output.expect("no terminal was asked for");
    let mut stdin = File::from(stdin);
    // A program that does not read its input may have ended by now.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let (stdout, stderr) = tokio::join!(drain(stdout), drain(stderr));
    (stdout, stderr, timely(control.wait()).await.expect("wait"))
}

async fn next_exit(exits: &mut futures::stream::BoxStream<'static, Exited>) -> Exited {
    timely(exits.next()).await.expect("an exit is told")
}

async fn starting_twice_is_starting_once(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    let first = guests.start(&spec, &root).await.expect("start");
    let second = guests.start(&spec, &root).await.expect("start again");
    assert_eq!(first, second);
    assert_eq!(guests.running(spec.instance).await, Some(first));
    assert_eq!(guests.stop(spec.instance, Stop::Force).await, Ok(ExitCause::Forced));
    assert_eq!(guests.running(spec.instance).await, None);
}

async fn another_incarnation_is_refused_while_one_runs(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    let first = guests.start(&spec, &root).await.expect("start");
    let mut next = spec.clone();
    next.incarnation.generation = next.incarnation.generation.next();
    let refusal = guests.start(&next, &root).await;
    assert!(matches!(refusal, Err(DriverError::Refused(_))), "{refusal:?}");
    assert_eq!(guests.running(spec.instance).await, Some(first));
    guests.stop(spec.instance, Stop::Force).await.expect("stop");
    assert_eq!(
        guests.start(&next, &root).await.map(|running| running.incarnation),
        Ok(next.incarnation)
    );
    guests.stop(spec.instance, Stop::Force).await.expect("stop");
}

async fn stopping_what_does_not_run_is_fine(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    let clean = Stop::Clean { timeout: PATIENCE };
    assert_eq!(guests.stop(spec.instance, Stop::Force).await, Ok(ExitCause::Forced));
    assert_eq!(guests.stop(spec.instance, clean).await, Ok(ExitCause::GuestShutdown));
    guests.start(&spec, &root).await.expect("start");
    assert_eq!(guests.stop(spec.instance, Stop::Force).await, Ok(ExitCause::Forced));
    assert_eq!(guests.stop(spec.instance, Stop::Force).await, Ok(ExitCause::Forced));
}

async fn a_program_answers_its_output_and_status(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    guests.start(&spec, &root).await.expect("start");
    let cases: [(&[&str], &str, &str, i32); 7] = [
        (&["true"], "", "", 0),
        (&["false"], "", "", 1),
        (&["echo", "a", "b"], "a b\n", "", 0),
        (&["sh", "-c", "exit 3"], "", "", 3),
        (&["sh", "-c", "echo out; echo err >&2; exit 4"], "out\n", "err\n", 4),
        (&["cat"], "given", "", 0),
        (&["hostname"], "", "", 0),
    ];
    for (words, stdout, stderr, status) in cases {
        let answer = run(guests.as_ref(), spec.instance, words, "given").await;
        let stdout =
            if words == ["hostname"] { format!("{}\n", spec.hostname) } else { stdout.to_owned() };
        assert_eq!(answer, (stdout, stderr.to_owned(), status), "{words:?}");
    }
    let (_, _, status) = run(guests.as_ref(), spec.instance, &["no-such-program"], "").await;
    assert_eq!(status, 127);
    guests.stop(spec.instance, Stop::Force).await.expect("stop");
}

async fn a_terminal_is_one_stream(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    guests.start(&spec, &root).await.expect("start");
    let wanted = ExecSpec { terminal: Some((100, 30)), ..command(&["echo", "seen"]) };
    let mut session = guests.exec(spec.instance, &wanted).await.expect("exec");
    assert!(session.output.is_none());
    session.control.resize(120, 40).await.expect("resize");
    assert_eq!(drain(session.input).await, "seen\r\n");
    assert_eq!(timely(session.control.wait()).await, Ok(0));
    guests.stop(spec.instance, Stop::Force).await.expect("stop");
}

async fn a_signal_ends_a_program(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    guests.start(&spec, &root).await.expect("start");
    for signal in [15, 9] {
        let mut session =
            guests.exec(spec.instance, &command(&["sleep", "1000"])).await.expect("exec");
        session.control.signal(signal).await.expect("signal");
        assert_eq!(timely(session.control.wait()).await, Ok(128 + signal));
    }
    guests.stop(spec.instance, Stop::Force).await.expect("stop");
}

async fn stopping_ends_the_programs(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    guests.start(&spec, &root).await.expect("start");
    let mut session = guests.exec(spec.instance, &command(&["sleep", "1000"])).await.expect("exec");
    guests.stop(spec.instance, Stop::Force).await.expect("stop");
    assert_eq!(timely(session.control.wait()).await, Ok(128 + 9));
}

async fn what_ends_by_itself_is_told_once(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let mut exits = guests.exits();
    for (word, cause) in
        [("poweroff", ExitCause::GuestShutdown), ("reboot", ExitCause::GuestReboot)]
    {
        let (spec, root) = ground.guest().await;
        guests.start(&spec, &root).await.expect("start");
        let session = guests.exec(spec.instance, &command(&[word])).await.expect("exec");
        let exited = next_exit(&mut exits).await;
        drop(session);
        assert_eq!(
            (exited.instance, exited.incarnation, exited.cause),
            (spec.instance, spec.incarnation, cause)
        );
        assert_eq!(guests.running(spec.instance).await, None);
        let again = guests.start(&spec, &root).await.expect("start again");
        assert_eq!(again.incarnation, spec.incarnation);
        guests.stop(spec.instance, Stop::Force).await.expect("stop");
    }
}

async fn stopping_is_not_told_as_an_exit(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let mut exits = guests.exits();
    let (spec, root) = ground.guest().await;
    guests.start(&spec, &root).await.expect("start");
    let clean = Stop::Clean { timeout: PATIENCE };
    assert_eq!(guests.stop(spec.instance, clean).await, Ok(ExitCause::GuestShutdown));
    guests.start(&spec, &root).await.expect("start");
    guests.stop(spec.instance, Stop::Force).await.expect("stop");
    // The next thing told is the next guest's end.
    guests.start(&spec, &root).await.expect("start");
    let session = guests.exec(spec.instance, &command(&["reboot"])).await.expect("exec");
    assert_eq!(next_exit(&mut exits).await.cause, ExitCause::GuestReboot);
    drop(session);
}

async fn a_frozen_guest_is_shown_frozen(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    guests.start(&spec, &root).await.expect("start");
    for _ in 0..2 {
        guests.freeze(spec.instance).await.expect("freeze");
    }
    assert!(guests.running(spec.instance).await.expect("runs").frozen);
    guests.unfreeze(spec.instance).await.expect("unfreeze");
    assert!(!guests.running(spec.instance).await.expect("runs").frozen);
    guests.freeze(spec.instance).await.expect("freeze");
    assert_eq!(guests.stop(spec.instance, Stop::Force).await, Ok(ExitCause::Forced));
}

async fn guests_outlive_the_driver(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    let before = guests.start(&spec, &root).await.expect("start");
    guests.freeze(spec.instance).await.expect("freeze");
    drop(guests);
    let guests = ground.restarted().await;
    let frozen = super::Running { frozen: true, ..before };
    assert_eq!(guests.adopt().await, Ok((vec![frozen], vec![])));
    assert_eq!(guests.start(&spec, &root).await, Ok(frozen));
    guests.unfreeze(spec.instance).await.expect("unfreeze");
    assert_eq!(run(guests.as_ref(), spec.instance, &["echo", "here"], "").await.0, "here\n");
    assert_eq!(guests.stop(spec.instance, Stop::Force).await, Ok(ExitCause::Forced));
    drop(guests);
    assert_eq!(ground.restarted().await.adopt().await, Ok((vec![], vec![])));
}

async fn what_ended_unheard_is_told_at_adoption(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, root) = ground.guest().await;
    guests.start(&spec, &root).await.expect("start");
    let mut session =
        guests.exec(spec.instance, &command(&["sh", "-c", "cat; reboot"])).await.expect("exec");
    drop(guests);
    // Its input ends only now, and then it reboots the guest, which no driver sees.
    drop(session.input);
    let _ = timely(session.control.wait()).await;
    drop(session.control);
    let guests = ground.restarted().await;
    let mut exits = guests.exits();
    let (running, mut exited) = guests.adopt().await.expect("adopt");
    if exited.is_empty() {
        // It was still going down.
        assert_eq!(running.len(), 1);
        exited.push(next_exit(&mut exits).await);
    }
    assert_eq!(exited.len(), 1);
    let Exited { instance, incarnation, cause, .. } = exited[0];
    assert_eq!(
        (instance, incarnation, cause),
        (spec.instance, spec.incarnation, ExitCause::GuestReboot)
    );
    drop((guests, exits));
    // A daemon may die before it has reported what it heard, so it is told again...
    let guests = ground.restarted().await;
    assert_eq!(guests.adopt().await, Ok((vec![], exited)));
    // ... until somebody acts on it.
    let stopped = guests.stop(spec.instance, Stop::Force).await;
    assert_eq!(stopped, Ok(ExitCause::GuestReboot));
    assert_eq!(guests.adopt().await, Ok((vec![], vec![])));
}

async fn a_guest_ends_with_its_lease(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let mut exits = guests.exits();
    let (spec, root) = ground.guest().await;
    let running = guests.start(&spec, &root).await.expect("start");
    let far = Boottime(Duration::from_secs(u64::from(u32::MAX)));
    for until in [Some(far), None, Some(far)] {
        guests.lease(spec.instance, until).await.expect("lease");
        assert_eq!(guests.running(spec.instance).await, Some(running));
    }
    guests.lease(spec.instance, Some(Boottime::default())).await.expect("lease");
    let exited = next_exit(&mut exits).await;
    assert_eq!(exited.incarnation, spec.incarnation);
    assert_eq!(exited.cause, ExitCause::LeaseExpired);
    assert_eq!(guests.running(spec.instance).await, None);
    assert_eq!(guests.stop(spec.instance, Stop::Force).await, Ok(ExitCause::LeaseExpired));
}

async fn a_guest_that_does_not_run_is_not_found(ground: &mut dyn Ground) {
    let guests = ground.guests().await;
    let (spec, _) = ground.guest().await;
    let id = spec.instance;
    let missing = |answer: Result<(), DriverError>| {
        assert!(matches!(answer, Err(DriverError::NotFound(_))), "{answer:?}");
    };
    missing(guests.freeze(id).await);
    missing(guests.unfreeze(id).await);
    missing(guests.set_limits(id, &Limits::default()).await);
    missing(guests.lease(id, None).await);
    missing(guests.measure(id).await.map(drop));
    missing(guests.exec(id, &command(&["true"])).await.map(drop));
    missing(guests.console(id, (80, 25)).await.map(drop));
    missing(guests.console_log(id).await.map(drop));
}
