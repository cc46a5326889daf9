//! Snapshots of an instance.

use axum::extract::{Path, State};
use bytes::Bytes;
use stapes_core::{command::Command, rejection::Noun};

use super::{Answer, Api, Fault, answer, body, listed, new_name, not_found, target};
use crate::{
    server::{
        params::{Params, url},
        peer::Caller,
        show,
    },
    wire::snapshot::{InstanceSnapshotPut, InstanceSnapshotsPost},
};

pub(in crate::server) async fn list(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let project = params.project();
    let secrets = &*api.drivers.secrets;
    api.lens(&params).await?.look(|world| {
        let it = world.instance(&project, &name)?;
        listed(
            &params,
            it.snapshots.iter().map(|(snapshot, taken)| {
                let url = url(&["instances", &name, "snapshots", snapshot], Some(&project));
                (url, move || show::snapshot(secrets, it, snapshot, taken))
            }),
        )
    })
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path((name, snapshot)): Path<(String, String)>,
    params: Params,
) -> Answer {
    api.lens(&params).await?.look(|world| {
        let it = world.instance(&params.project(), &name)?;
        let taken = it.snapshots.get(&snapshot);
        let taken = taken.ok_or_else(|| not_found(Noun::Snapshot, &snapshot))?;
        let etag = show::etag(world.tail(it.id.stream()).revision);
        let secrets = &*api.drivers.secrets;
        Ok(answer::tagged(show::snapshot(secrets, it, &snapshot, taken), &etag))
    })
}

pub(in crate::server) async fn create(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: InstanceSnapshotsPost = body(&bytes)?;
    if post.stateful {
        return Err(Fault::bad_request("Stateful snapshots are not supported")
            .hint("repeat it without --stateful"));
    }
    let command = Command::CreateSnapshot {
        target: target(&params, name),
        name: Some(post.name).filter(|name| !name.is_empty()),
        expires_at: post.expires_at.and_then(|at| crate::wire::Time(at).moment()),
    };
    api.begin(command, &caller).await
}

/// `PUT` and `PATCH`: only the expiry can be changed.
pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path((name, snapshot)): Path<(String, String)>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let put: InstanceSnapshotPut = body(&bytes)?;
    let command = Command::SetSnapshotExpiry {
        target: target(&params, name),
        name: snapshot,
        expires_at: put.expires_at.moment(),
    };
    api.begin(command, &caller).await
}

pub(in crate::server) async fn rename(
    State(api): State<Api>,
    Path((name, snapshot)): Path<(String, String)>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let to = new_name(&bytes)?;
    let command = Command::RenameSnapshot { target: target(&params, name), from: snapshot, to };
    api.begin(command, &caller).await
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path((name, snapshot)): Path<(String, String)>,
    params: Params,
    caller: Caller,
) -> Answer {
    let command = Command::DeleteSnapshot { target: target(&params, name), name: snapshot };
    api.begin(command, &caller).await
}
