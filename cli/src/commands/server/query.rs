//! `stapes query`: a request as it is.

use serde_json::Value;
use stapes_api::client::Method;

use crate::{
    args::server::QueryArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    input,
    operation::follow,
    output::{Format, format::Shape},
    session::Session,
};

const JSON: Format = Format { shape: Shape::Json, header: true };

/// A request as it is; the answer's metadata, or with `--raw` all of it.
pub(crate) async fn run(session: &Session, args: QueryArgs) -> Result<ExitStatus> {
    let path = crate::name::local(&args.path)?;
    if !path.starts_with('/') {
        return Err(Failure::usage(format!("`{path}` is no path")).hint("stapes query /1.0"));
    }
    let method = Method::from_bytes(args.method.to_uppercase().as_bytes())
        .map_err(|_| Failure::usage(format!("`{}` is no method", args.method)))?;
    let body = match (&args.data, &args.data_file) {
        (Some(data), _) => data.clone(),
        (None, Some(file)) if file.as_os_str() == "-" => input::stdin_text()?,
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| Failure::local(format!("cannot read {}", file.display()), &error))?,
        (None, None) => String::new(),
    };
    session.trace(method.as_str(), path);
    let headers = [("content-type", "application/json")];
    let answer = session.client.send_bytes(method, path, body, &headers).await?;
    let operation = answer.operation();
    let value = match (operation, args.wait, args.raw) {
        (Some(operation), true, _) => {
            let done = follow(session, &operation.id, &operation.description).await?;
            serde_json::to_value(done)
        }
        (_, _, true) => serde_json::to_value(&answer.envelope),
        (_, _, false) => Ok(answer.envelope.metadata),
    };
    let value = value.map_err(|error| Failure::local("cannot write JSON", &error))?;
    if value != Value::Object(serde_json::Map::new()) && !value.is_null() {
        session.printer.object(JSON, &value)?;
    }
    Ok(ExitStatus::Done)
}
