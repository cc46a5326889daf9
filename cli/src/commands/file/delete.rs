//! `stapes file delete`

use stapes_api::client::Method;

use super::remote::RemotePath;
use crate::{args::file::DeleteArgs, exit::ExitStatus, failure::Result, session::Session};

pub(crate) async fn run(session: &Session, args: DeleteArgs) -> Result<ExitStatus> {
    let paths: Vec<RemotePath> =
        args.paths.iter().map(|text| RemotePath::parse(text)).collect::<Result<_>>()?;
    for path in paths {
        session.trace("DELETE", &path.url());
        let headers: &[(&str, &str)] = if args.force { &[("x-incus-force", "true")] } else { &[] };
        session.client.send_bytes(Method::DELETE, &path.url(), Vec::new(), headers).await?;
    }
    Ok(ExitStatus::Done)
}
