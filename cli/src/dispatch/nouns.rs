//! Nouns with verbs of their own.

use crate::{
    args::{
        config::ConfigCommand,
        file::FileCommand,
        image::{AliasCommand, ImageCommand},
        operation::OperationCommand,
        snapshot::SnapshotCommand,
    },
    commands::{
        config, device, file,
        image::{self, alias},
        object::{self, Noun, Object},
        operation, snapshot,
    },
    exit::ExitStatus,
    failure::Result,
    name,
    session::Session,
};

pub(super) async fn snapshot(session: &Session, command: SnapshotCommand) -> Result<ExitStatus> {
    match command {
        SnapshotCommand::Create(args) => snapshot::create::run(session, args).await,
        SnapshotCommand::Delete(args) => snapshot::delete::run(session, args).await,
        SnapshotCommand::List(args) => snapshot::list::run(session, args).await,
        SnapshotCommand::Rename(args) => {
            let object = Object::snapshot(name::local(&args.instance)?, &args.snapshot);
            object::rename(session, &object, &args.new_name).await
        }
        SnapshotCommand::Restore(args) => snapshot::restore::run(session, args).await,
        SnapshotCommand::Show(args) => {
            let object = Object::snapshot(name::local(&args.instance)?, &args.snapshot);
            object::show(session, &object, args.format.format).await
        }
    }
}

pub(super) async fn config(session: &Session, command: ConfigCommand) -> Result<ExitStatus> {
    match command {
        ConfigCommand::Device(command) => device::run(session, Noun::Instance, command).await,
        ConfigCommand::Edit(args) => config::edit(session, args).await,
        ConfigCommand::Get(args) => config::get(session, args).await,
        ConfigCommand::Set(args) => config::set(session, args).await,
        ConfigCommand::Show(args) => config::show(session, args).await,
        ConfigCommand::Unset(args) => config::unset(session, args).await,
    }
}

pub(super) async fn image(session: &Session, command: ImageCommand) -> Result<ExitStatus> {
    match command {
        ImageCommand::Alias(AliasCommand::Create(args)) => alias::create(session, args).await,
        ImageCommand::Alias(AliasCommand::Delete(args)) => alias::delete(session, args).await,
        ImageCommand::Alias(AliasCommand::List(args)) => alias::list(session, args).await,
        ImageCommand::Alias(AliasCommand::Rename(args)) => alias::rename(session, args).await,
        ImageCommand::Build(args) => image::build::run(session, args).await,
        ImageCommand::Delete(args) => image::delete(session, args).await,
        ImageCommand::Edit(args) => {
            object::edit(session, &image::resolve(session, &args.image).await?).await
        }
        ImageCommand::Export(args) => image::export::run(session, args).await,
        ImageCommand::GetProperty(args) => image::get_property(session, args).await,
        ImageCommand::Import(args) => image::import::run(session, args).await,
        ImageCommand::Info(args) => image::info::run(session, args).await,
        ImageCommand::List(args) => image::list::run(session, args).await,
        ImageCommand::SetProperty(args) => image::set_property(session, args).await,
        ImageCommand::Show(args) => {
            let image = image::resolve(session, &args.image).await?;
            object::show(session, &image, args.format.format).await
        }
        ImageCommand::UnsetProperty(args) => image::unset_property(session, args).await,
    }
}

pub(super) async fn file(session: &Session, command: FileCommand) -> Result<ExitStatus> {
    match command {
        FileCommand::Create(args) => file::create::run(session, args).await,
        FileCommand::Delete(args) => file::delete::run(session, args).await,
        FileCommand::Edit(args) => file::edit::run(session, args).await,
        FileCommand::Pull(args) => file::pull::run(session, args).await,
        FileCommand::Push(args) => file::push::run(session, args).await,
    }
}

pub(super) async fn operation(session: &Session, command: OperationCommand) -> Result<ExitStatus> {
    match command {
        OperationCommand::List(args) => operation::list(session, args).await,
        OperationCommand::Show(args) => operation::show(session, args).await,
        OperationCommand::Watch(args) => operation::watch(session, args).await,
        OperationCommand::Cancel(args) => operation::cancel(session, args).await,
    }
}
