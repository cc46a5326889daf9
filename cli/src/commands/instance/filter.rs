//! The filters of `list`, as Incus reads them: a word is the beginning of a name or a regular
//! expression for it, `KEY=VALUE` compares. Most are the daemon's work, by `filter=`; what only the
//! live state knows (addresses) is compared here.

use std::fmt::Write as _;

use stapes_api::wire::instance::InstanceFull;

use super::columns::addresses;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// For the daemon; empty lets all pass.
    pub(crate) query: String,
    /// Family and address, or the beginning of one.
    addresses: Vec<(&'static str, String)>,
}

pub(crate) fn parse(words: &[String]) -> Filter {
    let mut filter = Filter::default();
    for word in words {
        let clause = match word.split_once('=') {
            Some(("ipv4", value)) => {
                filter.addresses.push(("inet", network_prefix(value)));
                continue;
            }
            Some(("ipv6", value)) => {
                filter.addresses.push(("inet6", network_prefix(value)));
                continue;
            }
            Some((key, value)) => format!("{} eq {}", field(key), quoted(&value.replace(',', "|"))),
            None => name_clause(word),
        };
        let join = if filter.query.is_empty() { "" } else { " and " };
        let _ = write!(filter.query, "{join}{clause}");
    }
    filter
}

/// `web` is what is called or begins with web; anything else is a regular expression.
fn name_clause(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if plain {
        format!("name eq (^{word}$|^{word}.*)")
    } else {
        format!("name eq {}", quoted(word))
    }
}

fn quoted(value: &str) -> String {
    if value.contains([' ', '"']) {
        format!("\"{}\"", value.replace('"', ""))
    } else {
        value.to_owned()
    }
}

fn field(key: &str) -> String {
    match key {
        "state" => "status".to_owned(),
        "arch" => "architecture".to_owned(),
        "name" | "type" | "status" | "architecture" | "location" | "description" | "project"
        | "ephemeral" | "stateful" => key.to_owned(),
        _ => format!("expanded_config.{key}"),
    }
}

/// `10.0.0.0/8` is compared by its whole octets, anything else as it begins.
fn network_prefix(value: &str) -> String {
    match value.split_once('/') {
        Some((address, "8")) => octets(address, 1),
        Some((address, "16")) => octets(address, 2),
        Some((address, "24")) => octets(address, 3),
        Some((address, _)) => address.to_owned(),
        None => value.to_owned(),
    }
}

fn octets(address: &str, count: usize) -> String {
    address.split('.').take(count).fold(String::new(), |text, octet| text + octet + ".")
}

impl Filter {
    /// What the daemon could not compare.
    pub(crate) fn admits(&self, full: &InstanceFull) -> bool {
        self.addresses.iter().all(|(family, prefix)| {
            full.state.as_ref().is_some_and(|state| {
                addresses(state, family).iter().any(|(address, _)| address.starts_with(prefix))
            })
        })
    }

    pub(crate) fn needs_state(&self) -> bool {
        !self.addresses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(words: &[&str]) -> String {
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).query
    }

    #[test]
    fn words_become_the_daemons_filter() {
        assert_eq!(query(&[]), "");
        assert_eq!(query(&["web"]), "name eq (^web$|^web.*)");
        assert_eq!(query(&["^w.*[12]$"]), "name eq ^w.*[12]$");
        assert_eq!(
            query(&["state=running", "type=container"]),
            "status eq running and type eq container"
        );
        assert_eq!(query(&["user.owner=alice b"]), "expanded_config.user.owner eq \"alice b\"");
    }

    #[test]
    fn addresses_are_compared_here() {
        let filter = parse(&["ipv4=10.4.0.0/16".to_owned()]);
        assert_eq!((filter.query.as_str(), filter.needs_state()), ("", true));
        let mut full = InstanceFull::default();
        assert!(!filter.admits(&full));
        let state: stapes_api::wire::instance_state::InstanceState = serde_json::from_value(
            serde_json::json!({ "pid": 7, "network": { "eth0": { "addresses": [
                { "family": "inet", "address": "10.4.0.17", "netmask": "24", "scope": "global" }
            ] } } }),
        )
        .unwrap();
        full.state = Some(state);
        assert!(filter.admits(&full));
        assert!(!parse(&["ipv4=10.40".to_owned()]).admits(&full));
    }
}
