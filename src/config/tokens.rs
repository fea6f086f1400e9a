//! `tokens`: the bearer tokens by which a listener's clients prove who they are.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::decode::Field;
use super::secret::decode_secret;
use super::upstream::check_name;
use crate::secret::Secret;

/// Fewer bytes can be guessed by whoever may try often enough.
const SHORTEST: usize = 16;

/// Clients and their tokens. A token itself is not kept, only what it is recognised by, unless a
/// program prints it anew from time to time.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tokens(Vec<Token>);

#[derive(Clone, PartialEq, Eq)]
struct Token {
    client: Arc<str>,
    digest: [u8; 32],
    /// What a refresh replaces.
    refreshed: Option<Secret>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|token| &token.client))
            .finish()
    }
}

impl Tokens {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clients(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|token| &*token.client)
    }

    /// Those of one client.
    pub fn of(&self, client: &str) -> Self {
        let tokens = self.0.iter().filter(|token| *token.client == *client);
        Self(tokens.cloned().collect())
    }

    /// Whose token this is. Takes as long for every token, known or not, of the same length.
    pub fn client(&self, presented: &[u8]) -> Option<&Arc<str>> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let mut found = u32::MAX;
        for (index, token) in (0..).zip(&self.0) {
            let is_it: Choice = token.digest.ct_eq(&digest);
            found.conditional_assign(&index, is_it);
        }
        self.0.get(found as usize).map(|token| &token.client)
    }

    /// Puts another value in for `old`. Gives how many clients had it.
    ///
    /// # Errors
    /// A sentence about the value, which no client may have.
    pub(super) fn replace(&mut self, old: &Secret, new: &Secret) -> Result<usize, String> {
        let is_old = |token: &Token| token.refreshed.as_ref().is_some_and(|it| it.is(old));
        let count = self.0.iter().filter(|token| is_old(token)).count();
        if count == 0 {
            return Ok(0);
        }
        check_length(new)?;
        let digest: [u8; 32] = Sha256::digest(new.expose()).into();
        for token in &mut self.0 {
            if is_old(token) {
                token.digest = digest;
                token.refreshed = Some(new.clone());
            } else if token.digest == digest {
                return Err(shared_with(&token.client));
            }
        }
        Ok(count)
    }
}

fn check_length(token: &Secret) -> Result<(), String> {
    if token.expose().len() < SHORTEST {
        return Err(format!(
            "the token has fewer than {SHORTEST} bytes and can be guessed; type: openssl rand -hex 32"
        ));
    }
    Ok(())
}

fn shared_with(client: &str) -> String {
    format!(
        "the client {client:?} has the same token, so nobody could tell them apart; make another"
    )
}

/// One secret for each client, under its name.
pub fn decode_tokens(field: &Field<'_>) -> Option<Tokens> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut complete = true;
    for entry in field.section()?.entries() {
        check_name(&entry);
        let Some(secret) = decode_secret(&entry) else {
            complete = false;
            continue;
        };
        if let Err(problem) = check_length(&secret) {
            entry.problem(problem);
        }
        let digest: [u8; 32] = Sha256::digest(secret.expose()).into();
        if let Some(other) = tokens.iter().find(|token| token.digest == digest) {
            entry.problem(shared_with(&other.client));
        }
        let refreshed = entry.report.refreshed.borrow();
        let is_refreshed = refreshed.iter().any(|it| it.secret.is(&secret));
        tokens.push(Token {
            client: entry.key().into(),
            digest,
            refreshed: is_refreshed.then_some(secret),
        });
    }
    if tokens.is_empty() && complete {
        field.problem("there is no token, so no client could connect; write one, or remove this");
    }
    complete.then_some(Tokens(tokens))
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    use super::*;

    fn tokens(list: &[(&str, &str)]) -> Tokens {
        let token = |(client, token): &(&str, &str)| Token {
            client: (*client).into(),
            digest: Sha256::digest(token.as_bytes()).into(),
            refreshed: None,
        };
        Tokens(list.iter().map(token).collect())
    }

    #[test]
    fn a_token_is_its_clients_and_nothing_near_it_is() {
        let tokens = tokens(&[("ci", "first-token"), ("desk", "second-token")]);
        let client = |token: &str| tokens.client(token.as_bytes()).map(|name| &**name);
        assert_eq!(client("first-token"), Some("ci"));
        assert_eq!(client("second-token"), Some("desk"));
        for wrong in ["", "first-toke", "first-token ", "First-token", "ci"] {
            assert_eq!(client(wrong), None, "{wrong}");
        }
        assert_eq!(Tokens::default().client(b""), None);
    }

    /// The least of many turns, in which whatever else runs on this machine has no part.
    fn least_times(tokens: &Tokens, presented: &[String]) -> Vec<Duration> {
        let mut least = vec![Duration::MAX; presented.len()];
        for _ in 0..50 {
            for (token, least) in presented.iter().zip(&mut least) {
                let begun = Instant::now();
                black_box(tokens.client(black_box(token.as_bytes())));
                *least = begun.elapsed().min(*least);
            }
        }
        least
    }

    #[test]
    fn the_first_token_the_last_and_one_that_is_nobodys_take_as_long() {
        let list: Vec<_> = (0..500).map(|n| format!("token-{n:03}")).collect();
        let pairs: Vec<_> = list.iter().map(|it| (&it[..], &it[..])).collect();
        let tokens = tokens(&pairs);
        let presented = [
            "token-000",
            "token-250",
            "token-499",
            "token-999",
            "xxxxxxxxx",
        ]
        .map(str::to_owned);
        // One that knows whose it is after the first comparison takes a hundredth.
        let is_even = || {
            let times = least_times(&tokens, &presented);
            let most = times.iter().max().unwrap();
            *most < 2 * *times.iter().min().unwrap()
        };
        assert!((0..5).any(|_| is_even()));
    }

    #[test]
    fn debug_shows_names_alone() {
        assert_eq!(format!("{:?}", tokens(&[("ci", "t")])), r#"["ci"]"#);
    }
}
