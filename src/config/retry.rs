//! `[upstream.NAME.retry]` and `[upstream.NAME.breaker]`.

use std::time::Duration;

use super::decode::{Field, Section};
use super::{Breaker, Retry, ToolsCall};

const OFF: &str = "off";

/// `None`: switched off.
pub fn decode_retry(s: &mut Section<'_>) -> Option<Retry> {
    let mut retry = Retry::default();
    let Some(field) = s.field("retry") else {
        return Some(retry);
    };
    if field.is(OFF) {
        return None;
    }
    let mut s = field.section()?;
    set(&mut retry.attempts, s.field("attempts"), 1, 10);
    let tools_call = s.field("tools_call").and_then(|f| {
        let (never, annotated) = (ToolsCall::Never, ToolsCall::Annotated);
        f.choice(&[("never", never), ("annotated", annotated)])
    });
    retry.tools_call = tools_call.unwrap_or_default();
    set(&mut retry.budget_percent, s.field("budget_percent"), 0, 100);
    for (key, into) in [
        ("connect_patience", &mut retry.connect_patience),
        ("min_backoff", &mut retry.min_backoff),
        ("max_backoff", &mut retry.max_backoff),
        ("max_retry_after", &mut retry.max_retry_after),
    ] {
        set_duration(into, s.field(key));
    }
    let attempt_timeout = s.field("attempt_timeout");
    retry.attempt_timeout = attempt_timeout.and_then(|field| field.duration());
    s.finish();
    if retry.min_backoff > retry.max_backoff {
        field.problem("min_backoff is longer than max_backoff; exchange them");
    }
    Some(retry)
}

/// `None`: switched off.
pub fn decode_breaker(s: &mut Section<'_>) -> Option<Breaker> {
    let mut breaker = Breaker::default();
    let Some(field) = s.field("breaker") else {
        return Some(breaker);
    };
    if field.is(OFF) {
        return None;
    }
    let mut s = field.section()?;
    set(&mut breaker.failures, s.field("failures"), 1, 1_000_000);
    set(
        &mut breaker.failure_percent,
        s.field("failure_percent"),
        1,
        100,
    );
    set_duration(&mut breaker.patience, s.field("patience"));
    set_duration(&mut breaker.probe_interval, s.field("probe_interval"));
    s.finish();
    Some(breaker)
}

fn set(into: &mut u32, field: Option<Field<'_>>, least: u32, most: u32) {
    if let Some(number) = field.and_then(|field| field.number(least, most)) {
        *into = number;
    }
}

fn set_duration(into: &mut Duration, field: Option<Field<'_>>) {
    if let Some(duration) = field.and_then(|field| field.duration()) {
        *into = duration;
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            attempt_timeout: None,
            tools_call: ToolsCall::Never,
            budget_percent: 20,
            connect_patience: Duration::from_secs(1),
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            max_retry_after: Duration::from_secs(5),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_percent: 50,
            patience: Duration::from_secs(3),
            probe_interval: Duration::from_secs(1),
        }
    }
}
