//! The numbers of users and groups, as the host has them when the configuration is loaded.

use std::cell::RefCell;
use std::collections::HashMap;

use nix::unistd::{Group, User};

/// Asks once for each name: a thousand routes name the same few.
#[derive(Default)]
pub struct Ids {
    users: Asked,
    groups: Asked,
}

type Asked = RefCell<HashMap<String, Result<u32, String>>>;

impl Ids {
    /// A user's number, by name or as it is.
    pub fn user(&self, text: &str) -> Result<u32, String> {
        once(&self.users, text, user_id)
    }

    /// A group's number, by name or as it is.
    pub fn group(&self, text: &str) -> Result<u32, String> {
        once(&self.groups, text, group_id)
    }
}

fn once(
    asked: &Asked,
    text: &str,
    ask: impl FnOnce(&str) -> Result<u32, String>,
) -> Result<u32, String> {
    let mut asked = asked.borrow_mut();
    if let Some(known) = asked.get(text) {
        return known.clone();
    }
    let found = ask(text);
    asked.insert(text.to_owned(), found.clone());
    found
}

fn user_id(text: &str) -> Result<u32, String> {
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

fn group_id(text: &str) -> Result<u32, String> {
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
