//! `start`, `stop`, `restart`, `pause`, `resume`.

use stapes_api::{
    client::{Method, escape},
    wire::{instance::Instance, instance_state::InstanceStatePut},
};

use super::{each, targets};
use crate::{
    args::{
        common::InstanceName,
        instance::{StartArgs, StopArgs, Targets},
        session::ConsoleArgs,
    },
    commands::{object::Object, session::console},
    exit::ExitStatus,
    failure::{Failure, Result},
    operation::submit,
    session::Session,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Stop,
    Restart,
    Pause,
    Resume,
}

impl Action {
    /// As the API names it, as it is said while it runs, and as it is said when it is done.
    const fn words(self) -> [&'static str; 3] {
        match self {
            Self::Start => ["start", "starting", "is running"],
            Self::Stop => ["stop", "stopping", "is stopped"],
            Self::Restart => ["restart", "restarting", "is running again"],
            Self::Pause => ["freeze", "pausing", "is paused"],
            Self::Resume => ["unfreeze", "resuming", "is running again"],
        }
    }
}

/// A saved state is resumed unless it is told to be dropped.
pub(crate) async fn start(session: &Session, args: StartArgs) -> Result<ExitStatus> {
    let names = targets(session, &args.targets).await?;
    let stateless = args.stateless;
    let exit = each(session, names.clone(), |name| async move {
        let instance: Instance = {
            let object = Object::instance(&name)?;
            object.explain(session, session.get(&object.path).await).await?
        };
        let stateful = instance.stateful && !stateless;
        let put = InstanceStatePut { timeout: -1, stateful, ..Default::default() };
        change(session, Action::Start, &name, put).await
    })
    .await?;
    attach(session, names, args.console, exit).await
}

pub(crate) async fn stop(session: &Session, action: Action, args: StopArgs) -> Result<ExitStatus> {
    let put = InstanceStatePut {
        timeout: args.timeout,
        force: args.force,
        stateful: args.stateful,
        ..Default::default()
    };
    act(session, action, &args.targets, put, args.console).await
}

pub(crate) async fn freeze(
    session: &Session,
    action: Action,
    targets: &Targets,
) -> Result<ExitStatus> {
    let put = InstanceStatePut { timeout: -1, ..Default::default() };
    act(session, action, targets, put, None).await
}

async fn act(
    session: &Session,
    action: Action,
    typed: &Targets,
    put: InstanceStatePut,
    console: Option<String>,
) -> Result<ExitStatus> {
    let names = targets(session, typed).await?;
    let exit = each(session, names.clone(), |name| {
        let put = put.clone();
        async move { change(session, action, &name, put).await }
    })
    .await?;
    attach(session, names, console, exit).await
}

/// Goes on to the console of the one instance, if that was asked for.
async fn attach(
    session: &Session,
    names: Vec<String>,
    console: Option<String>,
    exit: ExitStatus,
) -> Result<ExitStatus> {
    let Some(kind) = console else { return Ok(exit) };
    let [instance] = names.as_slice() else {
        return Err(Failure::usage("--console is for one instance at a time"));
    };
    let instance = InstanceName { instance: instance.clone() };
    let console = ConsoleArgs { instance, kind, show_log: false, force: false };
    console::run(session, console).await
}

/// Does what cannot be done while it runs: stopped as `stop` says, it is started again also when the
/// work fails.
pub(super) async fn while_stopped<T>(
    session: &Session,
    name: &str,
    stop: InstanceStatePut,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    change(session, Action::Stop, name, stop).await?;
    let done = work.await;
    let start = InstanceStatePut { timeout: -1, ..Default::default() };
    let started = change(session, Action::Start, name, start).await;
    // Why the work failed says more than why the start did.
    let done = done?;
    started.map(|()| done)
}

/// One instance to one state.
pub(super) async fn change(
    session: &Session,
    action: Action,
    name: &str,
    put: InstanceStatePut,
) -> Result<()> {
    let [verb, doing, done] = action.words();
    let put = InstanceStatePut { action: verb.to_owned(), ..put };
    let path = format!("/1.0/instances/{}/state", escape(name));
    let changed = submit(session, Method::PUT, &path, &put, &format!("{doing} {name}")).await;
    if Object::instance(name)?.explain(session, changed).await?.finished() {
        session.printer.say(&format!("{name} {done}"));
    }
    Ok(())
}
