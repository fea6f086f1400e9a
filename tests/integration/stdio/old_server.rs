//! A server of the 2024-11-05 transport: a stream for all that it says, another address for messages.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use crate::common::{Call, Outcome, Pipe, Upstream, body};

#[derive(Clone, Default)]
pub struct OldServer(Arc<Mutex<Option<Pipe>>>);

impl OldServer {
    pub fn at(upstream: &Upstream, stream: &str, messages: &'static str) -> Self {
        let server = Self::default();
        let (streaming, answering) = (server.clone(), server.clone());
        upstream.at(stream, move |call| {
            let server = streaming.clone();
            async move { Ok(server.stream(&call, messages).await) }
        });
        upstream.at(messages, move |call| {
            let server = answering.clone();
            async move { server.take(call).await }
        });
        server
    }

    async fn stream(&self, call: &Call, messages: &str) -> Response<body::Body> {
        if call.seen.method != "GET" {
            return Response::builder().status(405).body(body::empty()).unwrap();
        }
        let (pipe, body) = body::piped();
        pipe.send(format!("event: endpoint\ndata: {messages}?session=1\n\n"))
            .await;
        *self.0.lock().unwrap() = Some(pipe);
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(body)
            .unwrap()
    }

    async fn take(&self, mut call: Call) -> Outcome {
        assert_eq!(call.seen.target, "/messages?session=1");
        let message: Value = serde_json::from_slice(&call.read().await?).unwrap();
        let Some(pipe) = self.0.lock().unwrap().clone() else {
            return Ok(Response::builder().status(404).body(body::empty()).unwrap());
        };
        if message.get("id").is_some() {
            let id = &message["id"];
            let result = r#"{"protocolVersion":"2024-11-05","capabilities":{}}"#;
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            pipe.send(format!("event: message\ndata: {answer}\n\n"))
                .await;
        }
        Ok(Response::builder()
            .status(202)
            .body(body::full(Bytes::from_static(b"Accepted")))
            .unwrap())
    }

    /// The stream ends, as when the server restarts.
    pub async fn cut(&self) {
        let pipe = self.0.lock().unwrap().take().unwrap();
        pipe.cut().await;
    }
}
