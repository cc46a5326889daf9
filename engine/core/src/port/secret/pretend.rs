//! A sealer for simulations: no key lies anywhere, and none is drawn. It hides the text from whoever
//! searches the log for it; it keeps no secret from anybody who has this program.

use std::{collections::BTreeMap, sync::Mutex, sync::PoisonError};

use super::{KEY_BYTES, KEY_NAME_BYTES, NONCE_BYTES, Sealed, Sealer, SecretError, looks_sealed};
use crate::ids::ProjectId;

/// Keys follow from the project and from how often its key was erased.
#[derive(Debug, Default)]
pub struct PretendSealer(Mutex<BTreeMap<ProjectId, Key>>);

#[derive(Clone, Copy, Debug, Default)]
struct Key {
    erased: u64,
    exists: bool,
}

impl PretendSealer {
    pub fn erase(&self, project: ProjectId) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = keys.entry(project).or_default();
        *key = Key { erased: key.erased + 1, exists: false };
    }

    /// The project's key, made if `draw`.
    fn key(&self, project: ProjectId, draw: bool) -> Option<[u8; KEY_BYTES]> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = keys.entry(project).or_default();
        key.exists |= draw;
        let seed = format!("{project} {}", key.erased);
        key.exists.then(|| blake3::derive_key("stapes pretend key", seed.as_bytes()))
    }
}

impl Sealer for PretendSealer {
    fn seal(&self, project: ProjectId, plain: &str) -> Result<String, SecretError> {
        if looks_sealed(plain) {
            return match plain.parse::<Sealed>()?.project == project {
                true => self.open(plain).map(|_| plain.to_owned()),
                false => Err(SecretError::NotSealed),
            };
        }
        let key = self.key(project, true).ok_or(SecretError::Erased(project))?;
        let mut ciphertext = plain.as_bytes().to_vec();
        let nonce = nonce(&key, project, &ciphertext);
        mask(&key, &nonce, &mut ciphertext);
        Ok(Sealed { project, key: name(&key), nonce, ciphertext }.to_string())
    }

    fn open(&self, sealed: &str) -> Result<String, SecretError> {
        let Sealed { project, key: named, nonce: given, mut ciphertext } = sealed.parse()?;
        let key = self.key(project, false).filter(|key| name(key) == named);
        let key = key.ok_or(SecretError::Erased(project))?;
        mask(&key, &given, &mut ciphertext);
        if nonce(&key, project, &ciphertext) != given {
            return Err(SecretError::NotSealed);
        }
        String::from_utf8(ciphertext).map_err(|_| SecretError::NotSealed)
    }
}

fn name(key: &[u8; KEY_BYTES]) -> [u8; KEY_NAME_BYTES] {
    first(&blake3::derive_key("stapes pretend key name", key))
}

fn nonce(key: &[u8; KEY_BYTES], project: ProjectId, plain: &[u8]) -> [u8; NONCE_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    first(hasher.update(project.0.as_bytes()).update(plain).finalize().as_bytes())
}

fn first<const N: usize>(bytes: &[u8; KEY_BYTES]) -> [u8; N] {
    std::array::from_fn(|index| bytes[index])
}

fn mask(key: &[u8; KEY_BYTES], nonce: &[u8; NONCE_BYTES], text: &mut [u8]) {
    let mut stream = vec![0; text.len()];
    blake3::Hasher::new_keyed(key).update(nonce).finalize_xof().fill(&mut stream);
    text.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::secret::laws;

    impl laws::Ground for PretendSealer {
        fn sealer(&self) -> &dyn Sealer {
            self
        }

        fn erase(&self, project: ProjectId) {
            Self::erase(self, project);
        }
    }

    #[test]
    fn keeps_the_laws() {
        laws::all(&PretendSealer::default());
    }
}
