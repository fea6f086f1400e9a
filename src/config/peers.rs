//! Which clients something is for.

use std::path::{Path, PathBuf};

use super::decode::{Field, Section};

/// What is known of a client in some respect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<T> {
    Is(T),
    /// It does not apply: a client of another host is no user of this one.
    IsNot,
    Unknown,
}

impl<T> Known<T> {
    pub fn as_ref(&self) -> Known<&T> {
        match self {
            Self::Is(value) => Known::Is(value),
            Self::IsNot => Known::IsNot,
            Self::Unknown => Known::Unknown,
        }
    }

    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Is(value) => Known::Is(f(value)),
            Self::IsNot => Known::IsNot,
            Self::Unknown => Known::Unknown,
        }
    }

    pub fn is(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::IsNot | Self::Unknown => None,
        }
    }
}

/// A client, as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    pub user: Known<u32>,
    /// All that its process has.
    pub groups: Known<&'a [u32]>,
    pub program: Known<&'a Path>,
    /// The name of its token or certificate.
    pub client: Option<&'a str>,
}

/// Users and groups by number, as they are when the configuration is loaded; programs; clients
/// by the names of their tokens or certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers {
    users: Vec<u32>,
    groups: Vec<u32>,
    clients: Vec<String>,
    /// `None` and `Some([])` differ: every program, and none.
    programs: Option<Vec<PathBuf>>,
    /// One of `users`, `groups` and `clients` is given, be it empty.
    names_somebody: bool,
}

impl Peers {
    pub fn are_everybody(&self) -> bool {
        !self.names_somebody && self.programs.is_none()
    }

    pub fn ask_for_owner(&self) -> bool {
        !self.users.is_empty() || !self.groups.is_empty() || self.ask_for_program()
    }

    pub fn ask_for_program(&self) -> bool {
        self.programs.is_some()
    }

    /// As tests want them.
    #[cfg(any(test, fuzzing))]
    pub fn of_user(uid: u32) -> Self {
        Self {
            users: vec![uid],
            names_somebody: true,
            ..Self::default()
        }
    }

    /// Whether `who` is meant: one of the users, a member of one of the groups or one of the
    /// clients, if any is given, and by one of the programs, if any is given.
    pub fn include(&self, who: &Who<'_>) -> bool {
        self.include_if(who, false)
    }

    /// As [`Peers::include`], with everything that is unknown of `who` as it would have to be.
    pub fn may_include(&self, who: &Who<'_>) -> bool {
        self.include_if(who, true)
    }

    fn include_if(&self, who: &Who<'_>, unknown: bool) -> bool {
        let is_named = || {
            let by_user = self.has_user(who.user);
            let by_group = self.has_group(who.groups);
            by_user.unwrap_or(unknown && !self.users.is_empty())
                || by_group.unwrap_or(unknown && !self.groups.is_empty())
                || self.has_client(who)
        };
        (!self.names_somebody || is_named())
            && (self.programs.is_none() || self.has_program(who.program).unwrap_or(unknown))
    }

    /// Whether `who` is meant, or may be, in any respect.
    pub fn touch(&self, who: &Who<'_>) -> bool {
        self.has_user(who.user).unwrap_or(!self.users.is_empty())
            || self
                .has_group(who.groups)
                .unwrap_or(!self.groups.is_empty())
            // Where nobody is asked for a proof, no name is known.
            || who.client.map_or(!self.clients.is_empty(), |_| self.has_client(who))
            || self
                .has_program(who.program)
                .unwrap_or(self.programs.is_some())
    }

    fn has_user(&self, user: Known<u32>) -> Option<bool> {
        decide(user.map(|user| self.users.contains(&user)))
    }

    fn has_group(&self, groups: Known<&[u32]>) -> Option<bool> {
        decide(groups.map(|groups| groups.iter().any(|group| self.groups.contains(group))))
    }

    fn has_client(&self, who: &Who<'_>) -> bool {
        who.client
            .is_some_and(|name| self.clients.iter().any(|client| client == name))
    }

    fn has_program(&self, program: Known<&Path>) -> Option<bool> {
        let programs = self.programs.as_deref().unwrap_or_default();
        decide(program.map(|program| programs.iter().any(|known| known == program)))
    }
}

/// `None`: it cannot be known.
fn decide(answer: Known<bool>) -> Option<bool> {
    match answer {
        Known::Is(answer) => Some(answer),
        Known::IsNot => Some(false),
        Known::Unknown => None,
    }
}

/// Reads `users`, `groups`, `clients` and `executables` out of a table that may have none of them.
pub fn decode_peers(s: &mut Section<'_>) -> Option<Peers> {
    let [users, groups, clients] = ["users", "groups", "clients"].map(|key| s.field(key));
    let executables = s.field("executables");
    let names_somebody = users.is_some() || groups.is_some() || clients.is_some();
    let ids = &s.report.ids;
    Some(Peers {
        users: each(users, |item| item.parse(|name| ids.user(name)))?,
        groups: each(groups, |item| item.parse(|name| ids.group(name)))?,
        clients: each(clients, client)?,
        programs: match executables {
            Some(field) => Some(each(Some(field), program)?),
            None => None,
        },
        names_somebody,
    })
}

/// Whether anybody has this name is known when all listeners are.
fn client(item: &Field<'_>) -> Option<String> {
    let name = item.text()?.to_owned();
    let named = (item.origin(), item.path.clone(), name.clone());
    item.report.named_clients.borrow_mut().push(named);
    Some(name)
}

fn each<T>(list: Option<Field<'_>>, decode: impl Fn(&Field<'_>) -> Option<T>) -> Option<Vec<T>> {
    let Some(list) = list else {
        return Some(Vec::new());
    };
    // All of them, for all of their problems.
    let decoded: Vec<_> = list.items()?.iter().map(decode).collect();
    decoded.into_iter().collect()
}

/// As `/proc/PID/exe` names it: absolute, links followed.
fn program(item: &Field<'_>) -> Option<PathBuf> {
    let path = PathBuf::from(item.text()?);
    if !path.is_absolute() {
        item.problem("an executable is named by its whole path, such as \"/usr/bin/claude\"");
        return None;
    }
    match path.canonicalize() {
        Ok(real) => Some(real),
        Err(error) => {
            item.warn(format!(
                "this executable is not there ({error}), so nobody runs it; install it, then reload"
            ));
            Some(path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Who<'static> {
        Who {
            user: Known::Is(1000),
            groups: Known::Is(&[1000, 50]),
            program: Known::Is(Path::new("/usr/bin/claude")),
            client: None,
        }
    }

    fn peers(users: &[u32], groups: &[u32], programs: Option<&[&str]>) -> Peers {
        Peers {
            users: users.to_vec(),
            groups: groups.to_vec(),
            programs: programs.map(|list| list.iter().map(PathBuf::from).collect()),
            clients: vec!["ci".to_owned()],
            names_somebody: !users.is_empty() || !groups.is_empty(),
        }
    }

    #[test]
    fn one_of_the_names_and_one_of_the_programs_are_asked_for() {
        for (peers, included) in [
            (peers(&[1000], &[], None), true),
            (peers(&[1], &[50], None), true),
            (peers(&[1], &[2], None), false),
            (peers(&[1000], &[], Some(&["/usr/bin/claude"])), true),
            (peers(&[1000], &[], Some(&["/bin/sh"])), false),
            (peers(&[1], &[], Some(&["/usr/bin/claude"])), false),
            (peers(&[], &[], Some(&["/usr/bin/claude"])), true),
            (peers(&[], &[], Some(&[])), false),
            (Peers::default(), true),
        ] {
            assert_eq!(peers.include(&alice()), included, "{peers:?}");
        }
        let ci = Who {
            client: Some("ci"),
            ..alice()
        };
        assert!(peers(&[1], &[], None).include(&ci));
    }

    #[test]
    fn what_is_unknown_may_be_what_is_asked_for_and_what_is_known_may_not() {
        let unknown = Who {
            user: Known::Unknown,
            groups: Known::Is(&[50]),
            program: Known::Unknown,
            client: None,
        };
        for (peers, may_be) in [
            (peers(&[1000], &[], None), true),
            (peers(&[], &[51], None), false),
            (peers(&[], &[51], Some(&["/bin/sh"])), false),
            (peers(&[], &[50], Some(&["/bin/sh"])), true),
            (peers(&[], &[], Some(&["/bin/sh"])), true),
            (Peers::default(), true),
        ] {
            assert_eq!(peers.may_include(&unknown), may_be, "{peers:?}");
            assert_eq!(peers.may_include(&alice()), peers.include(&alice()));
        }
    }

    #[test]
    fn what_is_unknown_is_never_included_and_always_touched() {
        let unknown = Who {
            user: Known::Unknown,
            groups: Known::Unknown,
            program: Known::Unknown,
            client: None,
        };
        let remote = Who {
            user: Known::IsNot,
            groups: Known::IsNot,
            program: Known::IsNot,
            client: Some("desk"),
        };
        // Nobody asked it for a proof.
        let nameless = Who {
            client: None,
            ..remote
        };
        for peers in [
            peers(&[1000], &[], None),
            peers(&[], &[50], None),
            peers(&[], &[], Some(&["/usr/bin/claude"])),
        ] {
            let judged = [unknown, remote, nameless, alice()]
                .map(|who| (peers.include(&who), peers.touch(&who)));
            assert_eq!(
                judged,
                [(false, true), (false, false), (false, true), (true, true)],
                "{peers:?}"
            );
        }
    }
}
