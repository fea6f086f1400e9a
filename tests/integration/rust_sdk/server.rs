//! A server on the Rust SDK that does all that the SDK lets it do, and an upstream in front of it that can restart it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::Request;
use http_body_util::BodyExt;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientResult, CompleteRequestParams,
    CompleteResult, CompletionInfo, ContentBlock, CreateMessageRequest, CreateMessageRequestParams,
    ElicitRequest, ElicitRequestParams, InputRequest, InputRequiredResult, ListRootsRequest,
    ListToolsResult, LoggingLevel, LoggingMessageNotificationParam, PaginatedRequestParams,
    ProgressNotificationParam, ProtocolVersion, ResourceUpdatedNotificationParam, SamplingMessage,
    ServerCapabilities, ServerConfig, ServerRequest, SetLevelRequestParams, SubscribeRequestParams,
    SubscriptionFilter, Tool,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Value, json};
use tower_service::Service;

use crate::common::journal::Journal;
use crate::common::{Call, Outcome, Upstream};

pub const WATCHED: &str = "test://watched";

/// Where every server of one test writes what it did, restarted ones included.
pub type Did = Arc<Journal<String>>;

#[derive(Clone)]
pub struct Server(Did);

impl Server {
    /// Asks the client for all that it can give, while it waits for the tool.
    async fn ask(&self, context: &RequestContext<RoleServer>) -> Result<String, ErrorData> {
        let mut answers = Vec::new();
        for (name, request) in questions() {
            let request = match request {
                InputRequest::CreateMessage(request) => {
                    ServerRequest::CreateMessageRequest(request)
                }
                InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
                InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
                other => panic!("{other:?}"),
            };
            let answer = context.peer.send_request(request).await;
            let answer: ClientResult =
                answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            answers.push(format!("{name}: {}", serde_json::to_value(answer).unwrap()));
        }
        Ok(answers.join("\n"))
    }

    /// Since 2026-07-28 a server asks by answering, and is called again with what it asked for.
    fn ask_by_answering(request: &CallToolRequestParams) -> CallToolResponse {
        let Some(given) = &request.input_responses else {
            let state = Some("asked \"once\", 100 %".to_owned());
            return InputRequiredResult::new(Some(questions()), state).into();
        };
        let answers: Vec<_> = given
            .iter()
            .map(|(name, answer)| format!("{name}: {answer}"))
            .chain(request.request_state.clone())
            .collect();
        say(answers.join("\n"))
    }

    async fn work(context: &RequestContext<RoleServer>) {
        let Some(token) = context.meta.get_progress_token() else {
            return;
        };
        for step in 1..=3 {
            let progress = ProgressNotificationParam::new(token.clone(), f64::from(step));
            let _ = context.peer.notify_progress(progress).await;
        }
    }
}

fn questions() -> BTreeMap<String, InputRequest> {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let form = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: "Who are you?".to_owned(),
        requested_schema: serde_json::from_value(schema).unwrap(),
    };
    let prompt = vec![SamplingMessage::user_text("What is it?")];
    let sample = CreateMessageRequest::new(CreateMessageRequestParams::new(prompt, 10));
    BTreeMap::from([
        ("model".to_owned(), InputRequest::CreateMessage(sample)),
        (
            "person".to_owned(),
            InputRequest::Elicitation(ElicitRequest::new(form)),
        ),
        (
            "roots".to_owned(),
            InputRequest::ListRoots(ListRootsRequest::default()),
        ),
    ])
}

fn say(text: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text.into())]).into()
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({ "type": "object" });
        let schema = Arc::new(schema.as_object().unwrap().clone());
        let tool = Tool::new("work", "Works, and says how far it is", schema);
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let is_modern = context.protocol_version() >= Some(ProtocolVersion::V_2026_07_28);
        match &*request.name {
            "ask" if is_modern => return Ok(Self::ask_by_answering(&request)),
            "ask" => return self.ask(&context).await.map(say),
            "log" => {
                let data = Value::from("a line of log");
                let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, data);
                let _ = context.peer.notify_logging_message(line).await;
            }
            "touch" => {
                let touched = ResourceUpdatedNotificationParam::new(WATCHED);
                let _ = context.peer.notify_resource_updated(touched).await;
            }
            "hang" => {
                self.0.push("hangs".to_owned());
                context.ct.cancelled().await;
                self.0.push("was cancelled".to_owned());
            }
            "count" => self.0.push(format!("counted {:?}", request.arguments)),
            _ => Self::work(&context).await,
        }
        Ok(say(format!("did {}", request.name)))
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let cities = ["paris", "park", "rome"].into_iter();
        let fitting = cities.filter(|city| city.starts_with(&request.argument.value));
        let values = fitting.map(str::to_owned).collect();
        Ok(CompleteResult::new(CompletionInfo::new(values).unwrap()))
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.push(format!("level {:?}", request.level));
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.push(format!("subscribed to {}", request.uri));
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let _ = context.sink().notify_tool_list_changed().await;
        let _ = context.sink().notify_resource_updated(WATCHED).await;
        context.cancelled().await;
        self.0.push("nobody listens".to_owned());
        Ok(())
    }
}

type Sdk = StreamableHttpService<Server, LocalSessionManager>;

/// An upstream that hands verified requests to the SDK's own server.
pub struct Running {
    pub upstream: Upstream,
    pub did: Did,
    sdk: Arc<Mutex<Sdk>>,
}

impl Running {
    pub fn start() -> Self {
        let (upstream, did) = (Upstream::https(), Did::default());
        let sdk = Arc::new(Mutex::new(sdk(&did)));
        let answering = Arc::clone(&sdk);
        upstream.at("/mcp", move |call| {
            let sdk = answering.lock().unwrap().clone();
            answer(sdk, call)
        });
        Self { upstream, did, sdk }
    }

    /// A server that has never heard of any session.
    pub fn restart(&self) {
        *self.sdk.lock().unwrap() = sdk(&self.did);
    }
}

fn sdk(did: &Did) -> Sdk {
    // Names are the gateway's business there.
    let config = StreamableHttpServerConfig::default().disable_allowed_hosts();
    let did = Arc::clone(did);
    StreamableHttpService::new(move || Ok(Server(Arc::clone(&did))), Arc::default(), config)
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
