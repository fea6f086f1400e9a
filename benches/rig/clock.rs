//! Nanoseconds that several processes of this machine agree on, and sleeps as fine.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .expect("the monotonic clock is always there");
    Duration::from(time).as_nanos() as u64
}

/// The runtime's own timers are a millisecond wide: too coarse to keep a rate by.
pub struct Alarm(AsyncFd<Timer>);

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // SAFETY: the timer owns its descriptor, and closes it only when it is dropped.
        Ok(Self(unsafe { AsyncFd::register(Timer(timer)) }?))
    }

    pub async fn sleep_until(&self, due: u64) -> io::Result<()> {
        if due <= now() {
            return Ok(());
        }
        let due = TimeSpec::from_duration(Duration::from_nanos(due));
        self.0.get_ref().0.set(
            Expiration::OneShot(due),
            TimerSetTimeFlags::TFD_TIMER_ABSTIME,
        )?;
        let mut ready = self.0.readable().await?;
        self.0.get_ref().0.wait()?;
        ready.clear_ready();
        Ok(())
    }
}
