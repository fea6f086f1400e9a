//! What goes wrong around a daemon: it is killed, and the disk, the clock or the network fail it.

#[cfg(target_os = "linux")]
mod clock;
mod disk;
mod killed;
#[cfg(target_os = "linux")]
mod limits;
mod network;
