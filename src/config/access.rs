//! `allow` and `deny`: who may use a listener or a route.

use super::Peers;
use super::decode::{Field, Section};
use super::peers::{Who, decode_peers};

/// Whom a listener or a route is for; nobody named: everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    allow: Option<Rule>,
    deny: Option<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    peers: Peers,
    /// Where it is written, for the log.
    place: String,
}

impl Access {
    /// Whether there is no rule.
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_none()
    }

    /// Whether a rule asks for users or groups of this host, or their programs.
    pub fn asks_for_owner(&self) -> bool {
        self.rules().any(|rule| rule.peers.ask_for_owner())
    }

    pub fn asks_for_program(&self) -> bool {
        self.rules().any(|rule| rule.peers.ask_for_program())
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.allow.iter().chain(&self.deny)
    }

    /// # Errors
    /// The place of the rule that does not permit it, for the log. `deny` wins, and what is
    /// unknown of a peer is taken as what is denied and never as what is allowed.
    pub fn check(&self, who: &Who<'_>) -> Result<(), String> {
        if let Some(rule) = self.deny.as_ref().filter(|rule| rule.peers.touch(who)) {
            return Err(format!("deny at {} is for this client", rule.place));
        }
        match &self.allow {
            Some(rule) if !rule.peers.include(who) => {
                Err(format!("allow at {} is not for this client", rule.place))
            }
            _ => Ok(()),
        }
    }
}

/// Reads `allow` and `deny` out of a table that may have neither.
pub fn decode_access(s: &mut Section<'_>) -> Option<Access> {
    let (allow, deny) = (s.field("allow"), s.field("deny"));
    let mut complete = true;
    let mut rule = |field: Option<Field<'_>>| {
        let field = field?;
        let rule = decode_rule(&field);
        complete &= rule.is_some();
        rule
    };
    let access = Access {
        allow: rule(allow),
        deny: rule(deny),
    };
    complete.then_some(access)
}

fn decode_rule(field: &Field<'_>) -> Option<Rule> {
    let mut s = field.section()?;
    let peers = decode_peers(&mut s);
    s.finish();
    let peers = peers?;
    if peers.are_everybody() {
        field.problem(
            "nobody is named; write users, groups, executables or clients, or remove this",
        );
    }
    Some(Rule {
        peers,
        place: field.place(),
    })
}
