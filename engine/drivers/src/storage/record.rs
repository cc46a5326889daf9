//! What this node knows of a pool beside the pool: `<pools>/<pool>.json`. Written when the pool is
//! whole, so that it is found again by its id alone; removed last.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use stapes_core::{ids::PoolId, spec::PoolSpec};

use super::error::{Context, DriverError};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) spec: PoolSpec,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// Begun; what is found may be half, and holds nothing of worth.
    Making,
    Ready,
    /// Its removal was decided and goes on at the next occasion.
    Removing,
}

fn path(pools: &Path, pool: PoolId) -> PathBuf {
    pools.join(format!("{pool}.json"))
}

impl Record {
    pub(super) fn read(pools: &Path, pool: PoolId) -> Result<Option<Self>, DriverError> {
        let path = path(pools, pool);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(|| format!("reading {}", path.display())),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            DriverError::Refused(format!(
                "{} cannot be understood ({error}). Nothing was changed. Put it back from a \
                 backup, or remove it and make the pool again: its data is kept",
                path.display()
            ))
        })
    }

    /// Whole or not at all, and durable.
    pub(super) fn write(&self, pools: &Path) -> Result<(), DriverError> {
        let path = path(pools, self.spec.pool);
        let part = path.with_extension("json.part");
        let text = serde_json::to_vec_pretty(self).expect("it has no maps and no failing parts");
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)?;
            File::open(pools)?.sync_all()
        };
        write().context(|| format!("writing {}", path.display()))
    }

    pub(super) fn remove(pools: &Path, pool: PoolId) -> Result<(), DriverError> {
        super::layout::remove_file(&path(pools, pool).with_extension("json.part"))?;
        super::layout::remove_file(&path(pools, pool))
    }
}
