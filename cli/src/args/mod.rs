//! What can be typed: clap definitions, one file a noun, and nothing that acts.

pub(crate) mod cluster;
pub(crate) mod common;
pub(crate) mod config;
pub(crate) mod device;
pub(crate) mod event;
pub(crate) mod file;
pub(crate) mod image;
pub(crate) mod instance;
pub(crate) mod network;
pub(crate) mod operation;
pub(crate) mod profile;
pub(crate) mod project;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod storage;
pub(crate) mod volume;

use std::{path::PathBuf, time::Duration};

use clap::{Args, ColorChoice, Parser, Subcommand};

use crate::{
    settings::{Flags, Submit},
    units,
};

const AFTER_HELP: &str = "\
Examples:
  stapes init --auto                       make the default pool, network and profile
  stapes launch debian/12 web              a container from an image, started
  stapes shell web                         a root shell in it
  stapes log web                           all that ever happened to it
  stapes undo 01JD9A                       take one operation back

More: stapes help VERB, stapes help exit-codes, stapes explain CODE";

/// System containers and virtual machines on an event log.
#[derive(Debug, Parser)]
#[command(name = "stapes", version, about, after_help = AFTER_HELP, propagate_version = true,
    disable_help_subcommand = true, infer_long_args = false, color = ColorChoice::Auto)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// The project to work in [default: default, or what `project switch` chose]
    #[arg(long, global = true, value_name = "PROJECT", env = crate::settings::env::PROJECT, hide_env = true)]
    project: Option<String>,
    /// The daemon's directory [default: /var/lib/stapes]
    #[arg(long, global = true, value_name = "DIR", env = crate::settings::env::DIR, hide_env = true)]
    dir: Option<PathBuf>,
    /// Say nothing but data, warnings and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Show the requests made and the causes of errors
    #[arg(long, global = true)]
    debug: bool,
    /// Colour: always, never or auto
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true
    )]
    pub(crate) color: ColorChoice,
    /// Why, in your own words; kept on the log with what is done
    #[arg(long, short = 'm', global = true, value_name = "TEXT")]
    reason: Option<String>,
    /// Hand the operation in, print its id and do not wait
    #[arg(long, global = true)]
    no_wait: bool,
    /// Wait at most this long for the operation (90, 30s, 5m); it goes on after that
    #[arg(long, global = true, value_name = "SPAN", value_parser = units::span::parse)]
    wait_timeout: Option<Duration>,
    // Typed by Incus's users; every target is local here.
    #[arg(long, global = true, hide = true)]
    force_local: bool,
    #[arg(long, short = 'v', global = true, hide = true)]
    verbose: bool,
}

impl GlobalArgs {
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            dir: self.dir.clone(),
            project: self.project.clone(),
            quiet: self.quiet,
            debug: self.debug || self.verbose,
            submit: Submit {
                reason: self.reason.clone(),
                no_wait: self.no_wait,
                timeout: self.wait_timeout,
            },
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Instance(instance::InstanceCommand),
    #[command(flatten)]
    Session(session::SessionCommand),
    /// Points in time of an instance: create, list, restore …
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Configuration of an instance or of the server
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Sets of configuration that instances share
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// Several servers that work as one
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Separate spaces of names
    #[command(subcommand)]
    Project(project::ProjectCommand),
    /// Images that instances are made from
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Bridges, addresses and names
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Pools and volumes
    #[command(subcommand)]
    Storage(storage::StorageCommand),
    /// Files inside an instance
    #[command(subcommand)]
    File(file::FileCommand),
    /// What was asked for, with its steps and its outcome; kept for good
    #[command(subcommand, visible_alias = "op")]
    Operation(operation::OperationCommand),
    #[command(flatten)]
    Event(event::EventCommand),
    #[command(flatten)]
    Server(server::ServerCommand),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    /// All verbs with what they take: a change of what users type shows here.
    #[test]
    fn verbs_and_their_flags() {
        let mut lines = Vec::new();
        let mut command = Cli::command();
        command.build();
        describe(&command, "", &mut lines);
        insta::assert_snapshot!(lines.join("\n"));
    }

    fn describe(command: &clap::Command, prefix: &str, lines: &mut Vec<String>) {
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            let name = format!("{prefix}{}", verb.get_name());
            assert!(verb.get_about().is_some(), "`{name} --help` does not say what it does");
            let aliases: Vec<&str> = verb.get_visible_aliases().collect();
            let aliases = if aliases.is_empty() {
                String::new()
            } else {
                format!(" ({})", aliases.join(", "))
            };
            let arguments = verb.get_arguments().filter(|arg| !arg.is_global_set());
            let words: Vec<String> = arguments
                .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
                .map(ToString::to_string)
                .collect();
            if verb.get_subcommands().next().is_none() {
                lines.push(format!("{name}{aliases} {}", words.join(" ")).trim_end().to_owned());
            }
            describe(verb, &format!("{name} "), lines);
        }
    }

    #[test]
    fn a_reason_may_stand_anywhere() {
        for line in [
            "stapes config set web limits.memory=2GiB -m swapping",
            "stapes -m swapping config set web limits.memory=2GiB",
            "stapes network set br0 ipv4.nat=true -m swapping",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.flags().submit.reason.as_deref(), Some("swapping"), "{line}");
        }
    }

    #[test]
    fn incus_users_fingers_are_understood() {
        for line in [
            "stapes launch debian/12 web -c limits.memory=2GiB -d root,size=9GiB -p a,b --vm",
            "stapes init --auto",
            "stapes admin init --preseed",
            "stapes ls -c nsm4 -f csv,noheader type=container",
            "stapes exec web --env A=b --cwd / -T -- ls -l",
            "stapes exec web -- sh -c true",
            "stapes stop --all --force --timeout -1",
            "stapes config set web limits.cpu 2",
            "stapes config device add web eth1 nic network=br1",
            "stapes snapshot create web s0 --expiry 2w",
            "stapes profile assign web default,small",
            "stapes network create br1 ipv4.address=none --type bridge",
            "stapes storage volume attach default data web /srv",
            "stapes image import meta.tar.xz rootfs.squashfs --alias a --alias b",
            "stapes monitor --type lifecycle,operation --pretty",
            "stapes query -X PUT --data {} /1.0 --wait",
            "stapes file push a b web/srv/ -p -r --mode 0644",
            "stapes log export /tmp/x",
            "stapes log web --since 2h -m why",
            "stapes op watch 0193",
            "stapes start web --console",
            "stapes delete -fi web",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
        for line in
            ["stapes start", "stapes start web --all", "stapes list -f xml", "stapes rename a"]
        {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
