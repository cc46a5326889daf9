//! Join tokens: the log knows the hash of a secret; who has the secret may join, once, in time.

use chrono::{DateTime, Utc};

use super::Token;
use crate::{
    decision::{Context, Decision},
    node::check_name,
    rejection::{Noun, Rejection},
    server::{self, Server},
    world::{World, missing},
};

/// Tokens that wait at most.
const TOKENS_MAX: usize = 1000;

/// A token for the same name takes the place of the one before.
///
/// # Errors
/// When this is no cluster, or a member has the name.
pub fn create_token(
    world: &World,
    context: &Context,
    name: &str,
    secret_hash: &str,
    expires_at: DateTime<Utc>,
) -> Result<Decision, Rejection> {
    let cluster = world.cluster()?;
    check_name(name)?;
    if world.node(name).is_ok() {
        return Err(taken(name));
    }
    if expires_at <= context.time {
        return Err(Rejection::Invalid("The join token's expiry is in the past".to_owned()));
    }
    if cluster.tokens.len() >= TOKENS_MAX && !cluster.tokens.contains_key(name) {
        return Err(Rejection::Exhausted(format!("{TOKENS_MAX} join tokens wait already")));
    }
    let mut decision = Decision::for_context(context);
    let (name, secret_hash) = (name.to_owned(), secret_hash.to_owned());
    decision
        .record(Server::stream(), server::Event::TokenCreated { name, secret_hash, expires_at });
    Ok(decision)
}

/// # Errors
/// When there is no such token.
pub fn revoke_token(world: &World, context: &Context, name: &str) -> Result<Decision, Rejection> {
    if !world.cluster()?.tokens.contains_key(name) {
        return Err(missing(Noun::JoinToken, name));
    }
    let mut decision = Decision::for_context(context);
    decision.record(Server::stream(), server::Event::TokenRevoked { name: name.to_owned() });
    Ok(decision)
}

/// The token that the secret belongs to, with the name that it gives.
///
/// # Errors
/// When there is none, or its time is over.
pub(crate) fn redeem<'a>(
    world: &'a World,
    context: &Context,
    secret_hash: &str,
) -> Result<&'a str, Rejection> {
    let hint = || "make a new one at a member: stapes cluster add NAME".to_owned();
    let found = world.cluster()?.tokens.iter().find(|(_, token)| token.secret_hash == secret_hash);
    let Some((name, Token { expires_at, .. })) = found else {
        let message =
            "No matching join token found: it was used or revoked, or is of another cluster";
        return Err(Rejection::NotAllowed { message: message.to_owned(), hint: hint() });
    };
    if *expires_at <= context.time {
        let message = format!("The join token for {name:?} has expired");
        return Err(Rejection::NotAllowed { message, hint: hint() });
    }
    Ok(name)
}

/// The refusal of a name that a member has.
pub(crate) fn taken(name: &str) -> Rejection {
    Rejection::NotAllowed {
        message: format!("The cluster already has a member with name: {name}"),
        hint: "choose another name; see: stapes cluster list".to_owned(),
    }
}
