//! What was asked, how often the upstreams did it, and what may be said of that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

/// More problems than this are counted and not kept.
const KEPT: usize = 100;

/// What an agent was told of its call.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing, so far or for good: its connection broke, or it left.
    #[default]
    Unknown,
    /// The right answer: it was done once.
    Answered,
    /// That it was not done.
    Refused,
}

impl Fate {
    fn allows(self, times: u32) -> bool {
        match self {
            Self::Unknown => times <= 1,
            Self::Answered => times == 1,
            Self::Refused => times == 0,
        }
    }
}

#[derive(Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Default)]
struct Book {
    calls: HashMap<u64, (Fate, u32)>,
    tallies: BTreeMap<String, u64>,
    problems: Vec<String>,
    unnamed: u64,
}

impl Ledger {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }

    /// The id of a call to be.
    pub fn open(&self) -> u64 {
        let mut book = self.book();
        let id = book.calls.len() as u64 + 1;
        book.calls.insert(id, (Fate::Unknown, 0));
        id
    }

    /// An upstream did it.
    pub fn done(&self, id: u64) {
        self.book().calls.entry(id).or_default().1 += 1;
    }

    /// Its agent was told.
    pub fn close(&self, id: u64, fate: Fate) {
        let mut book = self.book();
        let entry = book.calls.entry(id).or_default();
        entry.0 = fate;
        let times = entry.1;
        drop(book);
        if !fate.allows(times) {
            self.problem(format!("call {id} is {fate:?} and was done {times} times"));
        }
    }

    pub fn count(&self, what: &str) {
        *self.book().tallies.entry(what.to_owned()).or_default() += 1;
    }

    pub fn problem(&self, problem: String) {
        println!("PROBLEM: {problem}");
        let mut book = self.book();
        if book.problems.len() < KEPT {
            book.problems.push(problem);
        } else {
            book.unnamed += 1;
        }
    }

    /// Once nothing is under way: looks at each call again.
    pub fn settle(&self) {
        let calls: Vec<_> = self
            .book()
            .calls
            .iter()
            .map(|(id, entry)| (*id, *entry))
            .collect();
        for (id, (fate, times)) in calls {
            if !fate.allows(times) {
                self.problem(format!(
                    "in the end, call {id} is {fate:?} and was done {times} times"
                ));
            }
        }
    }

    pub fn problems(&self) -> Vec<String> {
        let book = self.book();
        let mut problems = book.problems.clone();
        if book.unnamed > 0 {
            problems.push(format!("and {} more", book.unnamed));
        }
        problems
    }

    pub fn tally(&self, what: &str) -> u64 {
        self.book().tallies.get(what).copied().unwrap_or_default()
    }

    pub fn table(&self) -> String {
        let book = self.book();
        let lines = book
            .tallies
            .iter()
            .map(|(what, count)| format!("{count:>9} {what}\n"));
        let done: u64 = book
            .calls
            .values()
            .map(|(_, times)| u64::from(*times))
            .sum();
        let unknown = book
            .calls
            .values()
            .filter(|(fate, _)| *fate == Fate::Unknown)
            .count();
        let answered = book
            .calls
            .values()
            .filter(|(fate, _)| *fate == Fate::Answered)
            .count();
        format!(
            "{}{:>9} calls: {answered} answered, {unknown} of unknown fate; done upstream {done} times\n",
            lines.collect::<String>(),
            book.calls.len(),
        )
    }
}
