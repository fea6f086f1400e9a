//! Exit codes, from sysexits(3).

pub const OK: u8 = 0;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// The daemon or an upstream is not there.
pub const UNAVAILABLE: u8 = 69;
/// The system does not permit it.
pub const NO_PERMISSION: u8 = 77;
/// The configuration is wrong.
pub const CONFIG: u8 = 78;
