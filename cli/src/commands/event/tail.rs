//! Events as they happen. With a cursor file, at least once: the file is written after an event
//! was printed, or taken by the command, never before.

use std::{io, process::Stdio};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    cursor::{Cursor, Position},
    log::after_or_at,
    moment,
    record::{self, Line, Record},
};
use crate::{
    args::event::TailArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    name::Resource,
    operation::interrupt,
    output::{format::Shape, printer},
    session::Session,
    units::moment::Moment,
};

pub(crate) async fn run(session: &Session, args: TailArgs) -> Result<ExitStatus> {
    let resource = args.resource.as_deref().map(Resource::parse).transpose()?;
    let mut cursor = args.cursor_file.clone().map(Cursor::load).transpose()?;
    let start = match cursor.as_ref().and_then(Cursor::position) {
        Some(position) => Start::After(position),
        None => start(session, args.since.as_deref(), resource.as_ref()).await?,
    };
    let log_name = resource.as_ref().map(Resource::log_name);
    let since = match &start {
        Start::After(position) => position.since(),
        Start::From(_) => 0,
    };
    let mut lines = session.client.log(Some(since), log_name.as_deref(), true).await?;
    let (mut live, mut counter) = (false, Position::START);
    let ended = loop {
        let next = tokio::select! {
            line = lines.next() => line,
            () = interrupt() => break Ok(ExitStatus::Done),
        };
        let line = match next {
            Ok(Some(line)) => record::line(line)?,
            Ok(None) => break Err(closed(cursor.as_ref())),
            Err(error) => break Err(error.into()),
        };
        match line {
            Line::Event(record) => {
                counter = counter.next(record.sequence);
                if live || start.admits(&record, counter) {
                    if let Err(failure) = deliver(session, &args, &record).await {
                        break Err(failure);
                    }
                    if let Some(cursor) = &mut cursor {
                        cursor.advance(counter, live)?;
                    }
                }
            }
            Line::CaughtUp { sequence, raw } => {
                control(session, &args, &raw)?;
                if let Some(cursor) = &mut cursor {
                    cursor.caught_up(sequence)?;
                }
                if args.until_caught_up {
                    break Ok(ExitStatus::Done);
                }
                if !live {
                    session.printer.say(&format!("caught up at seq {sequence}, following…"));
                }
                live = true;
            }
            Line::Gap { from, to, why, raw } => {
                control(session, &args, &raw)?;
                session.printer.warn(&format!("sequences {from} to {to} are not kept ({why})"));
            }
            Line::Broken { why } => break Err(record::broken(&why)),
            Line::Other(raw) => control(session, &args, &raw)?,
        }
    };
    if let Some(cursor) = &mut cursor {
        cursor.save()?;
    }
    ended
}

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    After(Position),
    From(Moment),
}

impl Start {
    /// Whether an event from before "caught up", which stands at `place`, is wanted.
    fn admits(&self, record: &Record, place: Position) -> bool {
        match self {
            Self::After(position) => place > *position,
            Self::From(moment) => after_or_at(record, moment),
        }
    }
}

async fn start(
    session: &Session,
    typed: Option<&str>,
    resource: Option<&Resource>,
) -> Result<Start> {
    Ok(match typed {
        None | Some("now") => Start::After(Position::after(session.head().await?)),
        Some("start") => Start::After(Position::START),
        Some(typed) => match moment::parse(typed)? {
            Moment::Sequence(sequence) => Start::After(Position::after(sequence.saturating_sub(1))),
            time @ Moment::Time(_) => Start::From(time),
            Moment::Revision(_) | Moment::Operation(_) => {
                let sequence = moment::resolve(session, typed, resource).await?;
                Start::After(Position::after(sequence.parse().unwrap_or(0)))
            }
        },
    })
}

fn closed(cursor: Option<&Cursor>) -> Failure {
    let failure =
        Failure::new(ExitStatus::Unreachable, "unreachable", "the daemon closed the stream");
    match cursor.and_then(Cursor::position) {
        Some(position) => failure.fact(format!("The next run goes on after seq {position}.")),
        None => failure.hint("stapes tail --cursor-file FILE    (goes on where it stopped)"),
    }
}

async fn deliver(session: &Session, args: &TailArgs, record: &Record) -> Result<()> {
    if let Some(command) = &args.exec {
        return hand_over(command, record).await;
    }
    match args.format.shape {
        Shape::Jsonl | Shape::Json => session.printer.line(&printer::json(&record.raw)?),
        Shape::Yaml => session.printer.data(&format!("{}---\n", printer::yaml(&record.raw)?)),
        Shape::Table | Shape::Compact | Shape::Markdown | Shape::Csv => {
            session.printer.line(&record.pretty())
        }
    }
}

/// A word about the stream is data for programs only.
fn control(session: &Session, args: &TailArgs, raw: &Value) -> Result<()> {
    let for_programs = matches!(args.format.shape, Shape::Jsonl | Shape::Json);
    if for_programs && args.exec.is_none() {
        session.printer.line(&printer::json(raw)?)?;
    }
    Ok(())
}

async fn hand_over(command: &str, record: &Record) -> Result<()> {
    let cannot = |error: &io::Error| Failure::local(format!("cannot run `{command}`"), error);
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("STAPES_EVENT_SEQUENCE", record.sequence.to_string())
        .env("STAPES_EVENT_TYPE", &record.kind)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| cannot(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is none of our business.
        let _ = stdin.write_all((printer::json(&record.raw)? + "\n").as_bytes()).await;
    }
    let status = child.wait().await.map_err(|error| cannot(&error))?;
    if status.success() {
        return Ok(());
    }
    let failed = format!("`{command}` failed on seq {} ({status})", record.sequence);
    Err(Failure::new(ExitStatus::Failed, "local", failed)
        .effect("The cursor stays before this event."))
}
