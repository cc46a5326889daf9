//! Founding, joining, and everything that must not be believed.

use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::*;

fn now() -> DateTime<Utc> {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn member(node: u128) -> Member {
    let hosts = vec![format!("10.0.0.{node}"), format!("n{node}.example.org"), "fd00::7".into()];
    Member { cluster: Uuid::from_u128(0xc1), node: NodeId(Uuid::from_u128(node)), hosts }
}

fn founder() -> (TempDir, ClusterIdentity) {
    let dir = tempfile::tempdir().unwrap();
    let identity = ClusterIdentity::found(dir.path(), &member(1), now()).unwrap();
    (dir, identity)
}

fn join(
    at: &ClusterIdentity,
    dir: &Path,
    member: &Member,
    key: AuthorityKey,
) -> Result<ClusterIdentity, IdentityError> {
    let request = ClusterIdentity::request(dir, member.node)?;
    let admission = at.admit(&request, member, key, now())?;
    ClusterIdentity::install(dir, member, &admission, at.authority_fingerprint())
}

#[test]
fn a_founder_finds_its_identity_again_and_founds_once() {
    let (dir, identity) = founder();
    let again = ClusterIdentity::open(dir.path()).unwrap();
    assert_eq!((again.cluster(), again.node()), (member(1).cluster, member(1).node));
    assert_eq!(again.certificate(), identity.certificate());
    assert!(again.signs());
    let twice = ClusterIdentity::found(dir.path(), &member(1), now()).unwrap_err();
    assert!(matches!(twice, IdentityError::AlreadyMember(_)), "{twice}");
    let request = ClusterIdentity::request(dir.path(), member(1).node).unwrap_err();
    assert!(matches!(request, IdentityError::AlreadyMember(_)), "{request}");
    assert_eq!(ClusterIdentity::open(dir.path()).unwrap().certificate(), identity.certificate());
}

#[test]
fn only_the_owner_can_read_it() {
    let (dir, identity) = founder();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&identity.files().dir), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.path().join("cluster")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["ca.crt", "ca.key", "node.crt", "node.key"]);
}

#[test]
fn a_joiner_becomes_a_member_and_signs_only_with_the_authoritys_key() {
    let (_founder, one) = founder();
    let (second, third) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let two = join(&one, second.path(), &member(2), AuthorityKey::Kept).unwrap();
    assert_eq!((two.cluster(), two.node(), two.signs()), (one.cluster(), member(2).node, false));
    assert_ne!(two.certificate().fingerprint(), one.certificate().fingerprint());
    let refused = join(&two, third.path(), &member(3), AuthorityKey::Kept).unwrap_err();
    assert!(matches!(refused, IdentityError::NoAuthorityKey(_)), "{refused}");
    let three = join(&one, third.path(), &member(3), AuthorityKey::Shared).unwrap();
    assert!(three.signs());
    let fourth = tempfile::tempdir().unwrap();
    join(&three, fourth.path(), &member(4), AuthorityKey::Kept).unwrap();
}

#[test]
fn a_request_may_be_repeated_and_keeps_its_key() {
    let (_founder, one) = founder();
    let dir = tempfile::tempdir().unwrap();
    let first = ClusterIdentity::request(dir.path(), member(2).node).unwrap();
    let admission = one.admit(&first, &member(2), AuthorityKey::Kept, now()).unwrap();
    ClusterIdentity::request(dir.path(), member(2).node).unwrap();
    let trusted = one.authority_fingerprint();
    ClusterIdentity::install(dir.path(), &member(2), &admission, trusted).unwrap();
}

#[test]
fn nothing_is_signed_for_another_nodes_request_or_a_false_name() {
    let (_founder, one) = founder();
    let dir = tempfile::tempdir().unwrap();
    let request = ClusterIdentity::request(dir.path(), member(2).node).unwrap();
    let admit = |request: &str, member: &Member| {
        one.admit(request, member, AuthorityKey::Kept, now()).unwrap_err()
    };
    let other = admit(&request, &member(3));
    assert!(matches!(other, IdentityError::BadRequest { .. }), "{other}");
    let nonsense = admit("-----BEGIN NONSENSE-----", &member(2));
    assert!(matches!(nonsense, IdentityError::BadRequest { .. }), "{nonsense}");
    let of_three = certificate::node_host(member(3).node);
    for host in ["", "10.0.0.1:8443", "0.0.0.0", "a b", "*.example.org", "x.STAPES", &of_three] {
        let member = Member { hosts: vec![host.to_owned()], ..member(2) };
        let bad = admit(&request, &member);
        assert!(matches!(bad, IdentityError::BadHost(_)), "{host:?}: {bad}");
    }
}

#[test]
fn an_admission_is_believed_only_when_everything_fits() {
    let (_founder, one) = founder();
    let (_stranger, other) = founder();
    let dir = tempfile::tempdir().unwrap();
    let request = ClusterIdentity::request(dir.path(), member(2).node).unwrap();
    let right = one.admit(&request, &member(2), AuthorityKey::Kept, now()).unwrap();
    let foreign = other.admit(&request, &member(2), AuthorityKey::Kept, now()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other_key = ClusterIdentity::request(elsewhere.path(), member(2).node).unwrap();
    let for_other_key = one.admit(&other_key, &member(2), AuthorityKey::Kept, now()).unwrap();
    let mixed = Admission { certificate: foreign.certificate.clone(), ..right.clone() };
    let with_key = Admission {
        authority_key: other
            .admit(&request, &member(2), AuthorityKey::Shared, now())
            .unwrap()
            .authority_key,
        ..right.clone()
    };
    let trusted = one.authority_fingerprint();
    for (admission, member) in [
        (&foreign, member(2)),
        (&mixed, member(2)),
        (&for_other_key, member(2)),
        (&with_key, member(2)),
        (&right, member(3)),
        (&right, Member { cluster: Uuid::from_u128(9), ..member(2) }),
    ] {
        let error = ClusterIdentity::install(dir.path(), &member, admission, trusted).unwrap_err();
        assert!(matches!(error, IdentityError::BadAdmission(_)), "{error}");
        let none = ClusterIdentity::open(dir.path()).unwrap_err();
        assert!(matches!(none, IdentityError::NotAMember(_)), "{none}");
    }
    ClusterIdentity::install(dir.path(), &member(2), &right, trusted).unwrap();
}

#[test]
fn a_certificate_is_renewed_for_new_hosts_on_the_same_key() {
    let (_dir, mut one) = founder();
    let before = one.certificate().clone();
    let moved = Member { hosts: vec!["10.9.9.9".to_owned()], ..member(1) };
    let request = one.request_renewal().unwrap();
    let admission = one.admit(&request, &moved, AuthorityKey::Kept, now()).unwrap();
    one.renew(&admission.certificate).unwrap();
    assert_ne!(one.certificate().fingerprint(), before.fingerprint());
    assert_eq!(one.certificate().public_key_fingerprint(), before.public_key_fingerprint());
    let (_stranger, other) = founder();
    assert!(one.renew(other.certificate().pem()).is_err());
}

#[test]
fn a_damaged_identity_says_which_file() {
    let (dir, identity) = founder();
    let files = identity.files();
    let (_stranger, other) = founder();
    for (path, text) in [
        (&files.certificate, "nothing"),
        (&files.certificate, other.certificate().pem()),
        (&files.authority, other.authority_pem()),
        (&files.authority_key, "nothing"),
    ] {
        let right = fs::read_to_string(path).unwrap();
        fs::write(path, text).unwrap();
        let error = ClusterIdentity::open(dir.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
        fs::write(path, right).unwrap();
    }
    ClusterIdentity::open(dir.path()).unwrap();
}
