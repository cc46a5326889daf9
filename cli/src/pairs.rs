//! `KEY=VALUE` and `NAME,KEY=VALUE,…` as they are typed.

use std::io::Read as _;

use stapes_api::wire::{ConfigMap, DevicesMap};

use crate::failure::{Failure, Result};

/// `a=1 b=2`, or the two words `a 1`. A value of `-` is read from standard input.
pub(crate) fn parse(words: &[String]) -> Result<ConfigMap> {
    if let [key, value] = words
        && !key.contains('=')
    {
        return Ok(ConfigMap::from([(key.clone(), resolve(value)?)]));
    }
    flags(words)
}

/// `KEY=VALUE` each, as flags that repeat are.
pub(crate) fn flags(words: &[String]) -> Result<ConfigMap> {
    let mut pairs = ConfigMap::new();
    for word in words {
        let (key, value) = split(word)?;
        if pairs.insert(key.to_owned(), resolve(value)?).is_some() {
            return Err(Failure::usage(format!("`{key}` is given twice")));
        }
    }
    Ok(pairs)
}

fn resolve(value: &str) -> Result<String> {
    if value != "-" {
        return Ok(value.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::local("cannot read the value from stdin", &error))?;
    Ok(text)
}

fn split(word: &str) -> Result<(&str, &str)> {
    word.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| Failure::usage(format!("`{word}` is not KEY=VALUE")))
}

/// `root,size=20GiB root,pool=fast eth0,network=br1`
pub(crate) fn devices(words: &[String]) -> Result<DevicesMap> {
    let mut devices = DevicesMap::new();
    for word in words {
        let (name, keys) = word
            .split_once(',')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(format!("`{word}` is not NAME,KEY=VALUE")))?;
        let device = devices.entry(name.to_owned()).or_default();
        for pair in keys.split(',') {
            let (key, value) = split(pair)?;
            device.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(devices)
}

/// Lines of `KEY=VALUE`; empty ones and comments are skipped.
pub(crate) fn environment(text: &str) -> Result<ConfigMap> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            split(line).map(|(key, value)| (format!("environment.{key}"), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn pairs_come_in_both_of_incus_ways() {
        assert_eq!(parse(&words("limits.memory 2GiB")).unwrap()["limits.memory"], "2GiB");
        let pairs = parse(&words("a=1 b=x=y c=")).unwrap();
        assert_eq!((pairs["b"].as_str(), pairs["c"].as_str()), ("x=y", ""));
        for bad in ["a", "a b c", "=1", "a=1 a=2"] {
            assert!(parse(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_gather_their_keys() {
        let found =
            devices(&words("root,size=1GiB root,pool=fast eth0,network=br1,mtu=9000")).unwrap();
        assert_eq!(found["root"].len(), 2);
        assert_eq!(found["eth0"]["mtu"], "9000");
        assert!(devices(&words("root")).is_err());
    }

    #[test]
    fn environment_files_become_configuration() {
        let found = environment("# x\nA=1\n\n B=two words\n").unwrap();
        assert_eq!(found["environment.B"], "two words");
        assert!(environment("A").is_err());
    }
}
