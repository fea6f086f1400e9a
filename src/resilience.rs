//! What keeps one side's trouble from becoming the other's: state machines that take `now` and touch nothing.

pub mod annotations;
pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod clock;
pub mod rate;
