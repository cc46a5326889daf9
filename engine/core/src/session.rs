//! Sessions: programs run inside and consoles. They live as long as their connections and the
//! daemon; the log keeps that they were, by whom, and how they ended.

use crate::{
    decision::{Context, Decision},
    ids::OperationId,
    instance::{Status, Target},
    operation::{Class, Gain, Resource, ResourceKind, Verb},
    rejection::{Noun, Rejection},
    world::{World, missing},
};

/// Arguments that the log keeps at most, and bytes of each.
const ARGUMENTS_MAX: usize = 64;
const ARGUMENT_BYTES_MAX: usize = 256;

/// # Errors
/// When the instance does not run or is frozen, or there is no program.
pub fn begin_exec(
    world: &World,
    context: &Context,
    target: &Target,
    command: &[String],
) -> Result<Decision, Rejection> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Rejection::Invalid("A command is required".to_owned()));
    }
    let shorten = |argument: &String| match argument.char_indices().nth(ARGUMENT_BYTES_MAX) {
        Some((end, _)) => format!("{}…", &argument[..end]),
        None => argument.clone(),
    };
    let kept = command.iter().take(ARGUMENTS_MAX).map(shorten).collect();
    begin(world, context, target, Verb::Exec, kept)
}

/// # Errors
/// When the instance does not run.
pub fn begin_console(
    world: &World,
    context: &Context,
    target: &Target,
) -> Result<Decision, Rejection> {
    begin(world, context, target, Verb::Console, Vec::new())
}

fn begin(
    world: &World,
    context: &Context,
    target: &Target,
    verb: Verb,
    command: Vec<String>,
) -> Result<Decision, Rejection> {
    let instance = world.instance(&target.project, &target.name)?;
    match instance.status {
        Status::Running { .. } => {}
        Status::Frozen { .. } => {
            let hint = format!("stapes resume {}", target.name);
            return Err(Rejection::WrongState { message: "Instance is frozen", hint });
        }
        Status::Creating | Status::Stopped => {
            let hint = format!("stapes start {}", target.name);
            return Err(Rejection::WrongState { message: "Instance is not running", hint });
        }
    }
    let mut decision = Decision::for_context(context);
    let resource = Resource { kind: ResourceKind::Instance, name: instance.name.clone() };
    decision.accept_command(instance.project, verb, Class::Websocket, vec![resource], command);
    Ok(decision)
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Closed,
    Failed(String),
    Cancelled,
}

/// # Errors
/// When there is no such session, or it is over.
pub fn end(
    world: &World,
    context: &Context,
    operation: OperationId,
    how: &End,
) -> Result<Decision, Rejection> {
    let session =
        world.operations.get(&operation).filter(|operation| operation.class == Class::Websocket);
    session.ok_or_else(|| missing(Noun::Operation, &operation.to_string()))?;
    let mut decision = Decision::for_context(context);
    decision.answer.operation = operation;
    match how {
        End::Exit(status) => decision.succeed(operation, Gain::Exit { status: *status }),
        End::Closed => decision.succeed(operation, Gain::Nothing),
        End::Failed(error) => decision.fail(operation, error),
        End::Cancelled => decision.record(operation.stream(), crate::operation::Event::Cancelled),
    }
    Ok(decision)
}

#[cfg(test)]
mod tests {
    use crate::{
        command::Command,
        testing::{check, running, stopped, target},
    };

    #[test]
    fn programs_run_where_a_guest_runs() {
        let exec = |command: &[&str]| Command::BeginExec {
            target: target("web"),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        };
        check(&running("web", &[]), exec(&["true"]), "operation-accepted");
        check(&stopped("web", &[]), exec(&["true"]), "Instance is not running");
        check(&running("web", &[]), exec(&[]), "A command is required");
        check(&running("web", &[]), exec(&[""]), "A command is required");
        check(&[], exec(&["true"]), "Instance not found");
    }
}
