//! The story in order: a refusal, a conversation of each era, what the proxy keeps to itself.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};

use super::agent::{self, Agent, Header};
use super::conversation::{legacy, modern};
use super::mcp::version::{LEGACY, MODERN};
use super::places::Places;
use super::server::{PATH, Server};
use super::story::Story;
use super::talk::{Talk, status};

/// Everything that takes part.
pub struct Stage {
    pub server: Arc<Server>,
    pub places: Places,
    /// Goes around the proxy.
    pub direct: Agent,
}

impl Stage {
    /// # Errors
    /// The step that did not give what it should, and what it gave.
    pub async fn play(&self, story: &Story) -> Result<(), String> {
        let began = Instant::now();
        self.places.introduce(story);
        let played = self.scenes(story).await;
        played.map_err(|reason| format!("{}: {reason}", story.current()))?;
        let (steps, time) = (story.steps(), began.elapsed().as_millis());
        story.heading(&format!(
            "{steps} steps, all as they should be, in {time} ms"
        ));
        Ok(())
    }

    async fn scenes(&self, story: &Story) -> Result<(), String> {
        let server = &*self.server;
        let unix = Agent::unix(self.places.socket.clone());
        let tcp = Agent::tcp(self.places.tcp);

        story.heading("1. Without the proxy");
        self.unsigned(story).await?;

        story.heading(&format!("2. MCP {LEGACY} through the proxy's Unix socket"));
        legacy(&unix, server, story).await?;

        story.heading(&format!("3. MCP {MODERN} through the proxy's TCP port"));
        modern(&tcp, server, story).await?;

        story.heading("4. The same, the other way round");
        story.step(format!("MCP {LEGACY} through the TCP port"));
        in_short(story, async |silent| legacy(&tcp, server, silent).await).await?;
        story.step(format!("MCP {MODERN} through the Unix socket"));
        in_short(story, async |silent| modern(&unix, server, silent).await).await?;

        story.heading("5. What the proxy keeps away from the server");
        self.forged(story, &unix).await?;
        story.step("a path that could be read in two ways");
        let (path, page) = (
            "/mcp/..%2fadmin",
            ("origin", "https://web.example".to_owned()),
        );
        self.refused(story, &unix, path, vec![], StatusCode::BAD_REQUEST)
            .await?;
        story.step("a web page that found the port");
        self.refused(story, &tcp, PATH, vec![page], StatusCode::FORBIDDEN)
            .await
    }

    async fn unsigned(&self, story: &Story) -> Result<(), String> {
        story.step(format!("POST {}, not signed", self.places.server_url()));
        let began = Instant::now();
        let answer = self.direct.send(Method::POST, PATH, &[], "{}".to_owned());
        let answer = answer.await?;
        status(&answer, StatusCode::UNAUTHORIZED)?;
        let words = agent::text(answer).await?;
        story.detail("answer", format!("401 {words}"), Some(began.elapsed()));
        Ok(())
    }

    /// An agent that brings a signature of its own: exactly one may arrive, and a good one.
    async fn forged(&self, story: &Story, agent: &Agent) -> Result<(), String> {
        story.step("a signature that the agent brings along");
        let forged = vec![
            ("x-api-key-id", "mallory".to_owned()),
            ("x-signature", "0".repeat(64)),
            ("connection", "x-timestamp".to_owned()),
            ("content-type", "application/json".to_owned()),
        ];
        story.detail(
            "sent",
            "POST /mcp  x-api-key-id: mallory, x-signature: 00000000...",
            None,
        );
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned();
        let mut talk = Talk::new(agent, &self.server, story, false);
        let answer = talk.send(Method::POST, forged, body).await?;
        status(&answer, StatusCode::OK)?;
        talk.tell(
            "answer",
            "200, for the server saw the proxy's signature alone",
        );
        Ok(())
    }

    /// The proxy itself answers, and the server hears nothing.
    async fn refused(
        &self,
        story: &Story,
        agent: &Agent,
        path: &str,
        mut headers: Vec<Header>,
        due: StatusCode,
    ) -> Result<(), String> {
        let shown = headers
            .iter()
            .map(|(name, value)| format!("  {name}: {value}"));
        let shown: String = shown.collect();
        story.detail("sent", format!("POST {path}{shown}"), None);
        let id = format!("demo-{}", fastrand::u64(..));
        headers.push(("x-request-id", id.clone()));
        let began = Instant::now();
        let answer = agent
            .send(Method::POST, path, &headers, "{}".to_owned())
            .await?;
        status(&answer, due)?;
        let code = answer.headers().get("x-mcp-auth-proxy-error");
        let code = code.and_then(|code| code.to_str().ok());
        let code = code.ok_or("the answer is not the proxy's own")?;
        if self.server.signed(&id).is_some() {
            return Err("the request reached the server".to_owned());
        }
        let words = format!("{} {code}; nothing was signed or sent on", due.as_u16());
        story.detail("answer", words, Some(began.elapsed()));
        Ok(())
    }
}

/// A conversation told once already: checked as strictly, shown in one line.
async fn in_short(
    story: &Story,
    conversation: impl AsyncFnOnce(&Story) -> Result<(), String>,
) -> Result<(), String> {
    let (silent, began) = (Story::silent(), Instant::now());
    let held = conversation(&silent).await;
    held.map_err(|reason| format!("{}: {reason}", silent.current()))?;
    let words = format!("{} steps, all as they should be", silent.steps());
    story.detail("done", words, Some(began.elapsed()));
    Ok(())
}
