//! `stapes shutdown`: guests are stopped before the daemon goes.

use std::time::Duration;

use stapes_control::{Control, Request};
use stapes_core::{
    command::Command,
    ids::NodeId,
    instance::{Instance, Target},
    record::Actor,
};

/// Of an instance that does not say `boot.host_shutdown_timeout`, as the dialect has it.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Asks every guest of the node to shut down, all at once, and kills those that do not in time.
pub(crate) async fn stop_guests(control: &Control, node: NodeId) {
    let guests = running(control, node);
    tracing::info!(guests = guests.len(), "stopping guests");
    let stops = guests.into_iter().map(|(target, timeout)| stop(control, target, timeout));
    futures::future::join_all(stops).await;
}

fn running(control: &Control, node: NodeId) -> Vec<(Target, Duration)> {
    let world = control.world();
    let here = |instance: &&Instance| instance.node == node && instance.status.is_up();
    let up = world.instances.values().filter(here);
    up.filter_map(|instance| {
        let project = world.projects.get(&instance.project)?.name.clone();
        let expanded = instance.expanded(&world).ok()?;
        let seconds =
            expanded.config.get("boot.host_shutdown_timeout").and_then(|text| text.parse().ok());
        let timeout = seconds.map_or(TIMEOUT_DEFAULT, Duration::from_secs);
        Some((Target { project, name: instance.name.clone() }, timeout))
    })
    .collect()
}

async fn stop(control: &Control, target: Target, timeout: Duration) {
    for (force, patience) in [(false, timeout + Duration::from_secs(2)), (true, TIMEOUT_DEFAULT)] {
        let command = Command::StopInstance { target: target.clone(), force, timeout };
        match control.submit(command, Request::by(Actor::system())).await {
            Ok(accepted) => {
                let ended =
                    control.until(|world| !world.operations.contains_key(&accepted.operation));
                let in_time = tokio::time::timeout(patience, ended).await.is_ok();
                let up = control
                    .world()
                    .instance(&target.project, &target.name)
                    .is_ok_and(|it| it.status.is_up());
                if in_time && !up {
                    return;
                }
            }
            Err(why) => tracing::warn!(instance = target.name, %why, "not stopped"),
        }
    }
}
