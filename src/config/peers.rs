//! Which of this host's users something is for.

use nix::unistd::{Group, User};

use super::decode::{Field, Section};

/// Users and groups, by number. Names are looked up when the configuration is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers {
    /// Nobody was named: it is for all.
    everybody: bool,
    users: Vec<u32>,
    /// Members listed under these groups are among `users`.
    groups: Vec<u32>,
}

impl Peers {
    /// Whether somebody is meant: a user and a group by number, or nobody knows who.
    pub fn include(&self, peer: Option<(u32, u32)>) -> bool {
        self.everybody
            || peer.is_some_and(|(user, group)| {
                self.users.contains(&user) || self.groups.contains(&group)
            })
    }
}

/// Reads `users` and `groups` out of a table that may have neither.
pub fn decode_peers(s: &mut Section<'_>) -> Option<Peers> {
    let (users, groups) = (s.field("users"), s.field("groups"));
    let mut peers = Peers {
        everybody: users.is_none() && groups.is_none(),
        ..Peers::default()
    };
    let mut complete = true;
    for item in users.iter().flat_map(Field::listed) {
        let id = item.parse(user_id);
        complete &= id.is_some();
        peers.users.extend(id);
    }
    for item in groups.iter().flat_map(Field::listed) {
        let id = item.parse(group_id);
        complete &= id.is_some();
        peers.users.extend(id.iter().flat_map(|id| members(*id)));
        peers.groups.extend(id);
    }
    complete.then_some(peers)
}

/// A user's number, by name or as it is.
pub fn user_id(text: &str) -> Result<u32, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!(
            "there is no user {text:?}; create it, or name another"
        )),
        Err(error) => Err(format!(
            "the user {text:?} cannot be looked up ({error}); write its number"
        )),
    }
}

/// A group's number, by name or as it is.
pub fn group_id(text: &str) -> Result<u32, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!(
            "there is no group {text:?}; type: groupadd --system {text}"
        )),
        Err(error) => Err(format!(
            "the group {text:?} cannot be looked up ({error}); write its number"
        )),
    }
}

/// The kernel tells a peer's primary group alone: whom the group lists is looked up here.
fn members(group: u32) -> Vec<u32> {
    let group = Group::from_gid(group.into()).ok().flatten();
    let names = group.map(|group| group.mem).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| User::from_name(name).ok().flatten())
        .map(|user| user.uid.as_raw())
        .collect()
}
