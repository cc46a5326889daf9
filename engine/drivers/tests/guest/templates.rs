//! Files that an image wants inside: there before init begins, the guest's own, and never elsewhere.

use std::os::unix::fs::{MetadataExt as _, symlink};

use stapes_core::{
    port::guest::{Guests, Stop, laws::run},
    template::RenderedFile,
};

use crate::host::{Host, Kind};

fn file(path: &str, content: &str) -> RenderedFile {
    let (path, content) = (path.to_owned(), content.to_owned());
    RenderedFile { path, content, ..RenderedFile::default() }
}

async fn files_are_written(kind: Kind) {
    let mut host = Host::new(kind);
    let outside = host.directory.path().join("outside");
    std::fs::write(&outside, "safe").unwrap();
    let (mut spec, root) = host.busybox();
    let tree = host.directory.path().join("busybox");
    symlink(&outside, tree.join("etc/trap")).unwrap();
    symlink("/proc/1/root", tree.join("etc/magic")).unwrap();
    let secret =
        RenderedFile { mode: Some(0o600), uid: Some(7), gid: Some(8), ..file("/srv/x", "s") };
    spec.files = vec![
        file("/etc/hostname", "one\n"),
        secret,
        file("../../outside", "no"),
        file("/etc/trap", "no"),
        file("/etc/magic/outside", "no"),
        RenderedFile { create_only: true, ..file("/etc/passwd", "no") },
    ];
    let driver = host.driver();
    driver.start(&spec, &root).await.unwrap();
    let say = async |script: &str| {
        let (out, _, _) = run(driver.as_ref(), spec.instance, &["sh", "-c", script], "").await;
        out.trim_end().to_owned()
    };
    assert_eq!(say("cat /etc/hostname").await, "one");
    assert_eq!(say("stat -c '%u %g %a' /srv/x /etc/hostname").await, "7 8 600\n0 0 644");
    assert_eq!(say("head -c 4 /etc/passwd").await, "root");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "safe");
    assert_eq!(outside.metadata().unwrap().uid(), 0);
    driver.stop(spec.instance, Stop::Force).await.unwrap();
    spec.incarnation.generation = spec.incarnation.generation.next();
    spec.files = vec![file("/etc/hostname", "two\n")];
    driver.start(&spec, &root).await.unwrap();
    assert_eq!(
        say("cat /etc/hostname; stat -c '%u %g %a' /dev/null /dev").await,
        "two\n0 0 666\n0 0 755"
    );
    driver.stop(spec.instance, Stop::Force).await.unwrap();
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn files_are_written_on_overlays() {
    files_are_written(Kind::Overlay).await;
}

#[tokio::test]
async fn files_are_written_on_plain_roots() {
    files_are_written(Kind::Plain).await;
}
