//! The unix socket: made, served, and taken away.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use axum::Router;
use tokio::net::{UnixListener, UnixStream};

use super::peer::Peer;

/// Root and its group may talk to the daemon: whoever may is as good as root.
const MODE: u32 = 0o660;

/// A socket that is removed with it.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Binds the socket. One that a killed daemon left is replaced, one that answers is not.
    ///
    /// # Errors
    /// `AddrInUse` when another daemon serves it.
    pub async fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        if let Ok(metadata) = std::fs::symlink_metadata(&path) {
            if !metadata.file_type().is_socket() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket"));
            }
            if UnixStream::connect(&path).await.is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "a daemon serves it"));
            }
            std::fs::remove_file(&path)?;
        }
        // Bound under another name until its mode is right, so that it is never open to all.
        let hidden = path.with_extension(format!("new.{}", std::process::id()));
        let _ = std::fs::remove_file(&hidden);
        let listener = UnixListener::bind(&hidden)?;
        std::fs::set_permissions(&hidden, Permissions::from_mode(MODE))?;
        std::fs::rename(&hidden, &path)?;
        Ok(Self { listener, path })
    }

    /// Serves until `stop` is ready, then lets the requests under way end.
    ///
    /// # Errors
    /// When the socket cannot be served.
    pub async fn serve(
        self,
        router: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let service = router.into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(self.listener, service).with_graceful_shutdown(stop).await;
        let _ = std::fs::remove_file(&self.path);
        served
    }
}
