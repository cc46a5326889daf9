//! `stapes cluster …`

use super::keyed;
use crate::{
    args::cluster::{ClusterCommand, GroupCommand},
    commands::{
        cluster::{group, make, member, status, token},
        object::{self, Object},
    },
    exit::ExitStatus,
    failure::Result,
    name,
    session::Session,
};

pub(super) async fn cluster(session: &Session, command: ClusterCommand) -> Result<ExitStatus> {
    match command {
        ClusterCommand::Enable(args) => make::enable(session, args).await,
        ClusterCommand::Add(args) => token::add(session, args).await,
        ClusterCommand::Join(args) => make::join(session, args).await,
        ClusterCommand::List(args) => member::list(session, args).await,
        ClusterCommand::Status(args) => status::run(session, args).await,
        ClusterCommand::Info(args) => member::info(session, args).await,
        ClusterCommand::Show(args) => {
            object::show(session, &Object::member(&args.name)?, args.format.format).await
        }
        ClusterCommand::Edit(args) => object::edit(session, &Object::member(&args.name)?).await,
        ClusterCommand::Get(args) => keyed::get(session, Object::member, args).await,
        ClusterCommand::Set(args) => keyed::set(session, Object::member, args).await,
        ClusterCommand::Unset(args) => keyed::unset(session, Object::member, args).await,
        ClusterCommand::Rename(args) => member::rename(session, args).await,
        ClusterCommand::Remove(args) => member::remove(session, args).await,
        ClusterCommand::Evacuate(args) => member::evacuate(session, args).await,
        ClusterCommand::Restore(args) => member::restore(session, args).await,
        ClusterCommand::Fence(args) => member::fence(session, args).await,
        ClusterCommand::ListTokens(args) => token::list(session, args).await,
        ClusterCommand::RevokeToken(args) => token::revoke(session, args).await,
        ClusterCommand::Group(command) => Box::pin(groups(session, command)).await,
    }
}

async fn groups(session: &Session, command: GroupCommand) -> Result<ExitStatus> {
    match command {
        GroupCommand::Add(args) => group::add(session, args).await,
        GroupCommand::Assign(args) => group::assign(session, args).await,
        GroupCommand::Create(args) => group::create(session, args).await,
        GroupCommand::Delete(args) => object::delete(session, &Object::group(&args.name)?).await,
        GroupCommand::Edit(args) => object::edit(session, &Object::group(&args.name)?).await,
        GroupCommand::List(args) => group::list(session, args).await,
        GroupCommand::Remove(args) => group::remove(session, args).await,
        GroupCommand::Rename(args) => {
            let new_name = name::local(&args.new_name)?;
            object::rename(session, &Object::group(&args.name)?, new_name).await
        }
        GroupCommand::Show(args) => {
            object::show(session, &Object::group(&args.name)?, args.format.format).await
        }
    }
}
