//! The Rust SDK at both ends: its client on the Unix socket, its server behind the verifying upstream.

use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt;
use rmcp::handler::client::ClientHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ServerCapabilities,
    ServerConfig, Tool,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient, RoleServer, RunningService};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::transport::{StreamableHttpClientTransport, UnixSocketHttpClient};
use rmcp::{ClientLifecycleMode, ClientServiceExt, ErrorData, ServerHandler};
use tower_service::Service;

use crate::common::journal::Journal;
use crate::common::{Call, Daemon, Outcome, Setup, Upstream, within};

const URL: &str = "http://localhost/mcp";

#[derive(Clone)]
struct Server;

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = serde_json::json!({ "type": "object" });
        let schema = Arc::new(schema.as_object().unwrap().clone());
        let tool = Tool::new("work", "Works, and says how far it is", schema);
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if let Some(token) = context.meta.get_progress_token() {
            for step in 1..=3 {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(step));
                let _ = context.peer.notify_progress(progress).await;
            }
        }
        let text = format!("did {}", request.name);
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

/// Notes how far the server is.
#[derive(Clone, Default)]
struct Listener(Arc<Journal<f64>>);

impl ClientHandler for Listener {
    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.0.push(params.progress);
    }
}

type Sdk = StreamableHttpService<Server, LocalSessionManager>;

/// An upstream that hands verified requests to the SDK's own server.
fn upstream() -> Upstream {
    let upstream = Upstream::https();
    // Names are the gateway's business there.
    let config = StreamableHttpServerConfig::default().disable_allowed_hosts();
    let sdk: Sdk = StreamableHttpService::new(|| Ok(Server), Arc::default(), config);
    upstream.at("/mcp", move |call| answer(sdk.clone(), call));
    upstream
}

async fn answer(mut sdk: Sdk, call: Call) -> Outcome {
    let mut request = Request::builder()
        .method(call.seen.method.as_str())
        .uri(&call.seen.target)
        .body(call.body)
        .unwrap();
    *request.headers_mut() = call.seen.headers.clone();
    let host = call.seen.authority.parse().unwrap();
    request.headers_mut().insert("host", host);
    let Ok(response) = sdk.call(request).await;
    Ok(response.map(|body| body.map_err(|never| match never {}).boxed_unsync()))
}

async fn connect(
    daemon: &Daemon,
    lifecycle: ClientLifecycleMode,
    listener: &Listener,
) -> RunningService<RoleClient, Listener> {
    let client = UnixSocketHttpClient::new(daemon.socket().to_str().unwrap(), URL);
    let config = StreamableHttpClientTransportConfig::with_uri(URL);
    let transport = StreamableHttpClientTransport::with_client(client, config);
    let serving = listener.clone().serve_with_lifecycle(transport, lifecycle);
    within("the client is connected", serving).await.unwrap()
}

async fn converse(lifecycle: ClientLifecycleMode) -> (Upstream, Vec<f64>) {
    let upstream = upstream();
    let daemon = Setup::before(&upstream).start().await;
    let listener = Listener::default();
    let client = connect(&daemon, lifecycle, &listener).await;
    let tools = within("the tools", client.list_all_tools()).await.unwrap();
    assert_eq!(tools.len(), 1);
    assert_eq!(tools[0].name, "work");
    for _ in 0..5 {
        let call = client.call_tool(CallToolRequestParams::new("work"));
        let result = within("a result", call).await.unwrap();
        let result = serde_json::to_string(&result).unwrap();
        assert!(result.contains("did work"), "{result}");
    }
    let missing = within(
        "an answer",
        client.read_resource(rmcp::model::ReadResourceRequestParams::new("file:///none")),
    )
    .await;
    assert!(missing.is_err(), "an error of the server's arrives as one");
    within("the client ended", client.cancel()).await.unwrap();
    upstream.idle().await;
    (upstream, listener.0.all())
}

#[tokio::test]
async fn a_client_with_sessions_converses_through_the_unix_socket() {
    let (upstream, progress) = converse(ClientLifecycleMode::Initialize).await;
    let seen = upstream.seen();
    let methods: Vec<_> = seen.iter().map(|seen| &*seen.method).collect();
    assert!(
        methods.contains(&"GET") && methods.contains(&"DELETE"),
        "{methods:?}"
    );
    let sessions = seen
        .iter()
        .filter(|seen| seen.header("mcp-session-id").is_some());
    assert!(sessions.count() > 5);
    assert_eq!(progress.len(), 15, "{progress:?}");
}

#[tokio::test]
async fn a_client_without_sessions_converses_through_the_unix_socket() {
    let lifecycle = ClientLifecycleMode::Discover {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
    };
    let (upstream, progress) = converse(lifecycle).await;
    for seen in upstream.seen() {
        assert_eq!(seen.header("mcp-session-id"), None);
        assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
        assert!(seen.header("mcp-method").is_some());
    }
    assert_eq!(progress.len(), 15, "{progress:?}");
}
