//! `[[route.policy]]`: which tools, prompts and resources which peers may use.

use wildmatch::WildMatch;

use super::decode::Field;
use super::peers::{Peers, decode_peers};

/// What some peers may ask of an upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub peers: Peers,
    pub tools: Rules,
    pub prompts: Rules,
    pub resources: Rules,
    /// Log what would be refused, refuse nothing.
    pub dry_run: bool,
    /// Where it is written, for the log.
    pub place: String,
}

impl Policy {
    /// Whether the two differ at most in where they are written.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let rules = |policy: &Self| {
            let Self {
                peers,
                tools,
                prompts,
                resources,
                dry_run,
                place: _,
            } = policy.clone();
            (peers, tools, prompts, resources, dry_run)
        };
        rules(self) == rules(other)
    }
}

/// Names that are allowed and names that are denied; a denial wins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// `None`: every name.
    allow: Option<Vec<WildMatch>>,
    deny: Vec<WildMatch>,
}

impl Rules {
    /// `*` stands for any number of characters, `?` for one. What is allowed is matched
    /// exactly, what is denied in any case: an upstream may not care.
    pub fn permit(&self, name: &str) -> bool {
        let allowed = self
            .allow
            .as_ref()
            .is_none_or(|globs| globs.iter().any(|glob| glob.matches(name)));
        allowed && !self.denies(name)
    }

    /// Everything but these, as tests want it.
    #[cfg(any(test, fuzzing))]
    pub fn denying(names: &[&str]) -> Self {
        Self {
            allow: None,
            deny: names.iter().map(|name| WildMatch::new(name)).collect(),
        }
    }

    fn denies(&self, name: &str) -> bool {
        !self.deny.is_empty() && {
            let lower = name.to_lowercase();
            self.deny.iter().any(|glob| glob.matches(&lower))
        }
    }

    /// Whether anything is ruled out at all.
    pub fn restrict(&self) -> bool {
        self.allow.is_some() || !self.deny.is_empty()
    }
}

/// The policies of a route, in the order they are written.
pub fn decode_policies(field: &Field<'_>) -> Option<Vec<Policy>> {
    let items = field.items()?;
    if items.is_empty() {
        field.problem("the array is empty; remove it, or write [[route.policy]] tables");
    }
    let mut policies = Vec::new();
    let mut complete = true;
    for item in &items {
        let policy = decode_policy(item);
        complete &= policy.is_some();
        policies.extend(policy);
    }
    complete.then_some(policies)
}

fn decode_policy(item: &Field<'_>) -> Option<Policy> {
    let mut s = item.section()?;
    let peers = decode_peers(&mut s);
    let [tools, prompts, resources] = ["tools", "prompts", "resources"].map(|kind| {
        s.field(kind)
            .map_or(Some(Rules::default()), |field| decode_rules(&field))
    });
    let dry_run = s.field("dry_run").and_then(|field| field.boolean());
    s.finish();
    Some(Policy {
        peers: peers?,
        tools: tools?,
        prompts: prompts?,
        resources: resources?,
        dry_run: dry_run.unwrap_or_default(),
        place: item.place(),
    })
}

fn decode_rules(field: &Field<'_>) -> Option<Rules> {
    let mut s = field.section()?;
    let (allow, deny) = (s.field("allow"), s.field("deny"));
    s.finish();
    if allow.is_none() && deny.is_none() {
        field.problem("neither \"allow\" nor \"deny\" is given; write one, or remove this");
    }
    Some(Rules {
        allow: match allow {
            Some(field) => Some(globs(&field, str::to_owned)?),
            None => None,
        },
        deny: match deny {
            Some(field) => globs(&field, str::to_lowercase)?,
            None => Vec::new(),
        },
    })
}

fn globs(field: &Field<'_>, prepare: impl Fn(&str) -> String) -> Option<Vec<WildMatch>> {
    let items = field.items()?;
    items
        .iter()
        .map(|item| {
            let text = item.text()?;
            if text.is_empty() {
                item.problem("an empty pattern matches nothing; write a name, or \"*\"");
            }
            Some(WildMatch::new(&prepare(text)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> Rules {
        let globs = |list: &[&str]| list.iter().map(|text| WildMatch::new(text)).collect();
        Rules {
            allow: allow.map(globs),
            deny: globs(deny),
        }
    }

    #[test]
    fn without_rules_everything_is_permitted() {
        assert!(Rules::default().permit("anything"));
        assert!(!Rules::default().restrict());
    }

    #[test]
    fn what_is_not_allowed_is_refused_and_a_denial_wins() {
        let rules = rules(Some(&["read_*", "ping"]), &["*_secret"]);
        for (name, permitted) in [
            ("read_file", true),
            ("ping", true),
            ("ping2", false),
            ("READ_FILE", false),
            ("read_secret", false),
            ("", false),
        ] {
            assert_eq!(rules.permit(name), permitted, "{name}");
        }
    }

    #[test]
    fn no_other_case_gets_around_a_denial() {
        let rules = rules(None, &["delete_*", "straße"]);
        for name in ["delete_all", "Delete_All", "DELETE_", "STRAßE"] {
            assert!(!rules.permit(name), "{name}");
        }
        assert!(rules.permit("undelete"));
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        assert!(!rules(Some(&[]), &[]).permit("a"));
    }
}
