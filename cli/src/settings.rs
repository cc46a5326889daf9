//! What holds for a whole run, resolved once: defaults < client file < environment < flags.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// Names of the environment variables that are read.
pub(crate) mod env {
    pub(crate) const DIR: &str = "STAPES_DIR";
    pub(crate) const PROJECT: &str = "STAPES_PROJECT";
    /// Where the client keeps its own file; by default the user's configuration directory.
    pub(crate) const CONF: &str = "STAPES_CONF";
    pub(crate) const EDITOR: [&str; 2] = ["VISUAL", "EDITOR"];
}

pub(crate) const DEFAULT_DIR: &str = "/var/lib/stapes";
pub(crate) const DEFAULT_PROJECT: &str = "default";

/// The global flags as they were typed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) project: Option<String>,
    pub(crate) quiet: bool,
    pub(crate) debug: bool,
    pub(crate) submit: Submit,
}

/// How an operation is handed in and waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Submit {
    pub(crate) reason: Option<String>,
    pub(crate) no_wait: bool,
    pub(crate) timeout: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) project: String,
    pub(crate) quiet: bool,
    pub(crate) debug: bool,
    pub(crate) submit: Submit,
    /// The client's own file.
    pub(crate) file: Option<PathBuf>,
}

/// The client's own file; today it only remembers what `project switch` chose.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ClientFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
}

impl Settings {
    pub(crate) fn resolve(flags: Flags, var: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let file = client_file(&var);
        let stored = file.as_deref().map(read_client_file).transpose()?.unwrap_or_default();
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let dir = flags.dir.or_else(|| set(env::DIR).map(PathBuf::from));
        let project = flags.project.or_else(|| set(env::PROJECT)).or(stored.project);
        Ok(Self {
            dir: dir.unwrap_or_else(|| PathBuf::from(DEFAULT_DIR)),
            project: project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
            quiet: flags.quiet,
            debug: flags.debug,
            submit: flags.submit,
            file,
        })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("unix.socket")
    }

    /// Where the daemon keeps the log's files.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Remembers `project` for the runs to come.
    pub(crate) fn remember_project(&self, project: &str) -> Result<()> {
        let file = self.file.as_deref().ok_or_else(|| {
            Failure::usage("there is no home directory to remember the project in")
                .hint(format!("export {}={project}", env::PROJECT))
        })?;
        let stored = ClientFile { project: Some(project.to_owned()) };
        let text = yaml_serde::to_string(&stored)
            .map_err(|error| Failure::local("cannot write the client's file", &error))?;
        let parent = file.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(file, text))
            .map_err(|error| Failure::local(format!("cannot write {}", file.display()), &error))
    }
}

fn client_file(var: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let path = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = path(env::CONF)
        .or_else(|| path("XDG_CONFIG_HOME").map(|dir| dir.join("stapes")))
        .or_else(|| path("HOME").map(|home| home.join(".config/stapes")))?;
    Some(dir.join("client.yaml"))
}

fn read_client_file(path: &Path) -> Result<ClientFile> {
    match fs::read_to_string(path) {
        Ok(text) => yaml_serde::from_str(&text).map_err(|error| {
            Failure::local(format!("{} is not what the client wrote", path.display()), &error)
                .hint(format!("rm {}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ClientFile::default()),
        Err(error) => Err(Failure::local(format!("cannot read {}", path.display()), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: Flags, vars: &[(&str, &str)]) -> Settings {
        Settings::resolve(flags, |name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
        .unwrap()
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_beats_the_default() {
        assert_eq!(resolve(Flags::default(), &[]).dir, Path::new(DEFAULT_DIR));
        let vars = [(env::DIR, "/tmp/x"), (env::PROJECT, "blue")];
        let from_env = resolve(Flags::default(), &vars);
        assert_eq!(from_env.socket(), Path::new("/tmp/x/unix.socket"));
        assert_eq!(from_env.project, "blue");
        let flags = Flags { project: Some("red".to_owned()), ..Flags::default() };
        assert_eq!(resolve(flags, &vars).project, "red");
        assert_eq!(resolve(Flags::default(), &[(env::PROJECT, "")]).project, DEFAULT_PROJECT);
    }

    #[test]
    fn a_remembered_project_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let vars = [(env::CONF, dir.path().to_str().unwrap())];
        resolve(Flags::default(), &vars).remember_project("blue").unwrap();
        assert_eq!(resolve(Flags::default(), &vars).project, "blue");
    }
}
