//! How long to wait before the next attempt: longer each time, never in step with others.

use std::time::Duration;

/// Whoever asks for less would be asked without end.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    /// What the server asked for with `retry:`.
    asked: Option<Duration>,
}

impl Backoff {
    /// A server may ask for more patience than ours, within reason.
    pub fn ask(&mut self, milliseconds: u64) {
        self.asked = Some(Duration::from_millis(milliseconds).min(LONGEST * 10));
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// What the server asked for, if it did.
    pub fn asked(&self) -> Option<Duration> {
        self.asked
    }

    /// The pause after a stream's orderly end: what the server asked for, or a second, and
    /// never less than a quarter of one.
    pub fn pause(&self) -> Duration {
        self.asked.unwrap_or(Duration::from_secs(1)).max(SHORTEST)
    }

    /// The pause after a failure; `random` is in 0..1 and spreads those who failed together.
    pub fn next(&mut self, random: f64) -> Duration {
        let base = self.pause();
        let grown = base
            .saturating_mul(1 << self.failures.min(6))
            .min(LONGEST.max(base));
        self.failures += 1;
        grown.mul_f64(0.5 + random / 2.0)
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(500));
    }

    #[test]
    fn the_servers_wish_is_the_least() {
        let mut backoff = Backoff::default();
        backoff.ask(3000);
        assert_eq!(backoff.pause(), Duration::from_secs(3));
        assert_eq!(backoff.next(1.0), Duration::from_secs(3));
        backoff.ask(0);
        assert_eq!(backoff.pause(), Duration::from_millis(250));
        assert_eq!(
            Backoff {
                failures: 0,
                ..backoff
            }
            .next(1.0),
            Duration::from_millis(250)
        );
    }
}
