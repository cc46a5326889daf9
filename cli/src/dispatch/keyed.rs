//! Nouns whose things are configured by keys.

use crate::{
    args::{
        common::{GetArgs, SetArgs, UnsetArgs},
        network::NetworkCommand,
        profile::ProfileCommand,
        project::ProjectCommand,
        storage::StorageCommand,
        volume::VolumeCommand,
    },
    commands::{
        device, network,
        object::{self, Noun, Object},
        profile, project, storage, volume,
    },
    exit::ExitStatus,
    failure::Result,
    name, pairs,
    session::Session,
};

/// How the thing of a name is found.
type Find = fn(&str) -> Result<Object>;

pub(super) async fn get(session: &Session, find: Find, args: GetArgs) -> Result<ExitStatus> {
    object::get(session, &find(&args.name)?, &args.key, args.property).await
}

pub(super) async fn set(session: &Session, find: Find, args: SetArgs) -> Result<ExitStatus> {
    let pairs = pairs::parse(&args.pairs)?;
    object::set(session, &find(&args.name)?, pairs, args.property).await
}

pub(super) async fn unset(session: &Session, find: Find, args: UnsetArgs) -> Result<ExitStatus> {
    object::unset(session, &find(&args.name)?, &args.key, args.property).await
}

pub(super) async fn profile(session: &Session, command: ProfileCommand) -> Result<ExitStatus> {
    match command {
        ProfileCommand::Add(args) => profile::add(session, args).await,
        ProfileCommand::Assign(args) => profile::assign(session, args).await,
        ProfileCommand::Copy(args) => profile::copy(session, args).await,
        ProfileCommand::Create(args) => profile::create(session, args).await,
        ProfileCommand::Delete(args) => {
            object::delete(session, &Object::profile(&args.name)?).await
        }
        ProfileCommand::Device(command) => device::run(session, Noun::Profile, command).await,
        ProfileCommand::Edit(args) => object::edit(session, &Object::profile(&args.name)?).await,
        ProfileCommand::Get(args) => get(session, Object::profile, args).await,
        ProfileCommand::List(args) => profile::list(session, args).await,
        ProfileCommand::Remove(args) => profile::remove(session, args).await,
        ProfileCommand::Rename(args) => {
            let new_name = name::local(&args.new_name)?;
            object::rename(session, &Object::profile(&args.name)?, new_name).await
        }
        ProfileCommand::Set(args) => set(session, Object::profile, args).await,
        ProfileCommand::Show(args) => {
            object::show(session, &Object::profile(&args.name)?, args.format.format).await
        }
        ProfileCommand::Unset(args) => unset(session, Object::profile, args).await,
    }
}

pub(super) async fn project(session: &Session, command: ProjectCommand) -> Result<ExitStatus> {
    match command {
        ProjectCommand::Create(args) => project::create(session, args).await,
        ProjectCommand::Delete(args) => project::delete(session, args).await,
        ProjectCommand::Edit(args) => object::edit(session, &Object::project(&args.name)?).await,
        ProjectCommand::Get(args) => get(session, Object::project, args).await,
        ProjectCommand::GetCurrent => project::get_current(session),
        ProjectCommand::Info(args) => project::info(session, args).await,
        ProjectCommand::List(args) => project::list(session, args).await,
        ProjectCommand::Rename(args) => {
            let new_name = name::local(&args.new_name)?;
            object::rename(session, &Object::project(&args.name)?, new_name).await
        }
        ProjectCommand::Set(args) => set(session, Object::project, args).await,
        ProjectCommand::Show(args) => {
            object::show(session, &Object::project(&args.name)?, args.format.format).await
        }
        ProjectCommand::Switch(args) => project::switch(session, args).await,
        ProjectCommand::Unset(args) => unset(session, Object::project, args).await,
    }
}

pub(super) async fn network(session: &Session, command: NetworkCommand) -> Result<ExitStatus> {
    match command {
        NetworkCommand::Attach(args) => network::attach(session, Noun::Instance, args).await,
        NetworkCommand::AttachProfile(args) => network::attach(session, Noun::Profile, args).await,
        NetworkCommand::Create(args) => network::create(session, args).await,
        NetworkCommand::Delete(args) => {
            object::delete(session, &Object::network(&args.name)?).await
        }
        NetworkCommand::Detach(args) => network::detach(session, Noun::Instance, args).await,
        NetworkCommand::DetachProfile(args) => network::detach(session, Noun::Profile, args).await,
        NetworkCommand::Edit(args) => object::edit(session, &Object::network(&args.name)?).await,
        NetworkCommand::Get(args) => get(session, Object::network, args).await,
        NetworkCommand::Info(args) => network::info(session, args).await,
        NetworkCommand::List(args) => network::list(session, args).await,
        NetworkCommand::ListAllocations(args) => network::allocations(session, args).await,
        NetworkCommand::ListLeases(args) => network::leases(session, args).await,
        NetworkCommand::Rename(args) => {
            let new_name = name::local(&args.new_name)?;
            object::rename(session, &Object::network(&args.name)?, new_name).await
        }
        NetworkCommand::Set(args) => set(session, Object::network, args).await,
        NetworkCommand::Show(args) => {
            object::show(session, &Object::network(&args.name)?, args.format.format).await
        }
        NetworkCommand::Unset(args) => unset(session, Object::network, args).await,
    }
}

pub(super) async fn storage(session: &Session, command: StorageCommand) -> Result<ExitStatus> {
    match command {
        StorageCommand::Create(args) => storage::create(session, args).await,
        StorageCommand::Delete(args) => object::delete(session, &Object::pool(&args.name)?).await,
        StorageCommand::Edit(args) => object::edit(session, &Object::pool(&args.name)?).await,
        StorageCommand::Get(args) => get(session, Object::pool, args).await,
        StorageCommand::Info(args) => storage::info(session, args).await,
        StorageCommand::List(args) => storage::list(session, args).await,
        StorageCommand::Set(args) => set(session, Object::pool, args).await,
        StorageCommand::Show(args) => {
            object::show(session, &Object::pool(&args.name)?, args.format.format).await
        }
        StorageCommand::Unset(args) => unset(session, Object::pool, args).await,
        StorageCommand::Volume(command) => Box::pin(volume(session, command)).await,
    }
}

async fn volume(session: &Session, command: VolumeCommand) -> Result<ExitStatus> {
    match command {
        VolumeCommand::Attach(args) => volume::attach(session, args).await,
        VolumeCommand::Copy(args) => volume::copy(session, args).await,
        VolumeCommand::Create(args) => volume::create(session, args).await,
        VolumeCommand::Delete(args) => object::delete(session, &volume::object(&args)?).await,
        VolumeCommand::Detach(args) => volume::detach(session, args).await,
        VolumeCommand::Edit(args) => object::edit(session, &volume::object(&args)?).await,
        VolumeCommand::Get(args) => {
            object::get(session, &volume::object(&args.volume)?, &args.key, args.property).await
        }
        VolumeCommand::Info(args) => volume::info(session, args).await,
        VolumeCommand::List(args) => volume::list(session, args).await,
        VolumeCommand::Rename(args) => {
            object::rename(session, &volume::object(&args.volume)?, &args.new_name).await
        }
        VolumeCommand::Set(args) => {
            let pairs = pairs::parse(&args.pairs)?;
            object::set(session, &volume::object(&args.volume)?, pairs, args.property).await
        }
        VolumeCommand::Show(args) => {
            object::show(session, &volume::object(&args.volume)?, args.format.format).await
        }
        VolumeCommand::Snapshot(command) => volume::snapshot::run(session, command).await,
        VolumeCommand::Unset(args) => {
            object::unset(session, &volume::object(&args.volume)?, &args.key, args.property).await
        }
    }
}
