//! What every image store must do.

use super::{DriverError, Images, Upload};
use crate::ids::Fingerprint;

/// Ways to stage one and the same upload again and again.
#[expect(missing_debug_implementations, reason = "holds closures")]
pub struct Uploads<'a> {
    pub unified: &'a (dyn Fn() -> Upload + Sync),
    pub split: &'a (dyn Fn() -> Upload + Sync),
    /// Something that is no image.
    pub garbage: &'a (dyn Fn() -> Upload + Sync),
}

/// All laws, one after the other, on a store that holds none of the uploads.
///
/// # Panics
/// When a law is broken.
pub async fn all(images: &dyn Images, uploads: Uploads<'_>) {
    for upload in [uploads.unified, uploads.split] {
        a_wrong_claim_keeps_nothing(images, upload).await;
        what_is_kept_is_found_until_it_is_removed(images, upload).await;
    }
    what_is_no_image_is_refused(images, uploads.garbage).await;
}

/// A fingerprint that the sender claimed and the content has not is refused for good.
///
/// # Panics
/// When the law is broken.
pub async fn a_wrong_claim_keeps_nothing(images: &dyn Images, upload: &dyn Fn() -> Upload) {
    let claimed = Fingerprint::new("ab".repeat(32)).expect("64 digits");
    let answer = images.ingest(upload(), Some(&claimed)).await;
    assert!(matches!(answer, Err(DriverError::Refused(_))), "{answer:?}");
    let files = images.files(&claimed).await;
    assert!(matches!(files, Err(DriverError::NotFound(_))), "{files:?}");
}

/// The same upload gives the same answer, and removing is fine however often.
///
/// # Panics
/// When the law is broken.
pub async fn what_is_kept_is_found_until_it_is_removed(
    images: &dyn Images,
    upload: &dyn Fn() -> Upload,
) {
    let first = images.ingest(upload(), None).await.expect("a good image");
    let again = images.ingest(upload(), Some(&first.fingerprint)).await.expect("the same image");
    assert_eq!(first, again);
    let files = images.files(&first.fingerprint).await.expect("it is kept");
    assert_eq!(files.root.is_some(), first.split);
    for _ in 0..2 {
        images.remove(&first.fingerprint).await.expect("removing is repeatable");
    }
    let files = images.files(&first.fingerprint).await;
    assert!(matches!(files, Err(DriverError::NotFound(_))), "{files:?}");
}

/// # Panics
/// When the law is broken.
pub async fn what_is_no_image_is_refused(images: &dyn Images, upload: &dyn Fn() -> Upload) {
    let answer = images.ingest(upload(), None).await;
    assert!(matches!(answer, Err(DriverError::Refused(_))), "{answer:?}");
}
