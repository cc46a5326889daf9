//! What every implementation of [`Sealer`] must do.

use super::{PREFIX, Sealer, SecretError, looks_sealed};
use crate::ids::ProjectId;

/// Where laws are tried.
pub trait Ground {
    fn sealer(&self) -> &dyn Sealer;
    /// The key of a project is deleted, behind the sealer's back.
    fn erase(&self, project: ProjectId);
}

const TEXTS: [&str; 5] = ["", "tomato", "line\nline", "ключ", "sealed:"];

/// Every law, one after the other.
///
/// # Panics
/// When one is broken.
pub fn all(ground: &dyn Ground) {
    what_is_sealed_opens(ground.sealer());
    the_same_text_is_sealed_the_same(ground.sealer());
    what_is_sealed_already_stays(ground.sealer());
    what_only_looks_sealed_is_refused(ground.sealer());
    what_was_erased_is_gone(ground);
}

fn project(name: &str) -> ProjectId {
    ProjectId::derive(&["secret-laws", name])
}

fn what_is_sealed_opens(sealer: &dyn Sealer) {
    let long = "x".repeat(64 * 1024);
    for text in TEXTS.into_iter().chain([long.as_str()]) {
        let sealed = sealer.seal(project("a"), text).expect("it is sealed");
        assert!(looks_sealed(&sealed));
        let body = sealed.strip_prefix(PREFIX).unwrap_or_default();
        assert!(text.len() < 6 || !body.contains(text));
        assert_eq!(sealer.open(&sealed).as_deref(), Ok(text));
    }
}

fn the_same_text_is_sealed_the_same(sealer: &dyn Sealer) {
    let seal = |name, text| sealer.seal(project(name), text).expect("it is sealed");
    assert_eq!(seal("a", "tomato"), seal("a", "tomato"));
    assert_ne!(seal("a", "tomato"), seal("a", "potato"));
    assert_ne!(seal("a", "tomato"), seal("b", "tomato"));
}

fn what_is_sealed_already_stays(sealer: &dyn Sealer) {
    let sealed = sealer.seal(project("a"), "tomato").expect("it is sealed");
    assert_eq!(sealer.seal(project("a"), &sealed), Ok(sealed));
}

fn what_only_looks_sealed_is_refused(sealer: &dyn Sealer) {
    let sealed = sealer.seal(project("a"), "tomato").expect("it is sealed");
    assert_eq!(sealer.seal(project("b"), &sealed), Err(SecretError::NotSealed));
    let short = &sealed[..sealed.len() - 4];
    let changed = |at: usize| {
        let mut text = sealed.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(text).expect("it is ASCII")
    };
    let mut forged: Vec<String> = (PREFIX.len()..sealed.len() - 1).map(changed).collect();
    forged.extend([short, PREFIX, "sealed:v1:?", "sealed:v1:AAAA"].map(str::to_owned));
    for text in forged {
        assert!(sealer.seal(project("a"), &text).is_err(), "{text} is taken");
        assert!(sealer.open(&text).is_err(), "{text} is opened");
    }
    assert_eq!(sealer.open("tomato"), Err(SecretError::NotSealed));
}

fn what_was_erased_is_gone(ground: &dyn Ground) {
    let (gone, stays) = (project("gone"), project("stays"));
    let sealer = ground.sealer();
    let lost = sealer.seal(gone, "tomato").expect("it is sealed");
    let kept = sealer.seal(stays, "tomato").expect("it is sealed");
    ground.erase(gone);
    assert_eq!(sealer.open(&lost), Err(SecretError::Erased(gone)));
    assert_eq!(sealer.open(&kept).as_deref(), Ok("tomato"));
    // A new key seals anew, and opens nothing old.
    let anew = sealer.seal(gone, "tomato").expect("it is sealed");
    assert_ne!(anew, lost);
    assert_eq!(sealer.open(&anew).as_deref(), Ok("tomato"));
    assert_eq!(sealer.open(&lost), Err(SecretError::Erased(gone)));
    assert_eq!(sealer.seal(gone, &lost), Err(SecretError::Erased(gone)));
}
