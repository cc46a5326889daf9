//! Everything that a daemon answers from its views, to be compared before and after they are lost.

use std::collections::BTreeMap;

use serde_json::Value;
use stapes_api::client::Client;

/// What was asked, and the answer.
pub type Answers = BTreeMap<String, Value>;

/// Keys whose values are measured when they are asked for, so that no two answers agree.
const LIVE: [&str; 8] =
    ["cpu", "memory", "disk", "processes", "counters", "pid", "space", "addresses"];

const LISTS: [&str; 8] = [
    "/1.0/instances?recursion=2&all-projects=true",
    "/1.0/profiles?recursion=1&all-projects=true",
    "/1.0/networks?recursion=1&all-projects=true",
    "/1.0/storage-pools?recursion=1",
    "/1.0/images?recursion=1&all-projects=true",
    "/1.0/images/aliases?recursion=1",
    "/1.0/projects?recursion=1",
    "/1.0/operations?recursion=1&history=1&all-projects=true",
];

/// All lists, and the history of every instance.
///
/// # Panics
/// When the daemon does not answer.
pub async fn answers(client: &Client) -> Answers {
    let mut answers = Answers::new();
    let instances: Vec<Value> = client.get("/1.0/instances?recursion=1").await.expect("a list");
    let histories = instances.iter().filter_map(|one| one["name"].as_str());
    let histories = histories.map(|name| format!("/1.0/instances/{name}/history"));
    for path in LISTS.map(str::to_owned).into_iter().chain(histories) {
        let mut answer = client.get(&path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        still(&mut answer);
        answers.insert(path, answer);
    }
    answers
}

/// Leaves out what is measured, and what of the host is others'.
fn still(value: &mut Value) {
    if let Value::Array(list) = value {
        list.retain(|one| one.get("managed") != Some(&Value::Bool(false)));
    }
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !LIVE.contains(&key.as_str()));
            map.values_mut().for_each(still);
        }
        Value::Array(list) => list.iter_mut().for_each(still),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
