//! Every event that was ever written can be read: a record of each, as it lies in the log.
//!
//! `corpus/records.hex` has a line for each: a name and the record's bytes. A line that is there is
//! never changed. After adding a variant, give it a sample in `corpus/samples.rs` and add its line:
//!
//! ```text
//! UPDATE_CORPUS=1 cargo test -p stapes-core --test corpus
//! ```

#[path = "corpus/parts.rs"]
mod parts;
#[path = "corpus/samples.rs"]
mod samples;

use std::{collections::BTreeMap, fmt::Write, path::PathBuf};

use stapes_core::record::{Body, Record};

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "corpus", "records.hex"].iter().collect()
}

fn corpus() -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let record = |line: &str| {
        let (name, hex) = line.split_once(' ').expect("a line is a name and bytes");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (name.to_owned(), (0..hex.len()).step_by(2).map(byte).collect())
    };
    text.lines().map(record).collect()
}

/// The corpus, with what is new in it if that is asked for.
fn updated() -> BTreeMap<String, Vec<u8>> {
    let mut corpus = corpus();
    if std::env::var_os("UPDATE_CORPUS").is_none() {
        return corpus;
    }
    for (name, record) in samples::records() {
        corpus.entry(name).or_insert_with(|| record.encode().to_vec());
    }
    let mut text = String::new();
    for (name, bytes) in &corpus {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let _ = writeln!(text, "{name} {hex}");
    }
    std::fs::write(path(), text).expect("the corpus can be written");
    corpus
}

#[test]
fn every_record_ever_written_is_read_and_means_the_same() {
    for (name, bytes) in corpus() {
        let record = Record::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        // What is written today is read as the same.
        assert_eq!(Record::decode(&record.encode()).expect("it was encoded"), record, "{name}");
        let variant = name.split_once('.').map_or(name.as_str(), |(variant, _)| variant);
        match &record.body {
            Body::Events(events) => {
                assert!(!events.is_empty(), "{name}");
                for event in events {
                    assert_eq!(samples::variant(event), variant, "{name}");
                }
            }
            Body::Task(task) => assert_eq!(samples::work(&task.work), variant, "{name}"),
        }
    }
}

#[test]
fn every_variant_has_a_sample() {
    let corpus = updated();
    let missing: Vec<_> =
        samples::ALL.into_iter().flatten().filter(|name| !corpus.contains_key(**name)).collect();
    assert!(missing.is_empty(), "add samples: UPDATE_CORPUS=1 cargo test ...: {missing:?}");
    for (name, _) in samples::records() {
        assert!(corpus.contains_key(&name), "{name} is not in the corpus");
    }
}
