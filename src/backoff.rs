//! How long to wait before the next attempt: longer each time, never in step with others.

use std::time::{Duration, SystemTime};

/// Whoever asks for less would be asked without end.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// The pauses of one who tries until it works.
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
        let grown = doubled(base, LONGEST.max(base), self.failures);
        self.failures += 1;
        grown.mul_f64(0.5 + random / 2.0)
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Exponential backoff with full jitter: anything from nothing to twice the last range, evenly.
///
/// Evenly spread, clients that failed together do not come back together. `tried` counts the waits
/// before this one.
pub fn full_jitter(min: Duration, max: Duration, tried: u32) -> Duration {
    doubled(min, max, tried).mul_f64(fastrand::f64())
}

/// Twice as long each time, up to a limit.
fn doubled(min: Duration, max: Duration, tried: u32) -> Duration {
    min.checked_mul(1_u32.checked_shl(tried).unwrap_or(u32::MAX))
        .map_or(max, |doubled| doubled.min(max))
}

/// What `Retry-After` asks for: seconds, or a time in any of HTTP's forms (RFC 9110, section 10.2.3).
///
/// `None` if it is neither. A time that has passed asks for nothing.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a wait that nobody sees the end of.
        return Some(Duration::from_secs(
            value.parse().unwrap_or(u32::MAX.into()),
        ));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
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

    #[test]
    fn the_range_doubles_up_to_its_limit_and_all_of_it_is_used() {
        let (min, max) = (Duration::from_millis(100), Duration::from_millis(1500));
        for (tried, range) in [(0, 100), (1, 200), (3, 800), (4, 1500), (40, 1500)] {
            let waits: Vec<_> = (0..500).map(|_| full_jitter(min, max, tried)).collect();
            let range = Duration::from_millis(range);
            assert!(waits.iter().all(|wait| *wait <= range), "{tried}");
            assert!(waits.iter().any(|wait| *wait > range * 8 / 10), "{tried}");
            assert!(waits.iter().any(|wait| *wait < range * 2 / 10), "{tried}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let asked = |value| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(asked("0"), Some(0));
        assert_eq!(asked(" 120 "), Some(120));
        assert_eq!(asked("99999999999999999999"), Some(u32::MAX.into()));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(asked("Sunday, 06-Nov-94 08:49:47 GMT"), Some(10));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:27 GMT"), Some(0));
        for nonsense in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }
}
