//! `filter=`: `name eq web and not status eq Stopped`, as Incus reads it.
//!
//! Operators are `eq` and `ne`, clauses are joined from left to right by `and` and `or`, and any
//! may be turned by `not`. Values are regular expressions without regard to case, anchored at both
//! ends unless they anchor themselves.

use regex_lite::{Regex, RegexBuilder};
use serde_json::Value;

use super::fault::Fault;

/// Bytes of a filter at most.
const LENGTH_MAX: usize = 4096;
/// Bytes that one compiled expression may take.
const REGEX_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Filter {
    clauses: Vec<Clause>,
}

#[derive(Debug)]
struct Clause {
    joined_by: Join,
    negated: bool,
    field: String,
    operator: Operator,
    text: String,
    pattern: Option<Regex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    And,
    Or,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > LENGTH_MAX {
            return Err(wrong("it is too long"));
        }
        let mut words = words(text)?.into_iter().peekable();
        let mut clauses = Vec::new();
        let mut joined_by = Join::And;
        loop {
            let mut field = words.next().ok_or_else(|| wrong("a clause is missing"))?;
            let negated = field.eq_ignore_ascii_case("not");
            if negated {
                field = words.next().ok_or_else(|| wrong("nothing follows \"not\""))?;
            }
            let operator = words.next().ok_or_else(|| wrong("no operator follows a field"))?;
            let text = words.next().ok_or_else(|| wrong("no value follows an operator"))?;
            clauses.push(Clause {
                joined_by,
                negated,
                operator: operator_of(&operator)?,
                pattern: pattern_of(&text),
                field,
                text,
            });
            let Some(join) = words.next() else { return Ok(Self { clauses }) };
            joined_by = match join.to_ascii_lowercase().as_str() {
                "and" => Join::And,
                "or" => Join::Or,
                _ => return Err(wrong(&format!("{join:?} is neither \"and\" nor \"or\""))),
            };
        }
    }

    /// Whether the thing, as it is on the wire, is wanted.
    pub(super) fn matches(&self, thing: &Value) -> bool {
        self.clauses.iter().fold(true, |so_far, clause| match clause.joined_by {
            Join::And => so_far && clause.matches(thing),
            Join::Or => so_far || clause.matches(thing),
        })
    }
}

impl Clause {
    fn matches(&self, thing: &Value) -> bool {
        let equal = field(thing, &self.field).is_some_and(|value| self.equals(value));
        let matches = match self.operator {
            Operator::Equal => equal,
            Operator::NotEqual => !equal,
        };
        matches != self.negated
    }

    fn equals(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => match &self.pattern {
                Some(pattern) => pattern.is_match(text),
                None => text.eq_ignore_ascii_case(&self.text),
            },
            Value::Number(number) => number.to_string() == self.text,
            Value::Bool(value) => truth(&self.text) == Some(*value),
            // "a,b": all of them are in the list.
            Value::Array(items) => {
                self.text.split(',').all(|text| items.iter().any(|item| item == text))
            }
            Value::Null | Value::Object(_) => false,
        }
    }
}

/// The value at a dotted path. Keys of configuration have dots too, so the longest key that is
/// there wins.
fn field<'a>(thing: &'a Value, path: &str) -> Option<&'a Value> {
    let map = thing.as_object()?;
    if let Some(value) = map.get(path) {
        return Some(value);
    }
    let dots: Vec<usize> = path.match_indices('.').map(|(at, _)| at).collect();
    dots.into_iter().rev().find_map(|at| field(map.get(&path[..at])?, &path[at + 1..]))
}

fn operator_of(text: &str) -> Result<Operator, Fault> {
    match text.to_ascii_lowercase().as_str() {
        "eq" => Ok(Operator::Equal),
        "ne" => Ok(Operator::NotEqual),
        _ => Err(wrong(&format!("{text:?} is neither \"eq\" nor \"ne\""))),
    }
}

/// What is no regular expression is compared as it is.
fn pattern_of(text: &str) -> Option<Regex> {
    let anchored = text.contains('^') || text.contains('$');
    let pattern = if anchored { text.to_owned() } else { format!("^{text}$") };
    RegexBuilder::new(&pattern).case_insensitive(true).size_limit(REGEX_BYTES_MAX).build().ok()
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Words between blanks; quotes keep blanks together.
fn words(text: &str) -> Result<Vec<String>, Fault> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(|| wrong("a quote is not closed"))?,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

fn wrong(why: &str) -> Fault {
    Fault::bad_request(format!("Invalid filter: {why}")).hint(
        "a filter is FIELD eq|ne VALUE, joined by and/or, e.g. name eq web and status ne Stopped",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_as_clients_write_them() {
        let thing = json!({
            "name": "web-1", "status": "Running", "ephemeral": false, "profiles": ["default", "x"],
            "config": {"user.team": "Blue Sky", "limits.cpu": "2"},
            "devices": {"eth0": {"nictype": "bridged"}}, "status_code": 103,
        });
        for (filter, wanted) in [
            ("name eq (^web$|^web.*)", true),
            ("name eq web", false),
            ("name eq web-.", true),
            ("name eq WEB-1", true),
            ("name ne web-1", false),
            ("status eq running and name eq nope", false),
            ("status eq running or name eq nope", true),
            ("not status eq stopped", true),
            ("config.user.team eq \"blue sky\"", true),
            ("config.user.nothing eq x", false),
            ("config.user.nothing ne x", true),
            ("devices.eth0.nictype eq bridged", true),
            ("ephemeral eq false", true),
            ("status_code eq 103", true),
            ("profiles eq x,default", true),
            ("profiles eq y", false),
            ("name eq [", false),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().matches(&thing), wanted, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for bad in ["name", "name eq", "name gt 3", "name eq a xor b eq c", "not", "a eq \"b"] {
            assert_eq!(Filter::parse(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
