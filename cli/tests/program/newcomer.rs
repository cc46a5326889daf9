//! What a newcomer types, mistakes included, against the daemon itself with pretend guests: each
//! mistake is answered with what happened, what did not, and what to type next.

use std::process::{Child, Stdio};

use crate::pretend::stapes;

struct Daemon {
    dir: tempfile::TempDir,
    process: Child,
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = stapes(dir.path(), &["daemon", "--simulated", "--log-level", "error"]);
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        let daemon = Self { dir, process };
        daemon.types("waitready", 0, &[]);
        daemon
    }

    /// Types a line, expects how it ends and what is said, and answers all that was.
    fn types(&self, line: &str, exit: i32, said: &[&str]) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let output = stapes(self.dir.path(), &words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(output.status.code(), Some(exit), "stapes {line}: {text}");
        for words in said {
            assert!(text.contains(words), "stapes {line} does not say {words:?}: {text}");
        }
        text
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn mistakes_are_answered_with_what_to_type_next() {
    const UNCHANGED: &str = "Nothing was changed.";
    let daemon = Daemon::start();
    daemon.types("launch demo web", 0, &["web is running"]);
    let cases: &[(&str, i32, &[&str])] = &[
        ("launch nope x", 3, &["Image not found", "stapes image build", UNCHANGED]),
        ("launch images:debian/12 x", 3, &["debian/12", "stapes image build", UNCHANGED]),
        ("launch demo web", 5, &["already exists", "stapes list", UNCHANGED]),
        ("launch demo x -d disk9,size=9GiB", 2, &["no profile brings", UNCHANGED]),
        ("launch demo x -p nope", 3, &["Profile not found", "stapes profile list", UNCHANGED]),
        ("launch --empty vm --vm", 1, &["vm is created, and not started.", "stapes delete vm"]),
        ("list prod:", 2, &["there is no remote `prod`"]),
        ("log wbe", 3, &["nothing ever happened to instance/wbe"]),
        ("start wbe", 3, &["Did you mean web?", "stapes log wbe", UNCHANGED]),
        ("snapshot restore web nope", 3, &["Instance snapshot not found", "stapes snapshot list"]),
        ("--project nope start web", 3, &["Project not found", "stapes project list", UNCHANGED]),
        ("show web --at 2h", 3, &["The log begins after", "stapes log web"]),
        ("show net/nope", 3, &["Network not found", "stapes log network/nope"]),
        ("rebuild nope web --force", 3, &["Image not found"]),
        ("publish web --force", 1, &["not supported"]),
        ("storage volume snapshot list default v", 1, &["not supported"]),
        ("network delete stapesbr0", 1, &["instance web", "take it out", UNCHANGED]),
    ];
    for (line, exit, said) in cases {
        let text = daemon.types(line, *exit, said);
        assert!(!text.contains("no instance `web`"), "stapes {line}: {text}");
        daemon.types("list --columns ns --format csv web", 0, &["web,RUNNING"]);
    }
}

#[test]
fn what_a_profile_brings_is_changed_for_one_instance() {
    let daemon = Daemon::start();
    daemon.types("create demo web -d root,size=9GiB", 0, &[]);
    daemon.types("config device show web", 0, &["size: 9GiB", "pool: default", "type: disk"]);
}

#[test]
fn an_operation_is_taken_back() {
    let daemon = Daemon::start();
    daemon.types("create demo web", 0, &[]);
    daemon.types("config set web limits.memory=1GiB", 0, &[]);
    let listed = daemon.types("operation list --all --format csv", 0, &["Updating instance,web,"]);
    let updated = listed.lines().find(|line| line.contains("Updating")).unwrap();
    let id = updated.split(',').next().unwrap();
    daemon.types(&format!("undo --yes {id}"), 0, &["limits.memory unset", "is undone"]);
    let shown = daemon.types("config show web", 0, &[]);
    assert!(!shown.contains("limits.memory"), "{shown}");
}
