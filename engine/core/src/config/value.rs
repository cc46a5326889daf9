//! Values: sizes, truths and CPU limits, as users write them.

use std::time::Duration;

use super::Config;
use crate::spec::CpuLimit;

/// The period over which CPU time is measured, as the kernel's default.
const PERIOD_US: u64 = 100_000;

/// Bytes, as in `512MiB`, `10GB`, `1.5GiB` or `4096`.
///
/// # Errors
/// What is wrong with it.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" | "bytes" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "PB" => 1_000_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        _ => return Err("a size is a number with a unit, as in 512MiB or 10GiB".to_owned()),
    };
    let whole =
        |number: &str| number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    let size = match number.split_once('.') {
        None => whole(number),
        Some((integer, fraction)) => fractional(whole(integer), fraction, factor),
    };
    size.ok_or_else(|| "not a number of bytes, or too large".to_owned())
}

fn fractional(integer: Option<u64>, fraction: &str, factor: u64) -> Option<u64> {
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 6)?;
    let parts = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor)
        / u128::from(10_u64.pow(digits));
    integer?.checked_add(u64::try_from(parts).ok()?)
}

/// A length of time as the dialect writes it: `3H`, `30M`, or parts side by side as in `1d 12H`; years
/// and months are 365 and 30 days.
///
/// # Errors
/// What is wrong with it.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "a length of time is parts such as 30M, 3H, 2d, 1w, 6m or 1y".to_owned();
    let mut seconds: u64 = 0;
    for part in text.split_whitespace() {
        let digits = part.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = part.split_at(digits);
        let each: u64 = match unit {
            "S" => 1,
            "M" => 60,
            "H" => 3600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            "m" => 30 * 86_400,
            "y" => 365 * 86_400,
            _ => return Err(wrong()),
        };
        let more = number.parse::<u64>().ok().and_then(|number| number.checked_mul(each));
        seconds = more.and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
    }
    // A century is more than anybody means, and any date can take it.
    let in_reason = (1..=100 * 365 * 86_400).contains(&seconds);
    in_reason.then(|| Duration::from_secs(seconds)).ok_or_else(wrong)
}

/// `true`, `1`, `yes`, `on` and their opposites, as the dialect takes them.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The memory limit that a configuration asks for; a percentage is of `host_bytes`.
///
/// # Errors
/// What is wrong with it.
pub fn memory(config: &Config, host_bytes: u64) -> Result<Option<u64>, String> {
    let Some(text) = config.get("limits.memory").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.strip_suffix('%') {
        Some(percent) => Ok(Some(host_bytes / 100 * u64::from(percentage(percent)?))),
        None => bytes(text).map(Some),
    }
}

pub(super) fn percentage(text: &str) -> Result<u8, String> {
    let percent = text.parse::<u8>().ok().filter(|percent| (1..=100).contains(percent));
    percent.ok_or_else(|| "a percentage is from 1% to 100%".to_owned())
}

/// The CPU limit that a configuration asks for: `limits.cpu` counts CPUs, `limits.cpu.allowance`
/// is time in a period and wins.
///
/// # Errors
/// What is wrong with it.
pub fn cpu(config: &Config) -> Result<Option<CpuLimit>, String> {
    let set = |key| config.get(key).filter(|text| !text.is_empty());
    if let Some(allowance) = set("limits.cpu.allowance") {
        return allowance_of(allowance).map(Some);
    }
    let Some(count) = set("limits.cpu") else { return Ok(None) };
    let count = count_of(count)?;
    Ok(Some(CpuLimit { quota_us: count * PERIOD_US, period_us: PERIOD_US }))
}

pub(super) fn count_of(text: &str) -> Result<u64, String> {
    let count = text.parse::<u64>().ok().filter(|count| (1..=4096).contains(count));
    count.ok_or_else(|| "a number of CPUs from 1 on; pinning to a set is not supported".to_owned())
}

pub(super) fn allowance_of(text: &str) -> Result<CpuLimit, String> {
    let wrong =
        || "time in a period, as in 25ms/100ms; a share in percent is not supported".to_owned();
    let (quota, period) = text.split_once('/').ok_or_else(wrong)?;
    let micros = |text: &str| text.strip_suffix("ms")?.parse::<u64>().ok()?.checked_mul(1000);
    let (quota_us, period_us) =
        (micros(quota).ok_or_else(wrong)?, micros(period).ok_or_else(wrong)?);
    if !(1_000..=1_000_000).contains(&period_us) || quota_us < 1_000 {
        return Err("the period is from 1ms to 1000ms and the time at least 1ms".to_owned());
    }
    Ok(CpuLimit { quota_us, period_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, seconds) in [("1S", 1), ("3H", 10_800), ("1d 12H", 129_600), ("2y", 63_072_000)]
        {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "3", "H", "3h", "-1H", "0S", "1H2M", "101y", "99999999999999999999S"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("512MiB", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("10GB", 10_000_000_000),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "MiB", "-1", "1.MiBB", "99999999999PiB", "1.1234567GiB", "1..2GiB", "ten"]
        {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_allowance_wins_over_a_count() {
        let config = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<Config>()
        };
        assert_eq!(cpu(&config(&[])), Ok(None));
        assert_eq!(
            cpu(&config(&[("limits.cpu", "2")])),
            Ok(Some(CpuLimit { quota_us: 200_000, period_us: 100_000 }))
        );
        let both = config(&[("limits.cpu", "2"), ("limits.cpu.allowance", "10ms/50ms")]);
        assert_eq!(cpu(&both), Ok(Some(CpuLimit { quota_us: 10_000, period_us: 50_000 })));
        assert!(cpu(&config(&[("limits.cpu", "0-3")])).is_err());
    }
}
