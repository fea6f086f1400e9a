//! The Rust SDK at both ends: its client on the Unix socket or launching the bridge, its server
//! behind the verifying upstream.

#![expect(
    deprecated,
    reason = "sampling, roots, logging and subscriptions are deprecated, and in use up to 2025-11-25"
)]

mod client;
mod server;

use futures_util::future::join_all;
use rmcp::ClientLifecycleMode;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, LoggingLevel, ProtocolVersion,
    ReadResourceRequestParams, ServerNotification, SetLevelRequestParams, SubscribeRequestParams,
    SubscriptionFilter,
};
use rmcp::service::PeerRequestOptions;

use self::client::{Client, Listener, call, launching_the_bridge, on_the_socket};
use self::server::{Running, WATCHED};
use crate::common::{Setup, within};

fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
    }
}

async fn converse(client: &Client) {
    let tools = within("the tools", client.list_all_tools()).await.unwrap();
    assert_eq!(tools.len(), 1);
    assert_eq!(tools[0].name, "work");
    for _ in 0..5 {
        assert!(call(client, "work").await.contains("did work"));
    }
    let params = ReadResourceRequestParams::new("file:///none");
    let missing = within("an answer", client.read_resource(params)).await;
    assert!(missing.is_err(), "an error of the server's arrives as one");
    let completing = client.complete_prompt_simple("travel", "city", "par");
    let cities = within("completions", completing).await.unwrap();
    assert_eq!(cities, ["paris", "park"]);
}

/// The server asks the client's model, person and roots, in whichever way its revision has.
async fn answer_questions(client: &Client) {
    let answers = call(client, "ask").await;
    for part in ["forty-two", "Ada", "file:///home/ada"] {
        assert!(answers.contains(part), "{part}: {answers}");
    }
}

async fn cancel(client: &Client, running: &Running) {
    let request = CallToolRequest::new(CallToolRequestParams::new("hang"));
    let options = PeerRequestOptions::no_options();
    let sending = client.send_cancellable_request(ClientRequest::CallToolRequest(request), options);
    let handle = within("the request is sent", sending).await.unwrap();
    running
        .did
        .find("the tool hangs", |did| did == "hangs")
        .await;
    handle.cancel(Some("enough".to_owned())).await.unwrap();
    let cancelled = running
        .did
        .find("it was cancelled", |did| did == "was cancelled");
    cancelled.await;
}

#[tokio::test]
async fn a_client_with_sessions_converses_through_the_unix_socket() {
    let running = Running::start();
    let daemon = Setup::before(&running.upstream).start().await;
    let listener = Listener::default();
    let client = on_the_socket(&daemon, ClientLifecycleMode::Initialize, &listener).await;
    converse(&client).await;
    answer_questions(&client).await;
    within("the client ended", client.cancel()).await.unwrap();
    running.upstream.idle().await;
    let seen = running.upstream.seen();
    let methods: Vec<_> = seen.iter().map(|seen| &*seen.method).collect();
    assert!(
        methods.contains(&"GET") && methods.contains(&"DELETE"),
        "{methods:?}"
    );
    let sessions = seen
        .iter()
        .filter(|seen| seen.header("mcp-session-id").is_some());
    assert!(sessions.count() > 5);
    assert_eq!(listener.0.len(), 15, "progress: {:?}", listener.0.all());
}

#[tokio::test]
async fn a_client_without_sessions_converses_through_the_unix_socket() {
    let running = Running::start();
    let daemon = Setup::before(&running.upstream).start().await;
    let listener = Listener::default();
    let client = on_the_socket(&daemon, modern(), &listener).await;
    converse(&client).await;
    answer_questions(&client).await;
    within("the client ended", client.cancel()).await.unwrap();
    running.upstream.idle().await;
    for seen in running.upstream.seen() {
        assert_eq!(seen.header("mcp-session-id"), None);
        assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
        assert!(seen.header("mcp-method").is_some());
    }
    assert_eq!(listener.0.len(), 15, "progress: {:?}", listener.0.all());
}

#[tokio::test]
async fn a_client_with_sessions_can_do_all_of_it_over_stdio() {
    let running = Running::start();
    let daemon = Setup::before(&running.upstream).start().await;
    let listener = Listener::default();
    let (client, mut bridge) =
        launching_the_bridge(&daemon, ClientLifecycleMode::Initialize, &listener).await;
    converse(&client).await;
    answer_questions(&client).await;
    cancel(&client, &running).await;
    let level = client.set_level(SetLevelRequestParams::new(LoggingLevel::Info));
    within("the level is set", level).await.unwrap();
    let subscribing = client.subscribe(SubscribeRequestParams::new(WATCHED));
    within("the subscription", subscribing).await.unwrap();
    call(&client, "log").await;
    call(&client, "touch").await;
    for said in ["log \"a line of log\"", "updated test://watched"] {
        listener.0.find(said, |heard| heard == said).await;
    }
    let steps = listener.0.all();
    let steps = steps.iter().filter(|heard| heard.starts_with("progress"));
    assert_eq!(steps.count(), 15);
    within("the client ended", client.cancel()).await.unwrap();
    let status = within("the bridge ended", bridge.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    running.upstream.idle().await;
    let seen = running.upstream.seen();
    let deleted = seen.iter().filter(|seen| seen.method == "DELETE");
    assert_eq!(deleted.count(), 1);
}

#[tokio::test]
async fn a_client_without_sessions_can_do_all_of_it_over_stdio() {
    let running = Running::start();
    let daemon = Setup::before(&running.upstream).start().await;
    let listener = Listener::default();
    let (client, mut bridge) = launching_the_bridge(&daemon, modern(), &listener).await;
    converse(&client).await;
    answer_questions(&client).await;
    cancel(&client, &running).await;
    let filter = SubscriptionFilter::builder()
        .tools_list_changed()
        .resource_subscription(WATCHED)
        .build();
    let listening = client.listen(filter);
    let mut subscription = within("it listens", listening).await.unwrap();
    let changed = within("a change", subscription.next()).await.unwrap();
    assert!(
        matches!(
            changed,
            Some(ServerNotification::ToolListChangedNotification(_))
        ),
        "{changed:?}"
    );
    let updated = within("an update", subscription.next()).await.unwrap();
    assert!(
        matches!(
            updated,
            Some(ServerNotification::ResourceUpdatedNotification(_))
        ),
        "{updated:?}"
    );
    subscription.cancel().await.unwrap();
    let unheard = running
        .did
        .find("the server knows", |did| did == "nobody listens");
    unheard.await;
    assert_eq!(listener.0.len(), 15, "progress: {:?}", listener.0.all());
    within("the client ended", client.cancel()).await.unwrap();
    let status = within("the bridge ended", bridge.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    running.upstream.idle().await;
    for seen in running.upstream.seen() {
        assert_eq!(seen.header("mcp-session-id"), None);
        assert!(seen.header("mcp-method").is_some());
    }
}

#[tokio::test]
async fn a_server_that_restarts_between_calls_is_noticed_by_nobody_behind_the_bridge() {
    let running = Running::start();
    let daemon = Setup::before(&running.upstream).start().await;
    let listener = Listener::default();
    let (client, _bridge) =
        launching_the_bridge(&daemon, ClientLifecycleMode::Initialize, &listener).await;
    let level = client.set_level(SetLevelRequestParams::new(LoggingLevel::Info));
    within("the level is set", level).await.unwrap();
    let subscribing = client.subscribe(SubscribeRequestParams::new(WATCHED));
    within("the subscription", subscribing).await.unwrap();
    call(&client, "count").await;
    for round in 1..=3 {
        running.restart();
        let calls = join_all((0..20).map(|_| call(&client, "count"))).await;
        assert!(calls.iter().all(|said| said.contains("did count")));
        let did = running.did.all();
        let times = |what: &str| did.iter().filter(|did| did.starts_with(what)).count();
        assert_eq!(times("counted"), 1 + 20 * round, "each is carried out once");
        assert_eq!(times("level"), 1 + round, "one session each time");
        assert_eq!(times("subscribed"), 1 + round);
    }
    call(&client, "touch").await;
    listener
        .0
        .find("an update", |heard| heard.starts_with("updated"))
        .await;
    within("the client ended", client.cancel()).await.unwrap();
}
