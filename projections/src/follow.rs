//! Following the log with names: every record is told after the views hold it, in order, gapless.
//!
//! Whoever keeps up is served from memory. Whoever is further behind gets the same from the log,
//! folded again from where they are: nobody is skipped ahead, nobody holds the others up.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use stapes_core::ids::Sequence;

use crate::{
    past::{PAGE, read_page},
    state::State,
    status::{QueryError, Status},
    told::Told,
    views::Views,
};

/// Records that are told at once.
const TOLD_AT_ONCE: usize = 256;

/// What a follower sees.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// The next records; at least one.
    Told(Vec<Arc<Told>>),
    /// All that was there is told; what follows is new. Said once.
    CaughtUp(Sequence),
}

pub type Following = BoxStream<'static, Result<Followed, QueryError>>;

pub(crate) struct Follower {
    views: Views,
    at: Sequence,
    /// The state at `at`, while it is behind what is in memory.
    past: Option<State>,
    caught_up: bool,
    over: bool,
}

impl Follower {
    pub(crate) fn stream(views: Views, after: Sequence) -> Following {
        let follower = Self { views, at: after, past: None, caught_up: false, over: false };
        futures::stream::unfold(follower, Self::step).boxed()
    }

    async fn step(mut self) -> Option<(Result<Followed, QueryError>, Self)> {
        if self.over {
            return None;
        }
        let next = self.next().await;
        self.over = next.is_err();
        Some((next, self))
    }

    async fn next(&mut self) -> Result<Followed, QueryError> {
        let mut status = self.views.watch();
        loop {
            let now = status.borrow_and_update().clone();
            if now.sequence() > self.at {
                let recent = self.views.live().recent().from(self.at.next(), TOLD_AT_ONCE);
                let told = match recent {
                    Some(told) => {
                        self.past = None;
                        told
                    }
                    None => self.again(now.sequence()).await?,
                };
                self.at = told.last().map_or(self.at, |told| told.recorded.sequence);
                return Ok(Followed::Told(told));
            }
            if let Status::Blocked { why, .. } = now {
                return Err(why.into());
            }
            if !self.caught_up && matches!(now, Status::Live { .. }) {
                self.caught_up = true;
                return Ok(Followed::CaughtUp(self.at));
            }
            if status.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next records from the log, not beyond `to`.
    async fn again(&mut self, to: Sequence) -> Result<Vec<Arc<Told>>, QueryError> {
        let mut state = match self.past.take() {
            Some(state) => state,
            None => self.views.state_at(self.at).await?,
        };
        let left = usize::try_from(to.0 - self.at.0).unwrap_or(usize::MAX);
        let page = read_page(self.views.live().log(), self.at.next(), left.min(PAGE)).await?;
        let mut told = Vec::with_capacity(page.len());
        for recorded in page {
            told.push(Told::next(&mut state, recorded)?);
        }
        self.past = Some(state);
        Ok(told)
    }
}
