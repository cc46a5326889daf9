//! The verbs on instances.

pub(crate) mod columns;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod filter;
pub(crate) mod info;
pub(crate) mod launch;
pub(crate) mod list;
pub(crate) mod movement;
pub(crate) mod publish;
pub(crate) mod rebuild;
pub(crate) mod state;

use futures::{StreamExt as _, stream};

use crate::{
    args::instance::Targets,
    exit::ExitStatus,
    failure::{Failure, Result},
    name,
    session::Session,
};

/// How many of several targets are worked on at once.
const AT_ONCE: usize = 16;

/// The names that were typed, or all there are.
pub(crate) async fn targets(session: &Session, typed: &Targets) -> Result<Vec<String>> {
    if !typed.all {
        return typed.names.iter().map(|text| name::local(text).map(str::to_owned)).collect();
    }
    let urls: Vec<String> = session.get("/1.0/instances").await?;
    Ok(urls.iter().map(|url| super::object::last_segment(url).to_owned()).collect())
}

/// Does the same to each name, several at once, and says of each what went wrong.
pub(crate) async fn each<F, Fut>(
    session: &Session,
    names: Vec<String>,
    act: F,
) -> Result<ExitStatus>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let total = names.len();
    let results: Vec<(String, Result<()>)> = stream::iter(names)
        .map(|name| {
            let done = act(name.clone());
            async move { (name, done.await) }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let failed: Vec<(String, Failure)> = results
        .into_iter()
        .filter_map(|(name, result)| result.err().map(|failure| (name, failure)))
        .collect();
    match failed.len() {
        0 => Ok(ExitStatus::Done),
        _ if total == 1 => match failed.into_iter().next() {
            Some((_, failure)) => Err(failure),
            None => Ok(ExitStatus::Done),
        },
        count => {
            for (name, failure) in &failed {
                session.printer.say(&format!("{name}:"));
                session.printer.failure(failure, session.settings.debug);
            }
            let exit = if count == total { ExitStatus::Failed } else { ExitStatus::Partial };
            Err(Failure::new(exit, "partly-failed", format!("{count} of {total} failed"))
                .fact(format!("Done: {} of {total}.", total - count)))
        }
    }
}
