//! How long to wait before another attempt.

use std::time::{Duration, SystemTime};

/// Exponential backoff with full jitter: anything from nothing to twice the last range, evenly.
///
/// Evenly spread, clients that failed together do not come back together. `tried` counts the waits
/// before this one.
pub fn full_jitter(min: Duration, max: Duration, tried: u32) -> Duration {
    let range = min
        .checked_mul(1_u32.checked_shl(tried).unwrap_or(u32::MAX))
        .map_or(max, |range| range.min(max));
    range.mul_f64(fastrand::f64())
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
