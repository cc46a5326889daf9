//! Join tokens: what an operator carries from a member to the machine that is to join.
//!
//! In the dialect's form, base64 of a JSON object, with the cluster's id added; a token that the
//! dialect's own clients put together has none, and the cluster says it when it lets the joiner in.
//! The fingerprint proves the cluster to the joiner, the secret proves the joiner to the cluster.
//! The log holds the hash of the secret only; a token is spent, or runs out, by a decision on it.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stapes_core::ids::Fingerprint;
use uuid::Uuid;

/// No token is longer: addresses are few.
const LENGTH_MAX: usize = 16 << 10;
const SECRET_DIGITS: usize = 64;

/// What only the holder of a token knows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret(String);

impl Secret {
    /// From the operating system's random numbers.
    #[must_use]
    pub fn draw() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl TryFrom<String> for Secret {
    type Error = TokenError;
    fn try_from(text: String) -> Result<Self, TokenError> {
        if text.len() == SECRET_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(text))
        } else {
            Err(TokenError::WrongSecret)
        }
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.0
    }
}

/// What the log knows a secret by.
pub type SecretHash = String;

/// The hash of a token's secret. A plain one will do: secrets are drawn, not thought up.
#[must_use]
pub fn hash_secret(secret: &str) -> SecretHash {
    let digest = Sha256::new().chain_update("stapes join ").chain_update(secret).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What lets one named node join, until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The name that the new member is to have.
    #[serde(rename = "server_name")]
    pub name: String,
    /// Of the cluster authority's certificate.
    pub fingerprint: Fingerprint,
    /// Where members serve the API, `host:port`.
    pub addresses: Vec<String>,
    pub secret: Secret,
    pub expires_at: DateTime<Utc>,
    /// Not in the dialect: its clients ignore it, and make tokens without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Uuid>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the join token is empty: paste all of what `stapes cluster add NAME` printed")]
    Empty,
    #[error(
        "not a join token: {0}; paste all of what `stapes cluster add NAME` printed, as one line"
    )]
    NotAToken(String),
    #[error(
        "the join token has {0} characters, which no whole one has: paste all of what `stapes \
         cluster add NAME` printed, as one line"
    )]
    WrongLength(usize),
    #[error("not a join token: its secret is not {SECRET_DIGITS} hexadecimal digits")]
    WrongSecret,
    #[error("not a join token: it names no address of a member")]
    NoAddress,
    #[error(
        "the join token for {name} expired at {expires_at}: make a new one with `stapes cluster add \
         {name}` on a member"
    )]
    Expired { name: String, expires_at: DateTime<Utc> },
}

impl JoinToken {
    #[must_use]
    pub fn encode(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a token, as it was pasted, and refuses one that is over at `now`.
    ///
    /// # Errors
    /// When it is no token, not all of it, or expired.
    pub fn parse(pasted: &str, now: DateTime<Utc>) -> Result<Self, TokenError> {
        let text: String = pasted.split_whitespace().collect();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > LENGTH_MAX || !text.len().is_multiple_of(4) {
            return Err(TokenError::WrongLength(text.len()));
        }
        let json = STANDARD
            .decode(&text)
            .map_err(|error| TokenError::NotAToken(format!("it is not base64 ({error})")))?;
        let token: Self =
            serde_json::from_slice(&json).map_err(|error| Self::unreadable(text.len(), &error))?;
        if token.addresses.is_empty() {
            return Err(TokenError::NoAddress);
        }
        if token.expires_at <= now {
            return Err(TokenError::Expired { name: token.name, expires_at: token.expires_at });
        }
        Ok(token)
    }

    fn unreadable(length: usize, error: &serde_json::Error) -> TokenError {
        if error.is_eof() {
            TokenError::WrongLength(length)
        } else {
            TokenError::NotAToken(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn token() -> JoinToken {
        JoinToken {
            name: "n2".to_owned(),
            fingerprint: Fingerprint::new("ab".repeat(32)).unwrap(),
            addresses: vec!["10.0.0.1:8443".to_owned(), "[fd00::1]:8443".to_owned()],
            secret: Secret::draw(),
            expires_at: at("2026-11-21T15:00:00Z"),
            cluster: Some(Uuid::from_u128(7)),
        }
    }

    #[test]
    fn a_token_comes_back_as_it_was_however_it_was_pasted() {
        let token = token();
        let text = token.encode();
        let now = at("2026-11-21T14:59:59Z");
        assert_eq!(JoinToken::parse(&text, now), Ok(token.clone()));
        let (first, rest) = text.split_at(40);
        assert_eq!(JoinToken::parse(&format!("  {first}\n {rest}\n"), now), Ok(token));
    }

    #[test]
    fn the_form_is_the_dialects() {
        let json = STANDARD.decode(token().encode()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        for field in ["server_name", "fingerprint", "addresses", "secret", "expires_at"] {
            assert!(value.get(field).is_some(), "{field}: {value}");
        }
        assert_eq!(value["expires_at"], "2026-11-21T15:00:00Z");
    }

    #[test]
    fn what_the_dialects_client_puts_together_is_a_token() {
        // As `incus cluster add n2` prints it: its own order of fields, and nothing of ours.
        let fingerprint = "ab".repeat(32);
        let secret = "0f".repeat(32);
        let json = format!(
            r#"{{"server_name":"n2","fingerprint":"{fingerprint}","addresses":["10.0.0.1:8443"],"secret":"{secret}","expires_at":"2026-11-21T15:00:00.123456789+01:00"}}"#
        );
        let token = JoinToken::parse(&STANDARD.encode(json), at("2026-11-21T13:00:00Z")).unwrap();
        assert_eq!((token.name.as_str(), token.cluster), ("n2", None));
        assert_eq!((token.secret.expose(), token.fingerprint.as_str()), (&*secret, &*fingerprint));
        // And what has no id is written without one.
        assert_eq!(JoinToken::parse(&token.encode(), at("2026-11-21T13:00:00Z")), Ok(token));
    }

    #[test]
    fn what_is_no_token_is_told_from_what_is_not_whole_or_over() {
        let text = token().encode();
        let now = at("2026-11-21T14:00:00Z");
        let parse = |text: &str| JoinToken::parse(text, now).unwrap_err();
        assert_eq!(parse(" \n"), TokenError::Empty);
        assert_eq!(parse(&text[..text.len() - 5]), TokenError::WrongLength(text.len() - 5));
        let shorter = text.len() / 8 * 4;
        assert_eq!(parse(&text[..shorter]), TokenError::WrongLength(shorter));
        assert_eq!(parse(&"AAAA".repeat(9000)), TokenError::WrongLength(36_000));
        assert!(matches!(parse("not-a-token!"), TokenError::NotAToken(_)));
        assert!(matches!(parse(&STANDARD.encode("[1]  ")), TokenError::NotAToken(_)));
        let nowhere = JoinToken { addresses: Vec::new(), ..token() };
        assert_eq!(parse(&nowhere.encode()), TokenError::NoAddress);
        let json = serde_json::to_string(&token()).unwrap();
        let weak = STANDARD.encode(json.replace("\"secret\":\"", "\"secret\":\"x"));
        assert!(matches!(parse(&weak), TokenError::NotAToken(_)));
        let late = JoinToken::parse(&text, token().expires_at).unwrap_err();
        assert!(matches!(late, TokenError::Expired { .. }), "{late}");
        assert!(late.to_string().contains("stapes cluster add n2"), "{late}");
    }

    #[test]
    fn secrets_differ_and_only_their_hash_is_shown() {
        let (one, other) = (Secret::draw(), Secret::draw());
        assert_ne!(one, other);
        assert_ne!(hash_secret(one.expose()), hash_secret(other.expose()));
        assert_eq!(hash_secret(one.expose()), hash_secret(one.expose()));
        assert!(!format!("{one:?}").contains(one.expose()));
    }
}
