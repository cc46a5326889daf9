//! Acts on this daemon itself that take a while and are on no log yet: founding and joining a cluster.
//! The operation that a client waits for lives in this process; the daemon starts anew once it has
//! been told how it ended.

use stapes_core::ids::OperationId;

use super::{Api, show};
use crate::{
    backend::{Founding, Joining},
    wire::{StatusCode, Time, operation::Operation},
};

pub(super) enum Act {
    Found(Founding),
    Join(Joining),
}

impl Act {
    pub(super) fn begin(self, api: &Api, description: &str) -> Operation {
        let id = OperationId(uuid::Uuid::new_v4());
        let now = Time(chrono::Utc::now());
        let shown = Operation {
            id: id.to_string(),
            class: "task".to_owned(),
            description: description.to_owned(),
            created_at: now,
            updated_at: now,
            status: StatusCode::RUNNING.name().to_owned(),
            status_code: StatusCode::RUNNING,
            location: show::NO_MEMBER.to_owned(),
            ..Operation::default()
        };
        let own = api.clone();
        api.bulks.run(api, id, shown.clone(), async move {
            let Some(cluster) = &own.cluster else { return Vec::new() };
            let outcome = match self {
                Self::Found(wanted) => cluster.found(wanted).await,
                Self::Join(wanted) => cluster.join(wanted).await,
            };
            outcome.err().map(|refusal| refusal.to_string()).into_iter().collect()
        });
        shown
    }
}
