//! Who may become a member, and who may not: every wrong way in is refused with its reason, and leaves
//! both sides as they were. Pretend guests, real daemons and nats-servers.

use stapes_scenarios::hosts::{Host, Hosts};

/// What a command that must fail says.
fn refused(host: &Host, words: &[&str]) -> String {
    let asked = host.try_stapes(words);
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(!asked.status.success(), "{words:?} is refused:\n{said}");
    assert!(said.contains("hint:") || said.contains("stapes "), "it says what to type:\n{said}");
    said
}

fn join(host: &Host, token: &str) -> String {
    refused(host, &["cluster", "join", token.trim(), "--address", &host.listens()])
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_by_a_wrong_token() {
    let mut hosts = Hosts::simulated(3);
    for host in &mut hosts.hosts {
        host.start().await;
    }
    let [first, second, third] = &mut hosts.hosts[..] else { panic!("there are three") };
    first.stapes(&["cluster", "enable", "n1", "--address", &first.listens()]);
    first.serves().await;

    join(second, "nonsense");
    let taken = refused(first, &["cluster", "token", "n1"]);
    assert!(taken.contains("n1"), "two of one name:\n{taken}");

    // One that was revoked, and one whose time is over.
    let revoked = first.stapes(&["cluster", "token", "n2"]);
    first.stapes(&["cluster", "revoke-token", "n2"]);
    join(second, &revoked);
    first.stapes(&["config", "set", "cluster.join_token_expiry=1S"]);
    let expired = first.stapes(&["cluster", "token", "n2"]);
    a_second_passes().await;
    assert!(join(second, &expired).contains("expired"));
    first.stapes(&["config", "unset", "cluster.join_token_expiry"]);
    assert!(second.stapes(&["list"]).contains("NAME"), "it stands alone as before");

    // A good one works once.
    let token = first.stapes(&["cluster", "token", "n2"]);
    let address = second.listens();
    second.stapes(&["cluster", "join", token.trim(), "--address", &address]);
    second.serves().await;
    join(third, &token);
    let again = first.stapes(&["cluster", "token", "n3"]);
    let said = join(second, &again);
    assert!(said.contains("already clustered"), "a member joins no second time: {said}");

    // What a server has belongs to its own history.
    third.stapes(&["launch", "demo", "mine"]);
    let kept = join(third, &again);
    assert!(kept.contains("mine"), "what is in the way is named:\n{kept}");
    third.stapes(&["delete", "--force", "mine"]);
    let address = third.listens();
    third.stapes(&["cluster", "enable", "n3", "--address", &address]);
    third.serves().await;
    let said = join(third, &again);
    assert!(said.contains("already clustered"), "it has a cluster of its own: {said}");
    let listed = first.stapes(&["cluster", "list"]);
    assert!(listed.contains("n2") && !listed.contains("n3"), "{listed}");
}

/// The shortest that a token can live.
async fn a_second_passes() {
    let until = chrono::Utc::now() + chrono::TimeDelta::milliseconds(1100);
    while chrono::Utc::now() < until {
        tokio::task::yield_now().await;
    }
}
