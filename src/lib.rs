//! The ssh-agent of MCP: holds API credentials, signs what local agents send, forwards it over TLS.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod env;
pub mod exit;
pub mod file;
pub mod guard;
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
pub mod state;
pub mod worker;
