//! The one place where everything that may be asked is decided.

use super::Command;
use crate::{
    cluster,
    decision::{Context, Decision},
    image, instance, network,
    node::{self, Node},
    pool, profile, project,
    rejection::Rejection,
    server::{self, Server},
    session,
    task::{Report, Subject},
    volume,
    world::World,
};

/// What would happen. Pure: the same world, context and command always give the same decision.
///
/// # Errors
/// Why the command is refused; nothing happens then.
pub fn decide(world: &World, context: &Context, command: &Command) -> Result<Decision, Rejection> {
    check_reach(world, command)?;
    let mut decision = decide_alone(world, context, command)?;
    // One decider needs no guard: see `Command::is_exclusive`.
    if !decision.is_empty() && world.nodes.len() > 1 {
        guard(&mut decision, context, command);
    }
    Ok(decision)
}

fn guard(decision: &mut Decision, context: &Context, command: &Command) {
    let mut pass = |stream| decision.record(stream, server::Event::CatalogGuarded);
    if command.is_exclusive() {
        Server::guards().for_each(pass);
    } else if command.relies_on_catalog() {
        pass(Server::guard_of(context.operation));
    }
}

/// What a lost node would have to do is refused, not left waiting for its return.
#[allow(clippy::wildcard_enum_match_arm, reason = "the others take no instance's node's work")]
fn check_reach(world: &World, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::StartInstance { target }
        | Command::StopInstance { target, .. }
        | Command::RestartInstance { target, .. }
        | Command::FreezeInstance { target }
        | Command::UnfreezeInstance { target }
        | Command::DeleteInstance { target, force: false }
        | Command::RenameInstance { target, .. }
        | Command::ReconfigureInstance { target, .. }
        | Command::RebuildInstance { target, .. }
        | Command::CreateSnapshot { target, .. }
        | Command::DeleteSnapshot { target, .. }
        | Command::RestoreSnapshot { target, .. }
        | Command::BeginExec { target, .. }
        | Command::BeginConsole { target } => instance::check_reach(world, target),
        Command::DeleteVolume { pool, name } => {
            let node = world.volume(pool, name)?.node;
            world.nodes.get(&node).map_or(Ok(()), Node::reachable)
        }
        _ => Ok(()),
    }
}

fn decide_alone(
    world: &World,
    context: &Context,
    command: &Command,
) -> Result<Decision, Rejection> {
    match command {
        Command::CreateInstance(wanted) => instance::create(world, context, wanted),
        Command::StartInstance { target } => instance::start(world, context, target),
        Command::StopInstance { target, force, timeout } => {
            instance::stop(world, context, target, *force, *timeout)
        }
        Command::RestartInstance { target, force, timeout } => {
            instance::restart(world, context, target, *force, *timeout)
        }
        Command::FreezeInstance { target } => instance::freeze(world, context, target),
        Command::UnfreezeInstance { target } => instance::unfreeze(world, context, target),
        Command::DeleteInstance { target, force } => {
            instance::delete(world, context, target, *force)
        }
        Command::RenameInstance { target, to } => instance::rename(world, context, target, to),
        Command::ReconfigureInstance { target, wanted } => {
            instance::reconfigure(world, context, target, wanted)
        }
        Command::RebuildInstance { target, image } => {
            instance::rebuild(world, context, target, image.as_deref())
        }
        Command::CreateSnapshot { target, name, expires_at } => {
            instance::create_snapshot(world, context, target, name.as_deref(), *expires_at)
        }
        Command::DeleteSnapshot { target, name } => {
            instance::delete_snapshot(world, context, target, name)
        }
        Command::RenameSnapshot { target, from, to } => {
            instance::rename_snapshot(world, context, target, from, to)
        }
        Command::SetSnapshotExpiry { target, name, expires_at } => {
            instance::set_snapshot_expiry(world, context, target, name, *expires_at)
        }
        Command::RestoreSnapshot { target, name } => {
            instance::restore(world, context, target, name)
        }
        Command::MoveInstance { target, to, live } => {
            instance::move_to(world, context, target, to.as_deref(), *live)
        }
        Command::ReplicateInstance { instance } => instance::replicate(world, context, *instance),
        Command::TakeOverInstance { instance } => instance::take_over(world, context, *instance),

        Command::BeginExec { target, command } => {
            session::begin_exec(world, context, target, command)
        }
        Command::BeginConsole { target } => session::begin_console(world, context, target),
        Command::EndSession { operation, how } => session::end(world, context, *operation, how),

        Command::ImportImage(wanted) => image::import(world, context, wanted),
        Command::DescribeImage { project, image, wanted } => {
            image::describe(world, context, project, image, wanted)
        }
        Command::DeleteImage { project, image } => image::delete(world, context, project, image),
        Command::CreateImageAlias { project, alias, image, description } => {
            image::create_alias(world, context, project, alias, image, description)
        }
        Command::ChangeImageAlias { project, alias, rename, image, description } => {
            let change = (rename.as_deref(), image.as_deref(), description.as_deref());
            image::change_alias(world, context, project, alias, change)
        }
        Command::DeleteImageAlias { project, alias } => {
            image::delete_alias(world, context, project, alias)
        }

        Command::CreateProfile { project, name, wanted } => {
            profile::create(world, context, project, name, wanted)
        }
        Command::ConfigureProfile { project, name, wanted, expected } => {
            profile::configure(world, context, (project, name), wanted, *expected)
        }
        Command::RenameProfile { project, name, to } => {
            profile::rename(world, context, project, name, to)
        }
        Command::DeleteProfile { project, name } => profile::delete(world, context, project, name),

        Command::CreateProject { name, description, config } => {
            project::create(world, context, name, description, config)
        }
        Command::ConfigureProject { name, description, config, expected } => {
            project::configure(world, context, name, description.as_deref(), config, *expected)
        }
        Command::RenameProject { name, to } => project::rename(world, context, name, to),
        Command::DeleteProject { name } => project::delete(world, context, name),

        Command::CreateNetwork(wanted) => network::create(world, context, wanted),
        Command::ConfigureNetwork { project, name, description, config, expected } => {
            network::configure(
                world,
                context,
                (project, name),
                description.as_deref(),
                config,
                *expected,
            )
        }
        Command::DeleteNetwork { project, name } => network::delete(world, context, project, name),

        Command::CreatePool { name, driver, description, config } => {
            pool::create(world, context, name, driver, description, config)
        }
        Command::ConfigurePool { name, description, config, expected } => {
            pool::configure(world, context, name, description.as_deref(), config, *expected)
        }
        Command::DeletePool { name } => pool::delete(world, context, name),

        Command::CreateVolume { project, pool, name, description, config, target } => {
            let name = (name.as_str(), target.as_deref());
            volume::create(world, context, (project, pool), name, description, config)
        }
        Command::ConfigureVolume { pool, name, description, config, expected } => {
            volume::configure(
                world,
                context,
                (pool, name),
                description.as_deref(),
                config,
                *expected,
            )
        }
        Command::RenameVolume { pool, name, to } => volume::rename(world, context, pool, name, to),
        Command::DeleteVolume { pool, name } => volume::delete(world, context, pool, name),

        Command::ConfigureServer { config } => server::configure(world, context, config),

        Command::EnableCluster(_)
        | Command::CreateJoinToken { .. }
        | Command::RevokeJoinToken { .. }
        | Command::JoinNode(_)
        | Command::ConfigureNode { .. }
        | Command::RenameNode { .. }
        | Command::RemoveNode { .. }
        | Command::CreateClusterGroup { .. }
        | Command::ConfigureClusterGroup { .. }
        | Command::RenameClusterGroup { .. }
        | Command::DeleteClusterGroup { .. }
        | Command::EvacuateNode { .. }
        | Command::RestoreNode { .. }
        | Command::LoseNode { .. }
        | Command::ReturnNode { .. }
        | Command::FenceNode { .. }
        | Command::PrepareNode { .. }
        | Command::FinishEvacuation { .. }
        | Command::FinishRestore { .. } => cluster::decide(world, context, command),

        Command::AutostartInstance { instance } => instance::autostart(world, context, *instance),

        Command::StartNode(start) => node::start(world, context, start),
        Command::Report(report) => decide_report(world, context, report),
        Command::ObserveExit(exited) => instance::observe_exit(world, context, exited),
        Command::ObserveAdopted { node, instance, running, exited } => {
            let (there, running, exited) = ((*node, *instance), running.as_ref(), exited.as_ref());
            instance::observe_adopted(world, context, there, running, exited)
        }
        Command::ObserveOverheld { node, held } => {
            instance::observe_overheld(world, context, *node, held)
        }
    }
}

fn decide_report(world: &World, context: &Context, report: &Report) -> Result<Decision, Rejection> {
    match report.subject {
        Subject::Instance(id) => instance::report(world, context, id, report),
        Subject::Pool(id) => Ok(pool::report(world, context, id, report)),
        Subject::Network(id) => Ok(network::report(world, context, id, report)),
        Subject::Volume(id) => Ok(volume::report(world, context, id, report)),
        // Nothing waits for the removal of an image's files.
        Subject::Image(_) => Ok(Decision::for_context(context)),
    }
}
