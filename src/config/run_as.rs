//! `server.user` and `server.group`: whom a daemon becomes that root started.

use nix::unistd::{Gid, Uid, User};

use super::decode::Section;
use crate::privilege::RunAs;

/// The kernel takes this number for "leave it as it is".
const UNCHANGED: u32 = u32::MAX;

pub fn decode_run_as(s: &mut Section<'_>) -> Option<RunAs> {
    let (user, group) = (s.field("user"), s.field("group"));
    let Some(user) = user else {
        if let Some(group) = group {
            group.key_problem("a group alone leaves the daemon root; add \"user\"");
        }
        return None;
    };
    let gid = match group {
        Some(group) => Some(group.parse(|text| valid(s.report.ids.group(text)?, "group"))?),
        None => None,
    };
    user.parse(|text| run_as(text, gid))
}

fn run_as(text: &str, gid: Option<u32>) -> Result<RunAs, String> {
    let entry = entry(text)?;
    let number = entry.as_ref().map(|user| user.uid.as_raw());
    let uid = match number.or_else(|| text.parse().ok()) {
        Some(0) => {
            return Err("root is whom it is to stop being; name a user of its own".to_owned());
        }
        Some(uid) => valid(uid, "user")?,
        None => {
            return Err(format!(
                "there is no user {text:?}; type: useradd --system {text}"
            ));
        }
    };
    let own = entry.as_ref().map(|user| user.gid.as_raw());
    let gid = gid.or(own).ok_or_else(|| {
        format!("the user {uid} has no entry in the user database, and so no group; add \"group\"")
    })?;
    let groups = match &entry {
        Some(user) => groups(user, gid)?,
        None => [gid].into(),
    };
    Ok(RunAs {
        uid,
        gid,
        groups,
        entry: entry.map(|user| (user.name, user.dir)),
    })
}

fn valid(id: u32, what: &str) -> Result<u32, String> {
    if id == UNCHANGED {
        return Err(format!("{id} is no {what}; write its name"));
    }
    Ok(id)
}

/// A user in the database, by its number or its name.
fn entry(text: &str) -> Result<Option<User>, String> {
    let found = match text.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(text),
    };
    found.map_err(|error| format!("the user {text:?} cannot be looked up ({error}); try again"))
}

#[cfg(target_os = "linux")]
fn groups(user: &User, gid: u32) -> Result<Box<[u32]>, String> {
    let of = |error: &dyn std::fmt::Display| {
        format!("the groups of that user cannot be looked up ({error}); try again")
    };
    let name = std::ffi::CString::new(user.name.as_str()).map_err(|error| of(&error))?;
    let groups =
        nix::unistd::getgrouplist(&name, Gid::from_raw(gid)).map_err(|error| of(&error))?;
    Ok(groups.iter().map(|group| group.as_raw()).collect())
}

#[cfg(not(target_os = "linux"))]
fn groups(_: &User, gid: u32) -> Result<Box<[u32]>, String> {
    Ok([Gid::from_raw(gid).as_raw()].into())
}
