//! The list of what is wrong, written while decoding goes on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::Refreshed;
use super::error::Problem;
use super::excerpt::Excerpt;
use super::files::Document;
use super::ids::Ids;
use super::tree::Origin;
use crate::env::Env;
use crate::file::Print;
use crate::privilege::RunAs;
use crate::secret::{Command, Secret, SecretError};

/// What is found out while decoding, and what decoding needs to know.
pub struct Report<'a> {
    pub env: &'a Env,
    documents: &'a [Document],
    pub problems: RefCell<Vec<Problem>>,
    pub warnings: RefCell<Vec<Problem>>,
    /// Environment variables that secrets were read from.
    pub secret_variables: RefCell<BTreeSet<String>>,
    /// Users and groups that were looked up.
    pub ids: Ids,
    /// What programs printed: each is run once, however many secrets name it.
    pub printed: RefCell<HashMap<Command, Result<Secret, SecretError>>>,
    /// In a rehearsal, the programs that would be run: none is.
    pub rehearsed: Option<RefCell<Vec<Command>>>,
    pub refreshed: RefCell<Vec<Refreshed>>,
    /// Clients that rules name, with the place and the key of each.
    pub named_clients: RefCell<Vec<(Origin, String, String)>>,
    /// Files that are watched, as they were just before they were read.
    pub watched: RefCell<BTreeMap<PathBuf, Print>>,
    /// Whose the programs are that print secrets, if a daemon that root starts becomes another.
    pub run_as: RefCell<Option<RunAs>>,
}

impl<'a> Report<'a> {
    pub fn new(env: &'a Env, documents: &'a [Document]) -> Report<'a> {
        Report {
            env,
            documents,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            secret_variables: RefCell::default(),
            ids: Ids::default(),
            printed: RefCell::default(),
            rehearsed: None,
            refreshed: RefCell::default(),
            named_clients: RefCell::default(),
            watched: RefCell::default(),
            run_as: RefCell::default(),
        }
    }

    pub fn document(&self, origin: Origin) -> Option<&'a Document> {
        match origin {
            Origin::File { file, .. } => self.documents.get(file),
            _ => None,
        }
    }

    /// The main file, if one was read.
    pub fn first_document(&self) -> Option<&'a Document> {
        self.documents.first()
    }

    pub fn problem(&self, origin: Origin, key: &str, message: impl Into<String>) {
        self.note(&self.problems, origin, key, message.into(), false);
    }

    pub fn warn(&self, origin: Origin, key: &str, message: impl Into<String>) {
        self.note(&self.warnings, origin, key, message.into(), false);
    }

    /// A problem whose report shows the key and never the value.
    pub fn problem_of_key(&self, origin: Origin, key: &str, message: String) {
        self.note(&self.problems, origin, key, message, true);
    }

    /// A place where a file is malformed: no key is known there.
    pub fn fault(&self, origin: Origin, message: String) {
        let document = self.document(origin);
        let excerpt = document.and_then(|document| Excerpt::of_fault(document, origin));
        let path = document.map(|document| document.path.clone());
        self.problems
            .borrow_mut()
            .push(Problem::new(origin, path, "", message, excerpt));
    }

    fn note(
        &self,
        list: &RefCell<Vec<Problem>>,
        origin: Origin,
        key: &str,
        message: String,
        hide_value: bool,
    ) {
        let document = self.document(origin);
        let excerpt =
            document.and_then(|document| Excerpt::of_value(document, origin, key, hide_value));
        let path = document.map(|document| document.path.clone());
        list.borrow_mut()
            .push(Problem::new(origin, path, key, message, excerpt));
    }

    /// Says where something is, for a message about something else: "line 4", with the
    /// file's path if it is another file.
    pub fn place(&self, origin: Origin, seen_from: Origin) -> String {
        match (origin, seen_from) {
            (Origin::File { file: a, line, .. }, Origin::File { file: b, .. }) if a == b => {
                format!("line {line}")
            }
            (Origin::File { file, line, .. }, _) => {
                let path = self
                    .documents
                    .get(file)
                    .map(|document| document.path.display());
                path.map_or_else(String::new, |path| format!("{path}:{line}"))
            }
            (Origin::Variable(name) | Origin::Flag(name), _) => name.to_owned(),
            (Origin::Default, _) => "the defaults".to_owned(),
        }
    }
}
