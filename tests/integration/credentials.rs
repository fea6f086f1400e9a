//! Credentials of every scheme, verified by code that shares nothing with the daemon's.

mod matrix;
mod oauth;
mod rotation;
mod scheme;
mod sources;

use crate::common::{Daemon, Setup, Upstream};

pub const CALL: &str = r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#;

/// A configuration with this credential for the upstream; `DIR` stands for its directory.
pub fn config(upstream: &Upstream, credential: &str) -> String {
    let ca = if upstream.is_tls() {
        "ca_file = \"DIR/ca.pem\""
    } else {
        ""
    };
    format!(
        r#"
[upstream.up]
url = "{}"
{ca}
credential = "key"

{credential}

[[listener]]
unix = "DIR/proxy.sock"

[[listener]]
tcp = "127.0.0.1:0"

[log]
level = "debug"
"#,
        upstream.url()
    )
}

/// The daemon before `upstream`, whose requests the test itself verifies.
pub async fn start(upstream: &Upstream, setup: Setup, credential: &str) -> Daemon {
    upstream.takes_unsigned();
    let config = config(upstream, credential);
    setup.written(&config).start().await
}
