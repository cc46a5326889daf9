//! Sizes: `2GiB` in and out, by Incus's suffix rules (a bare number is bytes; `k`, `M` … are
//! decimal, `Ki`, `Mi` … binary; a final `B` is optional).

const STEPS: [(&str, u32); 6] = [("k", 1), ("m", 2), ("g", 3), ("t", 4), ("p", 5), ("e", 6)];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write a number and a unit, as in 512MiB or 20GB")]
pub(crate) struct NotASize(String);

/// The bytes that `text` stands for.
pub(crate) fn parse(text: &str) -> Result<u64, NotASize> {
    let not_a_size = || NotASize(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, suffix) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| not_a_size())?;
    let factor = factor(&suffix.trim().to_ascii_lowercase()).ok_or_else(not_a_size)?;
    number.checked_mul(factor).ok_or_else(not_a_size)
}

fn factor(suffix: &str) -> Option<u64> {
    if matches!(suffix, "" | "b" | "byte" | "bytes") {
        return Some(1);
    }
    let suffix = suffix.strip_suffix('b').unwrap_or(suffix);
    let (letter, base) = match suffix.strip_suffix('i') {
        Some(letter) => (letter, 1024_u64),
        None => (suffix, 1000),
    };
    let (_, power) = STEPS.iter().find(|(name, _)| *name == letter)?;
    base.checked_pow(*power)
}

/// In binary units with at most two decimals: `4.11GiB`.
pub(crate) fn show(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut scale: u64 = 1;
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        scale *= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes}B");
    }
    // Hundredths in integers: exact, and never "1024.00KiB".
    let hundredths = u128::from(bytes) * 100 / u128::from(scale);
    format!("{}.{:02}{}", hundredths / 100, hundredths % 100, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_suffix() {
        let cases = [
            ("0", 0),
            ("12", 12),
            ("12B", 12),
            ("2GiB", 2 << 30),
            ("2gib", 2 << 30),
            ("2Gi", 2 << 30),
            ("20GB", 20_000_000_000),
            ("5 MiB", 5 << 20),
            ("1k", 1000),
            ("1KiB", 1024),
            ("15EiB", 15 << 60),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "GiB", "-1", "1.5GiB", "2XiB", "1GiBx", "16EiB", "99999999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(show(0), "0B");
        assert_eq!(show(1023), "1023B");
        assert_eq!(show(1024), "1.00KiB");
        assert_eq!(show(1024 * 1024 - 1), "1023.99KiB");
        assert_eq!(show(4_413_504_000), "4.11GiB");
        assert_eq!(show(u64::MAX), "15.99EiB");
    }
}
