//! What happened, in order, and a way to wait for what happens next.

use tokio::sync::watch;

use super::wait::within;

/// Written from any thread, read and waited for from any runtime.
pub struct Journal<T>(watch::Sender<Vec<T>>);

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl<T: Clone> Journal<T> {
    pub fn push(&self, entry: T) {
        self.0.send_modify(|entries| entries.push(entry));
    }

    pub fn all(&self) -> Vec<T> {
        self.0.borrow().clone()
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// The first entry that fits, whether it is there already or yet to come.
    #[track_caller]
    pub fn find(
        &self,
        what: impl Into<String>,
        fits: impl FnMut(&T) -> bool,
    ) -> impl Future<Output = T> {
        self.find_after(0, what, fits)
    }

    /// The first entry from the `start`th on that fits.
    #[track_caller]
    pub fn find_after(
        &self,
        start: usize,
        what: impl Into<String>,
        mut fits: impl FnMut(&T) -> bool,
    ) -> impl Future<Output = T> {
        let mut entries = self.0.subscribe();
        within(what, async move {
            let mut looked_at = start;
            loop {
                {
                    let entries = entries.borrow_and_update();
                    while let Some(entry) = entries.get(looked_at) {
                        looked_at += 1;
                        if fits(entry) {
                            return entry.clone();
                        }
                    }
                }
                entries.changed().await.expect("the journal is kept");
            }
        })
    }
}
