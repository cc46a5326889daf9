//! `stapes image list`

use serde_json::Value;
use stapes_api::wire::{Time, image::Image};

use crate::{
    args::image::ListArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    output::Listing,
    session::Session,
    units::size,
};

const DEFAULT: &str = "lfpdatsu";

pub(crate) async fn run(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let session = &session.all_projects(args.all_projects);
    let letters = args.columns.as_deref().unwrap_or(DEFAULT);
    let titles: Vec<&str> = letters.chars().map(title).collect::<Result<_>>()?;
    let mut listing = Listing::new(&titles);
    for value in session.values("/1.0/images?recursion=1").await? {
        let image = read(&value)?;
        if args.filters.iter().all(|word| admits(&image, word)) {
            listing.push(letters.chars().map(|letter| cell(letter, &image)).collect(), value);
        }
    }
    listing.sort(None)?;
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(super) fn read(value: &Value) -> Result<Image> {
    serde_json::from_value(value.clone())
        .map_err(|error| Failure::protocol("an image cannot be read").cause(&error))
}

fn title(letter: char) -> Result<&'static str> {
    Ok(match letter {
        'l' | 'L' => "Alias",
        'f' | 'F' => "Fingerprint",
        'p' => "Public",
        'd' => "Description",
        'a' => "Architecture",
        't' => "Type",
        's' => "Size",
        'u' => "Upload date",
        'e' => "Project",
        _ => {
            return Err(Failure::usage(format!("there is no column `{letter}`"))
                .hint("stapes image list --help"));
        }
    })
}

fn cell(letter: char, image: &Image) -> String {
    let aliases = || image.aliases.iter().map(|alias| alias.name.as_str());
    match letter {
        'l' => match aliases().min_by_key(|alias| alias.len()) {
            Some(first) if image.aliases.len() > 1 => {
                format!("{first} ({} more)", image.aliases.len() - 1)
            }
            Some(first) => first.to_owned(),
            None => String::new(),
        },
        'L' => aliases().collect::<Vec<_>>().join("\n"),
        'f' => image.fingerprint.chars().take(12).collect(),
        'F' => image.fingerprint.clone(),
        'p' => if image.writable.public { "yes" } else { "no" }.to_owned(),
        'd' => image.writable.properties.get("description").cloned().unwrap_or_default(),
        'a' => image.architecture.clone(),
        't' => image.kind.to_uppercase(),
        's' => size::show(image.size),
        'u' => when(image.uploaded_at),
        'e' => image.project.clone(),
        _ => String::new(),
    }
}

fn when(time: Time) -> String {
    time.moment().map_or_else(String::new, |at| at.format("%Y/%m/%d %H:%M UTC").to_string())
}

fn admits(image: &Image, word: &str) -> bool {
    match word.split_once('=') {
        Some(("type", kind)) => image.kind == kind,
        Some(("architecture", architecture)) => image.architecture == architecture,
        Some((key, value)) => {
            let key = key.strip_prefix("properties.").unwrap_or(key);
            image.writable.properties.get(key).is_some_and(|found| found == value)
        }
        None => {
            image.fingerprint.starts_with(word)
                || image.aliases.iter().any(|alias| alias.name.contains(word))
                || image.writable.properties.values().any(|value| value.contains(word))
        }
    }
}
