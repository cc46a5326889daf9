//! Whether the log is heard: asked of its leader every few seconds, and told to whoever asks without
//! waiting.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use chrono::Utc;
use stapes_api::backend::Lost;
use stapes_core::{ids::Sequence, port::log::EventLog};

use super::member::Member;

const EVERY: Duration = Duration::from_secs(2);
/// An answer that takes longer is none.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);
/// One silence is an election; this many are more.
const SILENCES: u32 = 2;
/// Why nothing can be changed then.
pub(super) const SILENT: &str = "most of the log's servers do not answer";

/// What was heard last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse {
    pub(crate) lost: Option<Lost>,
    pub(crate) head: Sequence,
    /// The servers that keep the log, by name, and which of them leads.
    pub(crate) keepers: BTreeSet<String>,
    pub(crate) leader: Option<String>,
    pub(crate) answering: usize,
}

/// Listens for as long as the member is there.
pub(crate) async fn listen(member: Arc<Member>) {
    let mut silences = 0;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let heard = ask(&member).await;
        let mut pulse = member.pulse.write().unwrap_or_else(PoisonError::into_inner);
        match heard {
            Ok(heard) => {
                silences = 0;
                if pulse.lost.take().is_some() {
                    tracing::info!("the log is heard again");
                }
                pulse.head = heard.head;
                if !heard.keepers.is_empty() {
                    pulse.keepers = heard.keepers;
                }
                (pulse.leader, pulse.answering) = (heard.leader, heard.answering);
            }
            Err(why) => {
                silences += 1;
                (pulse.leader, pulse.answering) = (None, 0);
                if silences >= SILENCES && pulse.lost.is_none() {
                    tracing::error!(why, "the log is not heard: nothing can be changed");
                    pulse.lost = Some(Lost { since: Utc::now(), why });
                }
            }
        }
    }
}

async fn ask(member: &Member) -> Result<Pulse, String> {
    let silent = |_| SILENT.to_owned();
    let head = tokio::time::timeout(ANSWERS_WITHIN, member.log.head()).await.map_err(silent)?;
    let head = head.map_err(|error| super::told(&error))?;
    let kept = tokio::time::timeout(ANSWERS_WITHIN, member.log.keepers()).await.map_err(silent)?;
    let kept = kept.map_err(|error| super::told(&error))?;
    // A copy that is still being made answers for nobody.
    let answering = kept.current();
    let keepers = kept.others.into_iter().map(|replica| replica.name).chain(kept.leader.clone());
    Ok(Pulse { head, keepers: keepers.collect(), leader: kept.leader, answering, lost: None })
}
