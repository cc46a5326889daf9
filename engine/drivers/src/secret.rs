//! The keys that seal secrets: one file a project, `DIR/PROJECT-ID.key`, 32 bytes from the operating
//! system, drawn when the project's first secret is sealed.
//!
//! **Deleting the file erases the project's secrets**, at once and in every copy of the log: a key in
//! memory is used only while its file is there. A key that is drawn later has another name, so what
//! the old one sealed stays erased and says so. A backup of the log is of use only with a backup of
//! this directory; to erase is to delete there too.
//!
//! A text is sealed with XChaCha20-Poly1305. Its nonce is a keyed BLAKE3 hash of the project and the
//! text (a synthetic nonce, as in SIV): the same text is sealed the same, and two texts never share a
//! nonce, which would be fatal with a nonce that is drawn or counted twice. Opening computes the nonce
//! again, so a sealed text is bound to one key. The project's id and the key's name are authenticated.
//! Three keys follow from the file's: for encryption, for nonces, and the public name.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use stapes_core::{
    ids::ProjectId,
    port::{
        DriverError,
        secret::{
            KEY_BYTES, KEY_NAME_BYTES, NONCE_BYTES, Sealed, Sealer, SecretError, looks_sealed,
        },
    },
};

/// The keys of all projects, in one directory.
#[derive(Debug)]
pub struct ProjectKeys {
    dir: PathBuf,
    read: Mutex<BTreeMap<ProjectId, (Stamp, Key)>>,
}

/// Tells one file from another that took its name, and a file from what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl ProjectKeys {
    /// Makes the directory if it is not there, for the daemon's eyes only.
    ///
    /// # Errors
    /// When it cannot be made or guarded.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, DriverError> {
        let dir = dir.into();
        let prepared = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)));
        prepared.map_err(|error| {
            DriverError::Failed(format!("the keys in {} cannot be used: {error}", dir.display()))
        })?;
        Ok(Self { dir, read: Mutex::default() })
    }

    fn path(&self, project: ProjectId) -> PathBuf {
        self.dir.join(format!("{project}.key"))
    }

    /// The project's key as its file has it now.
    fn key(&self, project: ProjectId) -> Result<Option<Key>, SecretError> {
        let path = self.path(project);
        let failed = |error: io::Error| unusable(&path, &error.to_string());
        let stamp = match fs::metadata(&path) {
            Ok(metadata) => {
                Stamp { inode: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.read().remove(&project);
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        if let Some((known, key)) = self.read().get(&project)
            && *known == stamp
        {
            return Ok(Some(*key));
        }
        let bytes = fs::read(&path).map_err(failed)?;
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| {
            unusable(&path, "it is not a key of 32 bytes; restore it from a backup")
        })?;
        let key = Key::of(&bytes);
        self.read().insert(project, (stamp, key));
        Ok(Some(key))
    }

    /// The project's key; drawn if there is none. Whoever draws second takes the first one's.
    fn key_or_draw(&self, project: ProjectId) -> Result<Key, SecretError> {
        if let Some(key) = self.key(project)? {
            return Ok(key);
        }
        let path = self.path(project);
        self.draw(&path).map_err(|error| unusable(&path, &error.to_string()))?;
        self.key(project)?.ok_or_else(|| unusable(&path, "it vanished just after it was made"))
    }

    /// The key is on the disk, whole, before anything is sealed with it.
    fn draw(&self, path: &Path) -> io::Result<()> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => {}
            Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(lost) => return Err(lost.error),
        }
        fs::File::open(&self.dir)?.sync_all()
    }

    fn read(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProjectId, (Stamp, Key)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unusable(path: &Path, why: &str) -> SecretError {
    SecretError::Failed(format!("the key {} cannot be used: {why}", path.display()))
}

impl Sealer for ProjectKeys {
    fn seal(&self, project: ProjectId, plain: &str) -> Result<String, SecretError> {
        if looks_sealed(plain) {
            let claimed = plain.parse::<Sealed>()?.project;
            if claimed != project {
                return Err(SecretError::NotSealed);
            }
            return self.open(plain).map(|_| plain.to_owned());
        }
        let key = self.key_or_draw(project)?;
        let nonce = key.nonce(project, plain.as_bytes());
        let ciphertext = key
            .cipher()
            .encrypt(&XNonce::from(nonce), payload(plain.as_bytes(), &key.about(project)))
            .map_err(|_| SecretError::Failed("the secret is too long to be sealed".to_owned()))?;
        Ok(Sealed { project, key: key.name, nonce, ciphertext }.to_string())
    }

    fn open(&self, sealed: &str) -> Result<String, SecretError> {
        let Sealed { project, key: name, nonce, ciphertext } = sealed.parse()?;
        let key = self.key(project)?.filter(|key| key.name == name);
        let key = key.ok_or(SecretError::Erased(project))?;
        let plain = key
            .cipher()
            .decrypt(&XNonce::from(nonce), payload(&ciphertext, &key.about(project)))
            .map_err(|_| SecretError::NotSealed)?;
        if key.nonce(project, &plain) != nonce {
            return Err(SecretError::NotSealed);
        }
        String::from_utf8(plain).map_err(|_| SecretError::NotSealed)
    }
}

const fn payload<'a>(msg: &'a [u8], aad: &'a [u8]) -> Payload<'a, 'a> {
    Payload { msg, aad }
}

/// What follows from a key file.
#[derive(Clone, Copy)]
struct Key {
    encryption: [u8; KEY_BYTES],
    nonces: [u8; KEY_BYTES],
    name: [u8; KEY_NAME_BYTES],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:x?})", self.name)
    }
}

impl Key {
    fn of(file: &[u8; KEY_BYTES]) -> Self {
        let derive = |what: &str| blake3::derive_key(what, file);
        Self {
            encryption: derive("stapes 2026-11-21 secrets: encryption"),
            nonces: derive("stapes 2026-11-21 secrets: nonces"),
            name: first(&derive("stapes 2026-11-21 secrets: name of the key")),
        }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.encryption.into())
    }

    fn nonce(&self, project: ProjectId, plain: &[u8]) -> [u8; NONCE_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.nonces);
        first(hasher.update(project.0.as_bytes()).update(plain).finalize().as_bytes())
    }

    /// What is authenticated beside the text.
    fn about(&self, project: ProjectId) -> Vec<u8> {
        [&project.0.as_bytes()[..], &self.name].concat()
    }
}

fn first<const N: usize>(bytes: &[u8; KEY_BYTES]) -> [u8; N] {
    std::array::from_fn(|index| bytes[index])
}

#[cfg(test)]
mod tests {
    use stapes_core::port::secret::laws;

    use super::*;

    struct Ground {
        keys: ProjectKeys,
        dir: tempfile::TempDir,
    }

    impl Ground {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { keys: ProjectKeys::open(dir.path().join("keys")).unwrap(), dir }
        }

        fn again(&self) -> ProjectKeys {
            ProjectKeys::open(self.dir.path().join("keys")).unwrap()
        }
    }

    impl laws::Ground for Ground {
        fn sealer(&self) -> &dyn Sealer {
            &self.keys
        }

        fn erase(&self, project: ProjectId) {
            fs::remove_file(self.keys.path(project)).unwrap();
        }
    }

    fn project() -> ProjectId {
        ProjectId::derive(&["test"])
    }

    #[test]
    fn keeps_the_laws() {
        laws::all(&Ground::new());
    }

    #[test]
    fn the_next_daemon_opens_what_this_one_sealed() {
        let ground = Ground::new();
        let sealed = ground.keys.seal(project(), "tomato").unwrap();
        assert_eq!(ground.again().open(&sealed).unwrap(), "tomato");
        assert_eq!(ground.again().seal(project(), "tomato").unwrap(), sealed);
    }

    #[test]
    fn keys_are_for_the_daemon_only() {
        let ground = Ground::new();
        ground.keys.seal(project(), "tomato").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ground.keys.dir), 0o700);
        assert_eq!(mode(&ground.keys.path(project())), 0o600);
        // Nothing is left of the drawing.
        assert_eq!(fs::read_dir(&ground.keys.dir).unwrap().count(), 1);
    }

    #[test]
    fn who_draws_at_the_same_time_gets_the_same_key() {
        let ground = Ground::new();
        let sealed: Vec<String> = std::thread::scope(|scope| {
            let seal = || ground.again().seal(project(), "tomato").unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(seal)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(sealed.iter().all(|text| *text == sealed[0]));
    }

    #[test]
    fn a_damaged_key_is_named_and_left_alone() {
        let ground = Ground::new();
        let sealed = ground.keys.seal(project(), "tomato").unwrap();
        fs::write(ground.keys.path(project()), "short").unwrap();
        for refused in [ground.keys.open(&sealed), ground.keys.seal(project(), "potato")] {
            let SecretError::Failed(why) = refused.unwrap_err() else { panic!("it is a failure") };
            assert!(why.contains(".key"), "{why}");
        }
        assert_eq!(fs::read(ground.keys.path(project())).unwrap(), b"short");
    }

    #[test]
    fn another_key_under_the_same_name_opens_nothing() {
        let ground = Ground::new();
        let sealed = ground.keys.seal(project(), "tomato").unwrap();
        fs::write(ground.keys.path(project()), [7; KEY_BYTES]).unwrap();
        assert_eq!(ground.keys.open(&sealed), Err(SecretError::Erased(project())));
    }
}
