//! The Rust SDK's client, on the daemon's socket or launching the bridge.

use std::process::Stdio;
use std::sync::Arc;

use rmcp::handler::client::ClientHandler;
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, CreateMessageRequestParams,
    CreateMessageResult, ElicitRequestParams, ElicitResult, ElicitationAction, Implementation,
    ListRootsResult, LoggingMessageNotificationParam, ProgressNotificationParam,
    ResourceUpdatedNotificationParam, Root, SamplingMessage,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient, RunningService};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, UnixSocketHttpClient};
use rmcp::{ClientLifecycleMode, ClientServiceExt, ErrorData};
use tokio::process::{Child, Command};

use crate::common::journal::Journal;
use crate::common::{Daemon, process, within};

const URL: &str = "http://localhost/mcp";

pub type Client = RunningService<RoleClient, Listener>;

/// Notes what the server says, and answers what it asks.
#[derive(Clone, Default)]
pub struct Listener(pub Arc<Journal<String>>);

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder()
            .enable_elicitation()
            .enable_roots()
            .enable_sampling()
            .build();
        ClientConfig::new(capabilities, Implementation::new("rust", "1"))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let message = SamplingMessage::assistant_text("forty-two");
        Ok(CreateMessageResult::new(message, "none".to_owned()))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let content = serde_json::json!({ "name": "Ada" });
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }

    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///home/ada")]))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.0.push(format!("progress {}", params.progress));
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.0.push(format!("log {}", params.data));
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.0.push(format!("updated {}", params.uri));
    }
}

pub async fn on_the_socket(
    daemon: &Daemon,
    lifecycle: ClientLifecycleMode,
    listener: &Listener,
) -> Client {
    let client = UnixSocketHttpClient::new(daemon.socket().to_str().unwrap(), URL);
    let config = StreamableHttpClientTransportConfig::with_uri(URL);
    let transport = StreamableHttpClientTransport::with_client(client, config);
    let serving = listener.clone().serve_with_lifecycle(transport, lifecycle);
    within("the client is connected", serving).await.unwrap()
}

pub async fn launching_the_bridge(
    daemon: &Daemon,
    lifecycle: ClientLifecycleMode,
    listener: &Listener,
) -> (Client, Child) {
    let mut child = Command::from(process::command(daemon.setup.dir()))
        .args(["stdio", "--socket"])
        .arg(daemon.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pipes = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let serving = listener.clone().serve_with_lifecycle(pipes, lifecycle);
    let client = within("the client is connected", serving).await.unwrap();
    (client, child)
}

/// What a tool says.
pub async fn call(client: &Client, tool: &'static str) -> String {
    let calling = client.call_tool(CallToolRequestParams::new(tool));
    let result = within(format!("a result of {tool}"), calling)
        .await
        .unwrap();
    serde_json::to_string(&result).unwrap()
}
