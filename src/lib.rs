//! The ssh-agent of MCP: holds API credentials, signs what local agents send, forwards it over TLS.

pub mod auth;
pub mod client;
pub mod config;
pub mod env;
pub mod file;
pub mod lifecycle;
pub mod listen;
pub mod log;
pub mod mcp;
pub mod message;
pub mod metrics;
pub mod path;
pub mod paths;
pub mod proxy;
pub mod secret;
pub mod serve;
pub mod snapshot;
pub mod worker;
