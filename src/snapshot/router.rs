//! Which route a path takes: the longest prefix wins, by whole segments.

use std::collections::HashMap;
use std::ops::Range;

use crate::config::{Config, TargetPath};

pub struct Router {
    by_prefix: HashMap<Box<[u8]>, Entry>,
    /// No prefix is longer: a path of many segments costs few look-ups.
    longest: usize,
}

struct Entry {
    route: usize,
    /// An endpoint is one path, not a tree.
    exact: bool,
}

/// The route found, as an index into [`Config::routes`].
pub type Match = usize;

impl Router {
    /// Over some of the routes of `config`, by their indices.
    pub fn new(config: &Config, set: Range<usize>) -> Self {
        let by_prefix: HashMap<_, _> = set
            .clone()
            .zip(&config.routes[set.clone()])
            .map(|(index, route)| {
                let target = &config.upstreams[route.upstream].target.path;
                let exact = matches!(target, TargetPath::Endpoint(_));
                (
                    route.path.as_bytes().into(),
                    Entry {
                        route: index,
                        exact,
                    },
                )
            })
            .collect();
        let longest = config.routes[set]
            .iter()
            .map(|route| route.path.len())
            .max()
            .unwrap_or(0);
        Self { by_prefix, longest }
    }

    /// Finds the route for a decoded path.
    pub fn find(&self, path: &[u8]) -> Option<Match> {
        let mut prefix = path;
        loop {
            if prefix.len() <= self.longest
                && let Some(entry) = self.by_prefix.get(prefix)
                && (!entry.exact || matches!(&path[prefix.len()..], b"" | b"/"))
            {
                return Some(entry.route);
            }
            let slash = prefix.iter().rposition(|&byte| byte == b'/')?;
            prefix = &prefix[..slash];
        }
    }
}
