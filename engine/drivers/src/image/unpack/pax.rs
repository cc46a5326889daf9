//! PAX records: `LENGTH KEY=VALUE\n`, where the length counts everything and the value may hold any
//! byte.

use super::super::refusal::Refusal;

const XATTR: &[u8] = b"SCHILY.xattr.";

#[derive(Clone, Debug, Default)]
pub(super) struct Records(Vec<Record>);

/// Key and value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

fn corrupt() -> Refusal {
    Refusal::Corrupt { what: "PAX header".into() }
}

impl Records {
    /// Adds what a header says; later records win.
    pub(super) fn read(&mut self, mut block: &[u8]) -> Result<(), Refusal> {
        while !block.is_empty() {
            let space = block.iter().position(|byte| *byte == b' ').ok_or_else(corrupt)?;
            let length =
                std::str::from_utf8(&block[..space]).ok().and_then(|text| text.parse().ok());
            let length: usize = length.ok_or_else(corrupt)?;
            if length <= space + 1 || length > block.len() || block[length - 1] != b'\n' {
                return Err(corrupt());
            }
            let record = &block[space + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(corrupt)?;
            self.0.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            block = &block[length..];
        }
        Ok(())
    }

    /// An empty value takes a record back.
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    pub(super) fn bytes(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get(key).map(<[u8]>::to_vec)
    }

    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|_| corrupt())?;
        text.parse().map(Some).map_err(|_| corrupt())
    }

    /// Seconds with a fraction, and nanoseconds.
    pub(super) fn time(&self, key: &[u8]) -> Result<Option<(i64, u32)>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|_| corrupt())?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let seconds: i64 = whole.parse().map_err(|_| corrupt())?;
        let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        let nanoseconds: u32 = digits.parse().map_err(|_| corrupt())?;
        if !whole.starts_with('-') || nanoseconds == 0 {
            return Ok(Some((seconds, nanoseconds)));
        }
        // -1.25 is 0.75 after -2.
        Ok(Some((seconds.saturating_sub(1), 1_000_000_000 - nanoseconds)))
    }

    pub(super) fn xattrs(&self, bytes_max: usize) -> Result<Vec<Record>, Refusal> {
        let mut found: Vec<Record> = Vec::new();
        let mut bytes = 0;
        for (key, value) in &self.0 {
            let Some(name) = key.strip_prefix(XATTR) else { continue };
            bytes += name.len() + value.len();
            if bytes > bytes_max {
                let what = "bytes of extended attributes on one file".into();
                return Err(Refusal::TooMuch { what, limit: bytes_max as u64 });
            }
            found.retain(|(known, _)| known != name);
            found.push((name.to_vec(), value.clone()));
        }
        Ok(found)
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.get(b"GNU.sparse.map").is_some() || self.get(b"GNU.sparse.major").is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines() {
        let mut records = Records::default();
        records
            .read(b"36 SCHILY.xattr.security.capability=\n30 mtime=1350244992.0239604\n")
            .unwrap_err();
        records = Records::default();
        records.read(b"24 SCHILY.xattr.user.a=\n\n9 size=3\n").unwrap_err();
        records = Records::default();
        records.read(b"26 SCHILY.xattr.user.a=\n\n\n11 size=33\n").unwrap();
        assert_eq!(records.number(b"size").unwrap(), Some(33));
        assert_eq!(records.xattrs(100).unwrap(), [(b"user.a".to_vec(), b"\n\n".to_vec())]);
        assert!(matches!(records.xattrs(7), Err(Refusal::TooMuch { .. })));
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let mut records = Records::default();
        records.read(b"20 mtime=1350244992.5\n").unwrap_err();
        records.read(b"22 mtime=1350244992.5\n").unwrap();
        assert_eq!(records.time(b"mtime").unwrap(), Some((1_350_244_992, 500_000_000)));
        let mut negative = Records::default();
        negative.read(b"15 mtime=-1.25\n").unwrap();
        assert_eq!(negative.time(b"mtime").unwrap(), Some((-2, 750_000_000)));
    }
}
