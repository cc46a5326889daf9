//! A path that an archive names, made safe to hand to openat2: relative, without `..`, bounded.

use super::super::{limits::Limits, refusal::Refusal};

const NAME_BYTES_MAX: usize = 255;

/// Components joined by single slashes; empty for the top itself. Any bytes but NUL and `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inside(Vec<u8>);

impl Inside {
    pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let outside = || Refusal::Outside { path: Refusal::shown(bytes) };
        let too_long = |what: &str, limit: usize| Refusal::TooMuch {
            what: format!("{what} in {}", Refusal::shown(bytes)),
            limit: limit as u64,
        };
        if bytes.len() > limits.path_bytes {
            return Err(too_long("bytes", limits.path_bytes));
        }
        if bytes.first() == Some(&b'/') || bytes.contains(&0) {
            return Err(outside());
        }
        let mut clean = Vec::with_capacity(bytes.len());
        let mut depth = 0;
        for name in bytes.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(outside()),
                _ if name.len() > NAME_BYTES_MAX => {
                    return Err(too_long("bytes of one name", NAME_BYTES_MAX));
                }
                _ => {}
            }
            depth += 1;
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(name);
        }
        if depth > limits.path_depth {
            return Err(too_long("directories", limits.path_depth));
        }
        Ok(Self(clean))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// The first name and what is below it.
    pub(super) fn split_first(&self) -> (&[u8], Self) {
        match self.0.iter().position(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], Self(self.0[at + 1..].to_vec())),
            None => (&self.0, Self::default()),
        }
    }

    /// The directory and the name in it. The top has neither.
    pub(super) fn split_last(&self) -> Option<(&[u8], &[u8])> {
        if self.is_top() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (b"", &self.0),
        })
    }

    pub(super) fn below(&self, top: &[u8]) -> Self {
        let mut joined = top.to_vec();
        if !joined.is_empty() && !self.is_top() {
            joined.push(b'/');
        }
        joined.extend_from_slice(&self.0);
        Self(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Inside, Refusal> {
        Inside::parse(text, &Limits::default())
    }

    #[test]
    fn paths_are_cleaned_or_refused() {
        for (text, clean) in
            [("./a//b/./c/", "a/b/c"), ("", ""), ("./", ""), ("a\nb", "a\nb"), ("...", "...")]
        {
            assert_eq!(parse(text.as_bytes()).unwrap().as_bytes(), clean.as_bytes(), "{text}");
        }
        assert_eq!(parse(b"a/\xff").unwrap().split_last().unwrap(), (&b"a"[..], &b"\xff"[..]));
        for bad in ["/etc/passwd", "..", "a/../b", "a/..", "a\0b"] {
            assert!(matches!(parse(bad.as_bytes()), Err(Refusal::Outside { .. })), "{bad}");
        }
        for long in ["a/".repeat(257), "a".repeat(256), "a/".repeat(3000)] {
            assert!(matches!(parse(long.as_bytes()), Err(Refusal::TooMuch { .. })));
        }
    }
}
