//! Checkpoints of imagined guests: one small file, which another imagined host can restore.

use std::{fs, io, path::Path};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        Checkpointed, Held, Mobility, Preflight, Release, Running, holds_no_guest, is_held,
        runs_as_another,
    },
    Guest, World,
};
use crate::{ids::InstanceId, port::DriverError, spec::GuestSpec};

const FILE: &str = "imagined";

/// What goes along.
#[derive(Serialize, Deserialize)]
struct Image {
    instance: InstanceId,
    started_at: DateTime<Utc>,
    console: Vec<u8>,
}

pub(super) fn preflight(guest: &Guest) -> Preflight {
    let mut reasons = Vec::new();
    if guest.running.frozen {
        reasons.push("it is frozen; unfreeze it".to_owned());
    }
    if !guest.programs.is_empty() {
        reasons.push("a program runs in it that was executed from outside".to_owned());
    }
    let verdict = if reasons.is_empty() { Mobility::Live } else { Mobility::NearLive };
    Preflight { verdict, reasons }
}

pub(super) fn checkpoint(
    world: &World,
    instance: InstanceId,
    into: &Path,
) -> Result<Checkpointed, DriverError> {
    let frozen_at = (world.clock)();
    world.with(instance, |guest| {
        match (guest.running.held, guest.checkpoint) {
            (Some(Held::Checkpointed), Some(checkpoint)) => return Ok(checkpoint),
            (Some(held), _) => return Err(is_held(instance, held)),
            (None, _) => {}
        }
        let Preflight { verdict, reasons } = preflight(guest);
        if verdict != Mobility::Live {
            let reasons = reasons.join("; ");
            return Err(DriverError::Refused(format!(
                "{instance} cannot be checkpointed: {reasons}"
            )));
        }
        let bytes = write(guest, into)
            .map_err(|error| DriverError::Failed(format!("write {}: {error}", into.display())))?;
        let checkpoint = Checkpointed { bytes, frozen_at, took_ms: 0 };
        guest.checkpoint = Some(checkpoint);
        guest.running.held = Some(Held::Checkpointed);
        Ok(checkpoint)
    })?
}

fn write(guest: &Guest, into: &Path) -> io::Result<u64> {
    let image = Image {
        instance: guest.running.instance,
        started_at: guest.running.started_at,
        console: guest.console.clone(),
    };
    let bytes = rmp_serde::to_vec_named(&image).map_err(io::Error::other)?;
    fs::create_dir_all(into)?;
    fs::write(into.join(FILE), &bytes)?;
    Ok(bytes.len() as u64)
}

pub(super) fn release(
    world: &World,
    instance: InstanceId,
    how: Release,
) -> Result<(), DriverError> {
    match how {
        Release::Kill => {
            world.take(instance);
            world.lock().ended.remove(&instance);
            Ok(())
        }
        Release::Resume => world.with(instance, |guest| match guest.running.held {
            Some(Held::Restored) => Err(is_held(instance, Held::Restored)),
            Some(Held::Checkpointed) | None => {
                guest.running.held = None;
                guest.checkpoint = None;
                Ok(())
            }
        })?,
    }
}

pub(super) fn restore(
    world: &World,
    spec: &GuestSpec,
    from: &Path,
) -> Result<Running, DriverError> {
    let instance = spec.instance;
    if let Ok(running) = world.with(instance, |guest| guest.running) {
        return if running.incarnation == spec.incarnation {
            Ok(running)
        } else {
            Err(runs_as_another(instance, running.incarnation))
        };
    }
    let unreadable = |why: String| holds_no_guest(instance, from, &why);
    let bytes = fs::read(from.join(FILE)).map_err(|error| unreadable(error.to_string()))?;
    let image: Image =
        rmp_serde::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if image.instance != instance {
        return Err(unreadable(format!("it holds {}", image.instance)));
    }
    let Image { started_at, console, .. } = image;
    let mut state = world.lock();
    state.last_pid += 1;
    let running = Running {
        instance,
        incarnation: spec.incarnation,
        pid: state.last_pid,
        started_at,
        frozen: false,
        held: Some(Held::Restored),
    };
    let guest = Guest { console, ..Guest::new(running, spec) };
    state.guests.insert(instance, guest);
    state.ended.remove(&instance);
    Ok(running)
}

pub(super) fn activate(world: &World, instance: InstanceId) -> Result<(), DriverError> {
    world.with(instance, |guest| match guest.running.held {
        Some(Held::Checkpointed) => Err(is_held(instance, Held::Checkpointed)),
        Some(Held::Restored) | None => {
            guest.running.held = None;
            Ok(())
        }
    })?
}
