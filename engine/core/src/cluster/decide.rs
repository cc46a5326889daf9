//! The commands about members, to where each is decided.

use super::{
    create_group, create_token, delete_group, describe_group, enable, rename_group, revoke_token,
};
use crate::{
    command::Command,
    decision::{Context, Decision},
    node,
    rejection::Rejection,
    resource,
    world::World,
};

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "`command::decide` names every command and sends these here"
)]
pub(crate) fn decide(
    world: &World,
    context: &Context,
    command: &Command,
) -> Result<Decision, Rejection> {
    match command {
        Command::EnableCluster(wanted) => enable(world, context, wanted),
        Command::CreateJoinToken { name, secret_hash, expires_at } => {
            create_token(world, context, name, secret_hash, *expires_at)
        }
        Command::RevokeJoinToken { name } => revoke_token(world, context, name),
        Command::JoinNode(wanted) => node::join(world, context, wanted),
        Command::ConfigureNode { name, wanted, expected } => {
            node::configure(world, context, name, wanted, *expected)
        }
        Command::RenameNode { name, to } => node::rename(world, context, name, to),
        Command::RemoveNode { name, force } => node::remove(world, context, name, *force),
        Command::CreateClusterGroup { name, description, members } => {
            create_group(world, context, name, description, members)
        }
        Command::ConfigureClusterGroup { name, description, members } => {
            describe_group(world, context, name, description.as_deref(), members.as_ref())
        }
        Command::RenameClusterGroup { name, to } => rename_group(world, context, name, to),
        Command::DeleteClusterGroup { name } => delete_group(world, context, name),
        Command::EvacuateNode { name, mode } => node::evacuate(world, context, name, *mode),
        Command::RestoreNode { name } => node::restore(world, context, name),
        Command::LoseNode { node, by } => node::lose(world, context, *node, *by),
        Command::ReturnNode { node } => node::recover(world, context, *node),
        Command::FenceNode { node, proof } => node::fence(world, context, *node, *proof),
        Command::PrepareNode { node } => resource::prepare(world, context, *node),
        Command::FinishEvacuation { name, failed } => {
            node::finish_evacuation(world, context, name, failed)
        }
        Command::FinishRestore { name, failed } => {
            node::finish_restore(world, context, name, failed)
        }
        _ => Ok(Decision::for_context(context)),
    }
}
