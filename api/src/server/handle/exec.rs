//! Programs in guests.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use bytes::Bytes;
use serde_json::{Map, json};
use stapes_core::{
    command::Command,
    ids::{InstanceId, OperationId},
    instance::Target,
    port::{
        guest::ExecSpec,
        secret::{self, Sealer},
    },
    session::End,
};

use super::{Answer, Api, Fault, body, target};
use crate::{
    server::{
        params::{Params, url},
        peer::Caller,
        session::{Outcome, OutputFiles, Recorded, Stream, run_recorded, run_with_sockets},
    },
    wire::exec::InstanceExecPost,
};

/// What a program finds in its environment unless somebody says otherwise.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];
/// The size of a terminal whose client did not say.
const TERMINAL: (u16, u16) = (80, 24);

pub(in crate::server) async fn post(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: InstanceExecPost = body(&bytes)?;
    if post.interactive && !post.wait_for_websocket {
        return Err(Fault::bad_request("Interactive sessions require wait-for-websocket"));
    }
    if post.wait_for_websocket && post.record_output {
        return Err(Fault::bad_request(
            "Only one of wait-for-websocket and record-output may be set",
        ));
    }
    let target = target(&params, name);
    let (instance, environment) = api.look(|world| {
        let it = world.instance(&target.project, &target.name)?;
        let config = it.expanded(world).map(|expanded| expanded.config).unwrap_or_default();
        Ok::<_, Fault>((it.id, environment(&*api.drivers.secrets, &config, &post)))
    })?;
    let spec = ExecSpec {
        command: post.command.clone(),
        environment,
        working_directory: Some(post.cwd.clone()).filter(|directory| !directory.is_empty()),
        user: post.user,
        group: post.group,
        terminal: post.interactive.then(|| terminal(&post)),
    };
    let begin = Command::BeginExec { target: target.clone(), command: post.command.clone() };
    let accepted = api.submit(begin, &caller).await?;
    let operation = accepted.operation;
    let metadata = Map::from_iter([
        ("command".to_owned(), json!(post.command)),
        ("environment".to_owned(), json!(spec.environment)),
        ("interactive".to_owned(), json!(post.interactive)),
    ]);
    let streams = streams(&post);
    let opened = api.sessions.open(operation, caller.uid, streams, metadata);
    let (registration, connections) = match opened {
        Ok(opened) => opened,
        Err(fault) => {
            end(&api, operation, &caller, Err(fault.text.clone())).await;
            return Err(fault);
        }
    };
    let answer = api.begun(&accepted).await;
    let session = Session { api: api.clone(), operation, instance, target, caller };
    tokio::spawn(async move {
        let outcome = if streams.is_empty() {
            session.recorded(spec, post.record_output).await
        } else {
            run_with_sockets(&*session.api.drivers.guests, instance, spec, connections).await
        };
        end(&session.api, operation, &session.caller, outcome).await;
        registration.over();
    });
    answer
}

fn streams(post: &InstanceExecPost) -> &'static [Stream] {
    match (post.wait_for_websocket, post.interactive) {
        (false, _) => &[],
        (true, true) => &[Stream::Input, Stream::Control],
        (true, false) => &[Stream::Input, Stream::Output, Stream::Error, Stream::Control],
    }
}

const fn terminal(post: &InstanceExecPost) -> (u16, u16) {
    if post.width == 0 || post.height == 0 { TERMINAL } else { (post.width, post.height) }
}

/// Ours, the instance's (`environment.*`), and the client's: later ones win. A secret that is erased
/// is no variable any more.
fn environment(
    secrets: &dyn Sealer,
    config: &stapes_core::config::Config,
    post: &InstanceExecPost,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        ENVIRONMENT.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    if post.user == 0 {
        all.insert("HOME".to_owned(), "/root".to_owned());
        all.insert("USER".to_owned(), "root".to_owned());
    }
    all.extend(config.iter().filter_map(|(key, value)| {
        let variable = key.strip_prefix("environment.")?.to_owned();
        Some((variable, secret::reveal(secrets, value).ok()?))
    }));
    all.extend(post.environment.clone());
    all
}

/// One program on its way.
struct Session {
    api: Api,
    operation: OperationId,
    instance: InstanceId,
    target: Target,
    caller: Caller,
}

impl Session {
    /// Without a client's connections: output goes into files, or nowhere.
    async fn recorded(&self, spec: ExecSpec, record: bool) -> Outcome {
        let (output, error) = if record {
            let open = |stream| self.api.outputs.create(self.instance, self.operation, stream);
            let failed = |error: std::io::Error| format!("Cannot record the output: {error}");
            (open("stdout").await.map_err(failed)?, open("stderr").await.map_err(failed)?)
        } else {
            (Recorded::nothing(), Recorded::nothing())
        };
        let guests = &*self.api.drivers.guests;
        let outcome = run_recorded(guests, self.instance, spec, output, error).await;
        if record {
            let url = |stream| {
                let file = OutputFiles::file_name(self.operation, stream);
                let path = ["instances", &self.target.name, "logs", "exec-output", &file];
                url(&path, Some(&self.target.project))
            };
            let output = json!({"1": url("stdout"), "2": url("stderr")});
            self.api.sessions.extend(self.operation, "output", output);
        }
        outcome
    }
}

/// Puts the end on the log. It is tried again a few times: an operation must not stay for ever.
pub(super) async fn end(api: &Api, operation: OperationId, caller: &Caller, outcome: Outcome) {
    let how = match outcome {
        Ok(status) => End::Exit(status),
        Err(error) => End::Failed(error),
    };
    finish(api, operation, caller, how).await;
}

pub(super) async fn finish(api: &Api, operation: OperationId, caller: &Caller, how: End) {
    let mut pause = std::time::Duration::from_millis(10);
    for _ in 0..10 {
        let end = Command::EndSession { operation, how: how.clone() };
        match api.backend.submit(end, caller.request()).await {
            Ok(_) | Err(crate::backend::Refusal::Rejected(_)) => return,
            Err(error) => {
                tracing::warn!(%operation, %error, "the end of a session is not recorded")
            }
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}
