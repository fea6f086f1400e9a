//! The ssh-agent of MCP: holds API credentials, signs what local agents send, forwards it over TLS.

pub mod config;
pub mod env;
pub mod file;
pub mod paths;
pub mod secret;
