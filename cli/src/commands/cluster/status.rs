//! `stapes cluster status`: one look.

use chrono::{Local, Utc};
use stapes_api::wire::cluster::{Cluster, ClusterHealth, ClusterMember};

use crate::{
    args::cluster::StatusArgs, exit::ExitStatus, failure::Result, output::format::Shape,
    session::Session, units::moment::show,
};

pub(crate) async fn run(session: &Session, args: StatusArgs) -> Result<ExitStatus> {
    let value = session.value("/1.0/cluster").await?;
    if args.format.format.shape != Shape::Table {
        session.printer.object(args.format.format, &value)?;
        return Ok(ExitStatus::Done);
    }
    let cluster: Cluster = serde_json::from_value(value).unwrap_or_default();
    let Some(health) = cluster.health else {
        session.printer.line("this server stands alone: it is a member of no cluster")?;
        session.printer.hint("stapes cluster enable NAME --address HOST:PORT");
        return Ok(ExitStatus::Done);
    };
    let members: Vec<ClusterMember> = session.get("/1.0/cluster/members?recursion=1").await?;
    for line in lines(&cluster.server_name, &health, &members) {
        session.printer.line(&line)?;
    }
    for note in &health.notes {
        session.printer.line(&format!("  {note}"))?;
    }
    // A script asks with this whether the cluster can be changed.
    Ok(if health.writable { ExitStatus::Done } else { ExitStatus::Unreachable })
}

fn lines(here: &str, health: &ClusterHealth, members: &[ClusterMember]) -> Vec<String> {
    let now = Local::now();
    let writes = if health.writable { "takes changes" } else { "READS ONLY" };
    let since = health.stale_since.and_then(|at| at.moment()).map(|at| show(at, now));
    let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
    let online = members.iter().filter(|member| member.status == "Online").count();
    let lag = health.head.saturating_sub(health.sequence);
    let lag = if lag == 0 { "in step".to_owned() } else { format!("{lag} records behind") };
    let mut lines = vec![
        format!(
            "cluster   {writes}{since}    (as {here} sees it at {})",
            Utc::now().format("%H:%M:%SZ")
        ),
        format!("members   {online} of {} online", members.len()),
        format!(
            "log       {} ({}), {} of {} servers answer, kept {} time{}",
            health.sequence,
            lag,
            health.servers_answering,
            health.servers,
            health.replicas,
            if health.replicas == 1 { "" } else { "s" }
        ),
    ];
    let away = members.iter().filter(|member| member.status != "Online");
    lines.extend(away.map(|member| {
        format!("  {}  {}  {}", member.server_name, member.status.to_uppercase(), member.message)
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_on_the_first_screen() {
        let member = |name: &str, status: &str| ClusterMember {
            server_name: name.to_owned(),
            status: status.to_owned(),
            message: "No heartbeat for 40s".to_owned(),
            ..ClusterMember::default()
        };
        let health = ClusterHealth {
            writable: false,
            replicas: 3,
            servers: 3,
            servers_answering: 1,
            head: 12,
            sequence: 10,
            ..ClusterHealth::default()
        };
        let text =
            lines("n1", &health, &[member("n1", "Online"), member("n2", "Offline")]).join("\n");
        for part in ["READS ONLY", "1 of 2 online", "2 records behind", "1 of 3 servers", "OFFLINE"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
