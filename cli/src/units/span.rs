//! Spans of time: `90`, `30s`, `2h`, `1d12h`, `3w`.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a span of time: write 90, 30s, 5m, 2h, 1d12h or 3w")]
pub(crate) struct NotASpan(String);

/// A bare number is seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, NotASpan> {
    let not_a_span = || NotASpan(text.to_owned());
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(not_a_span());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(not_a_span)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds: u64 = match unit {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            _ => return Err(not_a_span()),
        };
        let number: u64 = number.parse().map_err(|_| not_a_span())?;
        total = number
            .checked_mul(seconds)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(not_a_span)?;
        rest = tail;
    }
    Ok(Duration::from_secs(total))
}

/// The largest unit that fits, rounded down: `3 d`, `2 h`, `48 s`.
pub(crate) fn show(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.subsec_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_add_up() {
        let cases = [("90", 90), ("30s", 30), ("5m", 300), ("2h", 7200), ("1d12h", 129_600)];
        for (text, seconds) in cases {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "h", "2x", "2h3", "-1s", "99999999999999999w", "1.5h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_shown_in_one_unit() {
        let shown = |seconds| show(Duration::from_secs(seconds));
        assert_eq!(show(Duration::from_millis(12)), "12 ms");
        assert_eq!(
            [shown(59), shown(60), shown(7199), shown(172_800)],
            ["59 s", "1 min", "1 h", "2 d"]
        );
    }
}
