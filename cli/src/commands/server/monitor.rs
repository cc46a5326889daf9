//! `stapes monitor`: the daemon's live events.

use serde_json::Value;
use stapes_api::wire::event::Event;

use crate::{
    args::server::MonitorArgs,
    commands::text,
    exit::ExitStatus,
    failure::{Failure, Result},
    operation::interrupt,
    output::{format::Shape, printer},
    session::Session,
};

const LEVELS: [&str; 5] = ["trace", "debug", "info", "warning", "error"];

/// The daemon's live events until Ctrl-C. `stapes tail` has those of the log, and forgets none.
pub(crate) async fn run(session: &Session, args: MonitorArgs) -> Result<ExitStatus> {
    let session = &session.all_projects(args.all_projects);
    let least = match &args.loglevel {
        None => 0,
        Some(level) => LEVELS.iter().position(|known| known == level).ok_or_else(|| {
            Failure::usage(format!("`{level}` is no level: {}", LEVELS.join(", ")))
        })?,
    };
    let kinds: Vec<&str> = args.kinds.iter().map(String::as_str).collect();
    let mut events = session.client.events(&kinds, None).await?;
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            () = interrupt() => return Ok(ExitStatus::Done),
        };
        let Some(event) = event else {
            return Err(Failure::new(
                ExitStatus::Unreachable,
                "unreachable",
                "the daemon closed the events",
            ));
        };
        if loud_enough(&event, least) {
            print(session, &args, &event)?;
        }
    }
}

fn loud_enough(event: &Event, least: usize) -> bool {
    event.kind != "logging"
        || LEVELS.iter().position(|level| *level == text(&event.metadata, "level")).unwrap_or(2)
            >= least
}

fn print(session: &Session, args: &MonitorArgs, event: &Event) -> Result<()> {
    if args.pretty {
        return session.printer.line(&pretty(event));
    }
    match args.format.shape {
        Shape::Json | Shape::Jsonl => session.printer.line(&printer::json(event)?),
        Shape::Table | Shape::Compact | Shape::Markdown | Shape::Csv | Shape::Yaml => {
            session.printer.data(&(printer::yaml(event)? + "\n"))
        }
    }
}

fn pretty(event: &Event) -> String {
    let time = event.timestamp.moment().unwrap_or_default().format("%H:%M:%S%.3f");
    let metadata = &event.metadata;
    let what = match event.kind.as_str() {
        "lifecycle" => format!("{} {}", text(metadata, "action"), text(metadata, "source")),
        "operation" => format!(
            "{} {} {}",
            text(metadata, "id"),
            text(metadata, "status"),
            text(metadata, "description")
        ),
        _ => format!("{} {}", text(metadata, "level"), text(metadata, "message")),
    };
    let project =
        if event.project.is_empty() { Value::Null.to_string() } else { event.project.clone() };
    format!("{time} {:9} {project:10} {what}", event.kind)
}
