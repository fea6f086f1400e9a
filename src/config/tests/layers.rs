//! Who overrides whom.

use super::*;

fn by_environment() -> Setup {
    Setup::empty()
        .env("MCP_UPSTREAM_URL", "https://mcp.acme.example/base/")
        .env("MCP_API_KEY", "id")
        .env("MCP_API_SECRET", "s3cret")
}

#[test]
fn the_environment_alone_configures_one_upstream() {
    let config = by_environment()
        .env("MCP_REQUEST_TIMEOUT", "250ms")
        .env("MCP_SESSION_VALUE", "abc")
        .env("MCP_LISTEN_ADDR", "localhost:9000")
        .env("MCP_SOCKET", "off")
        .load();
    assert!(config.files.is_empty());
    assert_eq!(config.upstreams[0].name, "default");
    assert_eq!(
        config.upstreams[0].target.path,
        TargetPath::Base("/base".into())
    );
    assert_eq!(
        config.upstreams[0].request_timeout,
        Duration::from_millis(250)
    );
    assert_eq!(
        config.upstreams[0].session.as_ref().unwrap().name,
        "x-session-id"
    );
    let [listener] = config.listeners.as_slice() else {
        panic!("{:?}", config.listeners)
    };
    assert_eq!(
        listener.address,
        ListenAddress::Tcp("127.0.0.1:9000".parse().unwrap())
    );
    assert_eq!(config.credentials[0].name, "default");
    let CredentialScheme::AuthGateway {
        key_id,
        secret: key,
    } = &config.credentials[0].scheme;
    assert_eq!(
        (key_id, key),
        (&HeaderValue::from_static("id"), &secret("s3cret"))
    );
    assert_eq!(
        config.secret_variables,
        ["MCP_API_KEY", "MCP_API_SECRET", "MCP_SESSION_VALUE"]
    );
    assert_eq!(config.warnings, Vec::<String>::new());
}
