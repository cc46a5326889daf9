//! The keys that seal secrets: one file a project, `DIR/PROJECT-ID.key`, 32 bytes from the operating
//! system, drawn when the project's first secret is sealed. Beside it may lie keys that only open:
//! `DIR/PROJECT-ID.NAME.key`, which other nodes of the cluster drew at the same time.
//!
//! **Deleting the files erases the project's secrets**, at once and in every copy of the log: a key in
//! memory is used only while its file is there. A key that is drawn later has another name, so what
//! the old one sealed stays erased and says so. A backup of the log is of use only with a backup of
//! this directory; to erase is to delete there too, and on every member of the cluster: whoever misses
//! a key asks the others for it.
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
    read: Mutex<BTreeMap<PathBuf, (Stamp, Key)>>,
}

/// What a key is called, which is no secret.
pub type KeyName = [u8; KEY_NAME_BYTES];

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

    /// Where the key lies that is of that name and not the one to seal with.
    fn path_of(&self, project: ProjectId, name: &KeyName) -> PathBuf {
        let name = u64::from_be_bytes(*name);
        self.dir.join(format!("{project}.{name:016x}.key"))
    }

    /// The project's key as its file has it now.
    fn key(&self, project: ProjectId) -> Result<Option<Key>, SecretError> {
        self.key_at(self.path(project))
    }

    /// The project's key of that name, wherever it is.
    fn named(&self, project: ProjectId, name: &KeyName) -> Result<Option<Key>, SecretError> {
        match self.key(project)?.filter(|key| key.name == *name) {
            Some(key) => Ok(Some(key)),
            None => {
                let key = self.key_at(self.path_of(project, name))?;
                Ok(key.filter(|key| key.name == *name))
            }
        }
    }

    fn key_at(&self, path: PathBuf) -> Result<Option<Key>, SecretError> {
        let failed = |error: io::Error| unusable(&path, &error.to_string());
        let stamp = match fs::metadata(&path) {
            Ok(metadata) => {
                Stamp { inode: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.read().remove(&path);
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        if let Some((known, key)) = self.read().get(&path)
            && *known == stamp
        {
            return Ok(Some(*key));
        }
        let bytes = fs::read(&path).map_err(failed)?;
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| {
            unusable(&path, "it is not a key of 32 bytes; restore it from a backup")
        })?;
        let key = Key::of(&bytes);
        self.read().insert(path, (stamp, key));
        Ok(Some(key))
    }

    /// Whether the key of that name is here, or any to seal with.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn has(&self, project: ProjectId, name: Option<&KeyName>) -> Result<bool, SecretError> {
        let key = match name {
            Some(name) => self.named(project, name)?,
            None => self.key(project)?,
        };
        Ok(key.is_some())
    }

    /// The key itself, for another node of the cluster.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be read.
    pub fn give(
        &self,
        project: ProjectId,
        name: Option<&KeyName>,
    ) -> Result<[u8; KEY_BYTES], DriverError> {
        let missing = || DriverError::NotFound(format!("a key of project {project}"));
        let own = self.key(project)?;
        let path = match name {
            Some(name) if own.is_none_or(|own| own.name != *name) => self.path_of(project, name),
            Some(_) | None => self.path(project),
        };
        let key = self.key_at(path.clone())?.ok_or_else(missing)?;
        let bytes = fs::read(&path).map_err(|error| unusable(&path, &error.to_string()))?;
        let bytes = bytes.try_into().map_err(|_| missing())?;
        let is_it = Key::of(&bytes).name == *name.unwrap_or(&key.name);
        if is_it { Ok(bytes) } else { Err(missing()) }
    }

    /// Keeps a key that another node of the cluster gave: as the one to seal with if there is none,
    /// else for opening.
    ///
    /// # Errors
    /// When it is not the one that was wanted, or cannot be kept.
    pub fn keep(
        &self,
        project: ProjectId,
        wanted: Option<&KeyName>,
        bytes: &[u8],
    ) -> Result<(), DriverError> {
        let bytes: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| {
            DriverError::Failed(format!("what came as a key of project {project} is none"))
        })?;
        let name = Key::of(&bytes).name;
        if wanted.is_some_and(|wanted| *wanted != name) {
            let text = format!("another key of project {project} came than was asked for");
            return Err(DriverError::Failed(text));
        }
        let path = match self.key(project)? {
            None => self.path(project),
            Some(own) if own.name == name => return Ok(()),
            Some(_) => self.path_of(project, &name),
        };
        self.write(&path, &bytes).map_err(|error| unusable(&path, &error.to_string()))?;
        match self.named(project, &name)? {
            Some(_) => Ok(()),
            // Somebody drew one meanwhile.
            None => {
                let path = self.path_of(project, &name);
                let kept = self.write(&path, &bytes);
                Ok(kept.map_err(|error| unusable(&path, &error.to_string()))?)
            }
        }
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

    fn draw(&self, path: &Path) -> io::Result<()> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        self.write(path, &bytes)
    }

    /// The key is on the disk, whole, before anything is sealed with it. One that is there stays.
    fn write(&self, path: &Path, bytes: &[u8; KEY_BYTES]) -> io::Result<()> {
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => {}
            Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(lost) => return Err(lost.error),
        }
        fs::File::open(&self.dir)?.sync_all()
    }

    fn read(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, (Stamp, Key)>> {
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
        let key = self.named(project, &name)?.ok_or(SecretError::Erased(project))?;
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
    fn nodes_that_drew_a_key_each_open_what_either_sealed() {
        let (one, other) = (Ground::new(), Ground::new());
        let here = one.keys.seal(project(), "tomato").unwrap();
        let there = other.keys.seal(project(), "potato").unwrap();
        assert_eq!(one.keys.open(&there), Err(SecretError::Erased(project())));
        let name = there.parse::<Sealed>().unwrap().key;
        assert!(!one.keys.has(project(), Some(&name)).unwrap());
        assert!(matches!(one.keys.give(project(), Some(&name)), Err(DriverError::NotFound(_))));
        let given = other.keys.give(project(), Some(&name)).unwrap();
        one.keys.keep(project(), Some(&name), &given).unwrap();
        assert_eq!(one.keys.open(&there).unwrap(), "potato");
        assert_eq!(one.keys.open(&here).unwrap(), "tomato");
        assert_eq!(one.keys.seal(project(), "tomato").unwrap(), here, "its own key stays");
        assert_eq!(one.keys.give(project(), Some(&name)).unwrap(), given, "it gives both");
        let own = one.keys.give(project(), None).unwrap();
        other.keys.keep(project(), None, &own).unwrap();
        assert_eq!(other.keys.open(&here).unwrap(), "tomato");
        // To erase is to delete them all.
        for entry in fs::read_dir(&one.keys.dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        assert_eq!(one.keys.open(&there), Err(SecretError::Erased(project())));
    }

    #[test]
    fn who_has_no_key_seals_with_the_one_that_was_given() {
        let (one, other) = (Ground::new(), Ground::new());
        assert!(!one.keys.has(project(), None).unwrap());
        let sealed = other.keys.seal(project(), "tomato").unwrap();
        let given = other.keys.give(project(), None).unwrap();
        one.keys.keep(project(), Some(&[1; KEY_NAME_BYTES]), &given).unwrap_err();
        one.keys.keep(project(), None, b"short").unwrap_err();
        assert_eq!(fs::read_dir(&one.keys.dir).unwrap().count(), 0);
        one.keys.keep(project(), None, &given).unwrap();
        one.keys.keep(project(), None, &given).unwrap();
        assert_eq!(one.keys.seal(project(), "tomato").unwrap(), sealed);
    }

    #[test]
    fn another_key_under_the_same_name_opens_nothing() {
        let ground = Ground::new();
        let sealed = ground.keys.seal(project(), "tomato").unwrap();
        fs::write(ground.keys.path(project()), [7; KEY_BYTES]).unwrap();
        assert_eq!(ground.keys.open(&sealed), Err(SecretError::Erased(project())));
    }
}
