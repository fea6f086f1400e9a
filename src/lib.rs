//! The ssh-agent of MCP: holds API credentials, signs what local agents send, forwards it over TLS.

pub mod auth;
pub mod client;
pub mod config;
pub mod mcp;
pub mod message;
pub mod path;
pub mod secret;
pub mod worker;
