//! The daemon as its users meet it: the built binary, a real upstream behind it, real clients before it.

mod bodies;
mod commands;
mod common;
mod configuration;
mod credentials;
mod events;
mod figures;
mod guards;
mod headers;
mod lifecycle;
mod listeners;
mod malformed;
mod observing;
mod rejected_credential;
mod routing;
mod rust_sdk;
mod signing;
mod stdio;
mod streaming;
mod upstream_failures;
mod upstream_tls;
