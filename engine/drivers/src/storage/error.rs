//! Errors of the operating system as errors of the port.

pub(crate) use stapes_core::port::DriverError;

pub(crate) trait Context<T> {
    /// Says what was being done. Where there is no room, repeating it does not help.
    fn context(self, what: impl FnOnce() -> String) -> Result<T, DriverError>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, DriverError> {
        self.map_err(|error| {
            let text = format!("{}: {error}", what());
            match error.raw_os_error() {
                Some(nix::libc::ENOSPC | nix::libc::EDQUOT) => DriverError::Full(text),
                _ => DriverError::Failed(text),
            }
        })
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, DriverError> {
        self.map_err(std::io::Error::from).context(what)
    }
}
