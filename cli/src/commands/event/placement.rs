//! Why an instance is where it is, or not on a certain member: what its placement considered.

use serde_json::Value;

use super::{record::Record, why};
use crate::{
    commands::{items, text},
    exit::ExitStatus,
    failure::{Failure, Result},
    name::{Kind, Resource},
    session::Session,
};

/// `member`: only what was thought of that one.
pub(super) async fn run(
    session: &Session,
    resource: &Resource,
    member: Option<&str>,
) -> Result<ExitStatus> {
    if resource.kind != Kind::Instance {
        return Err(Failure::usage("only instances are placed").hint("stapes why INSTANCE.node"));
    }
    let now = session.value(&resource.path()).await?;
    let placed = why::newest(session, resource, decides).await?;
    let location = text(&now, "location");
    session.printer.line(&format!("{}  on {location}", resource.log_name()))?;
    let Some(record) = placed else {
        session
            .printer
            .line("  there was nothing to choose from: no other member was considered")?;
        return Ok(ExitStatus::Done);
    };
    session.printer.line(&format!("  {}", why::told(&record)))?;
    if is_take_over(&record) && member.is_none() {
        session.printer.line(&format!("  its member was lost, and {location} had its copy"))?;
    }
    let members = session.values("/1.0/cluster/members?recursion=1").await.unwrap_or_default();
    let mut found = false;
    for one in considered(&record) {
        let id = text(&one, "node");
        let name = name_of(&members, &id).unwrap_or(id);
        if member.is_some_and(|wanted| wanted != name) {
            continue;
        }
        found = true;
        session.printer.line(&format!("  {}", line(&name, &one)))?;
    }
    match member {
        Some(member) if !found => {
            let message = if is_take_over(&record) {
                format!("{member} was not considered: only the member with its copy could be")
            } else {
                format!("{member} was not considered: it was no member then")
            };
            Err(Failure::new(ExitStatus::NotFound, "not-found", message)
                .hint("stapes cluster list"))
        }
        Some(_) | None => Ok(ExitStatus::Done),
    }
}

/// Whether the record says where the instance is from then on.
fn decides(record: &Record) -> bool {
    is_take_over(record) || !considered(record).is_empty()
}

fn is_take_over(record: &Record) -> bool {
    record.kind.ends_with("take-over-requested")
}

/// The members that a decision looked at, best first.
fn considered(record: &Record) -> Vec<Value> {
    let mut all = record.sets("placement").cloned().map(items).unwrap_or_default();
    all.sort_by_key(|one| std::cmp::Reverse(one["score"].as_i64()));
    all
}

fn name_of(members: &[Value], id: &str) -> Option<String> {
    let member = members.iter().find(|member| text(member, "id") == id)?;
    Some(text(member, "server_name"))
}

fn line(name: &str, one: &Value) -> String {
    let score = one["score"].as_i64().map_or_else(|| "not".to_owned(), |score| score.to_string());
    let reasons: Vec<String> = one["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    format!("{name}  {score}  {}", reasons.join("; ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_says_why_not() {
        let can = json!({"node": "x", "score": 12, "reasons": ["most memory", "fewest instances"]});
        assert_eq!(line("n1", &can), "n1  12  most memory; fewest instances");
        let cannot = json!({"node": "y", "score": null, "reasons": ["it is evacuated"]});
        assert_eq!(line("n2", &cannot), "n2  not  it is evacuated");
    }
}
