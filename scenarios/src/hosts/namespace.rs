//! Network namespaces and the cables between them: what stands for machines and switches.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// A network namespace of our own; it goes with everything in it when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// # Panics
    /// Without root, or when there is one of that name.
    #[must_use]
    pub fn new(name: String) -> Self {
        done(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.run(&["ip", "link", "set", "lo", "up"]);
        namespace
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A program in this network, and in nothing else that is new: cgroups and disks are the
    /// host's. It has the process id of what is spawned.
    #[must_use]
    pub fn program(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program.into());
        command
    }

    /// Runs a program to its end.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, words: &[&str]) -> String {
        let (program, arguments) = words.split_first().expect("a program");
        done(self.program(program).args(arguments))
    }

    /// A bridge in here, for cables to end in.
    pub fn switch(&self, name: &str) {
        self.run(&["ip", "link", "add", name, "type", "bridge", "forward_delay", "0"]);
        self.run(&["ip", "link", "set", name, "up"]);
    }

    /// A cable from `inside` here to a switch over there.
    pub fn plug(&self, inside: &str, there: &Self, port: &str, switch: &str) {
        let (mine, theirs) = (&self.name, &there.name);
        let made = ["ip", "link", "add", inside, "netns", mine, "type", "veth"];
        let peer = ["peer", "name", port, "netns", theirs];
        done(Command::new(made[0]).args(&made[1..]).args(peer));
        there.run(&["ip", "link", "set", port, "master", switch, "up"]);
        self.run(&["ip", "link", "set", inside, "up"]);
    }

    pub fn address(&self, interface: &str, address: &str) {
        self.run(&["ip", "address", "add", address, "dev", interface]);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// Runs it to its end and answers what it wrote.
///
/// # Panics
/// When it fails, with what it said.
pub(super) fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?} ended with {status}:\n{said}");
    String::from_utf8_lossy(&stdout).into_owned()
}
