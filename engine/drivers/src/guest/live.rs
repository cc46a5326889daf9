//! Moving a container while it runs: by CRIU, where the host has it.

use std::{path::Path, sync::Arc};

use stapes_core::{
    ids::InstanceId,
    port::{
        DriverError,
        guest::{Checkpointed, Mobility, Preflight, Release, Running, Stop},
    },
    spec::GuestSpec,
};

use super::Inner;

const NO_CRIU: &str = "this host has no CRIU, with which guests move while they run";

impl Inner {
    pub(super) async fn preflight(
        self: &Arc<Self>,
        instance: InstanceId,
    ) -> Result<Preflight, DriverError> {
        self.must_know(instance)?;
        Ok(Preflight { verdict: Mobility::NearLive, reasons: vec![NO_CRIU.to_owned()] })
    }

    pub(super) async fn checkpoint(
        self: &Arc<Self>,
        instance: InstanceId,
        _into: &Path,
    ) -> Result<Checkpointed, DriverError> {
        self.must_know(instance)?;
        Err(DriverError::Refused(format!("{instance} cannot be checkpointed: {NO_CRIU}")))
    }

    pub(super) async fn release(
        self: &Arc<Self>,
        instance: InstanceId,
        how: Release,
    ) -> Result<(), DriverError> {
        match how {
            Release::Resume => self.must_know(instance).map(drop),
            Release::Kill => self.stop(instance, Stop::Force).await.map(drop),
        }
    }

    pub(super) async fn restore(
        self: &Arc<Self>,
        spec: &GuestSpec,
        from: &Path,
    ) -> Result<Running, DriverError> {
        let (instance, from) = (spec.instance, from.display());
        let text = format!("{instance} cannot be restored from {from}: {NO_CRIU}");
        Err(DriverError::Refused(text))
    }

    pub(super) async fn activate(
        self: &Arc<Self>,
        instance: InstanceId,
    ) -> Result<(), DriverError> {
        self.must_know(instance).map(drop)
    }
}
