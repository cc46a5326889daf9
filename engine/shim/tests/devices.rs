//! Devices on a host without v1 hierarchies: the program of BPF decides.

use std::{
    fs,
    process::{Command, Stdio},
};

use stapes_shim::{cgroup::Layout, spec::Limits};

/// Removes the groups also when the test fails.
struct Groups(Layout);

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = self.0.group("guest").destroy();
        self.0.retire();
    }
}

#[test]
fn only_the_devices_of_a_guest_can_be_opened() {
    let name = format!("stapes-devices-{}", std::process::id());
    let mut layout = Layout::discover(&name).expect("cgroups");
    // As on a host with cgroup2 alone.
    layout.legacy.clear();
    layout.prepare().expect("make the groups");
    let groups = Groups(layout);
    let group = groups.0.group("guest");
    group.create(0, &Limits::default()).expect("make the group");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = format!(
        "read go; cd {}; mknod memory c 1 1 && echo made; mknod null c 1 3; \
         head -c 1 memory || echo no memory; echo x > null && echo null",
        directory.path().display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs");
    let procs = group.unified().join("guest/cgroup.procs");
    fs::write(procs, child.id().to_string()).expect("move the child");
    drop(child.stdin.take());
    let output = child.wait_with_output().expect("the child ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "made\nno memory\nnull\n");
}
