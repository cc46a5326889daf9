//! The state of instances: live, and the changes of it.

use std::time::Duration;

use axum::extract::{Path, State};
use bytes::Bytes;
use stapes_core::{
    command::Command,
    ids::{InstanceId, VolumeId},
    instance::{Instance, Target},
    port::{guest::Measured, storage::Usage},
    world::World,
};
use tokio::time::timeout;

use super::{Answer, Api, Fault, answer, body, target};
use crate::{
    server::{bulk::Bulk, params::Params, peer::Caller, show},
    wire::{
        instance::InstancesPut,
        instance_state::{InstanceState, InstanceStatePut},
    },
};

/// How long a guest may keep a list waiting.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How long a clean stop may take unless the client says.
const STOP_WITHIN: Duration = Duration::from_secs(600);

/// What a look at an instance showed.
#[derive(Debug, Default)]
pub(super) struct Looked {
    measured: Option<Measured>,
    usage: Option<Usage>,
}

impl Looked {
    pub(super) fn shown(&self, world: &World, it: &Instance) -> InstanceState {
        show::state(world, it, self.measured.as_ref(), self.usage)
    }
}

/// What cannot be seen in time is left out: a list never waits for one that is sick.
pub(super) async fn look_at(api: &Api, id: InstanceId) -> Looked {
    let found = api.look(|world| world.instances.get(&id).map(|it| (it.status.is_up(), it.pool)));
    let Some((up, pool)) = found else { return Looked::default() };
    let measure = async {
        if !up {
            return None;
        }
        api.drivers.guests.measure(id).await.ok()
    };
    let usage = async { api.drivers.storage.volume_usage(pool, VolumeId::from(id)).await.ok() };
    let (measured, usage) =
        tokio::join!(timeout(LOOK_WITHIN, measure), timeout(LOOK_WITHIN, usage));
    Looked { measured: measured.ok().flatten(), usage: usage.ok().flatten() }
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let target = target(&params, name);
    let find = |world: &World| world.instance(&target.project, &target.name).map(|it| it.id);
    let id = api.look(find)?;
    let looked = look_at(&api, id).await;
    api.look(|world| {
        let it = world.instance(&target.project, &target.name)?;
        Ok(answer::sync(looked.shown(world, it)))
    })
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let put: InstanceStatePut = body(&bytes)?;
    api.begin(command(target(&params, name), &put)?, &caller).await
}

fn command(target: Target, put: &InstanceStatePut) -> Result<Command, Fault> {
    if put.stateful {
        return Err(Fault::bad_request("Stateful stop and start are not supported")
            .hint("repeat it without --stateful"));
    }
    let timeout = match u64::try_from(put.timeout) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
        Ok(_) | Err(_) => STOP_WITHIN,
    };
    let force = put.force;
    Ok(match put.action.as_str() {
        "start" => Command::StartInstance { target },
        "stop" => Command::StopInstance { target, force, timeout },
        "restart" => Command::RestartInstance { target, force, timeout },
        "freeze" => Command::FreezeInstance { target },
        "unfreeze" => Command::UnfreezeInstance { target },
        other => return Err(Fault::bad_request(format!("Unknown action: {other:?}"))),
    })
}

/// One state for all instances of a project; those that are in it already are left alone.
pub(in crate::server) async fn put_all(
    State(api): State<Api>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let put: InstancesPut = body(&bytes)?;
    let put = put.state.ok_or_else(|| Fault::bad_request("No state provided"))?;
    let wanted = params.projects()?;
    let targets: Vec<Target> = api.look(|world| {
        let projects = super::projects(world, &wanted, |project| project.id)?;
        let mut targets = Vec::new();
        for (id, project) in projects {
            let mine = world.instances.values().filter(|it| it.project == id);
            let changing = mine.filter(|it| changes(it, &put.action));
            targets.extend(
                changing.map(|it| Target { project: project.name.clone(), name: it.name.clone() }),
            );
        }
        Ok::<_, Fault>(targets)
    })?;
    let commands = targets.into_iter().map(|target| command(target, &put));
    let commands = commands.collect::<Result<Vec<_>, _>>()?;
    Ok(answer::begun(Bulk::begin(&api, &caller, &put.action, commands).await))
}

/// Whether the action would change the instance.
fn changes(it: &Instance, action: &str) -> bool {
    use stapes_core::instance::Status;
    match it.status {
        Status::Creating => false,
        Status::Stopped => action == "start",
        Status::Running { .. } => matches!(action, "stop" | "restart" | "freeze"),
        Status::Frozen { .. } => matches!(action, "stop" | "unfreeze"),
    }
}
