//! The daemon as its users meet it: the built binary, a real upstream behind it, real clients before it.

mod bodies;
mod client_config;
mod commands;
mod common;
mod configuration;
mod events;
mod figures;
mod guards;
mod headers;
mod hostile_upstream;
mod lifecycle;
mod listeners;
mod malformed;
mod mirrored;
mod observing;
mod policy;
mod rejected_credential;
mod resilience;
mod routing;
mod rust_sdk;
mod signing;
mod smuggling;
mod stdio;
mod streaming;
mod upstream_failures;
mod upstream_tls;
