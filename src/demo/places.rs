//! Where everything is, and what to try there.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::home::Home;
use super::server::PATH;
use super::story::Story;
use crate::file::shell_quoted;

pub struct Places {
    pub socket: PathBuf,
    /// The proxy's port.
    pub tcp: SocketAddr,
    admin: PathBuf,
    config: PathBuf,
    ca: PathBuf,
    upstream: SocketAddr,
}

const LIST: &str = r#"'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'"#;
const COUNT: &str = r#"'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{
    "name":"count","arguments":{"to":9},"_meta":{"progressToken":1}}}'"#;

impl Places {
    pub fn new(home: &Home, tcp: SocketAddr, upstream: SocketAddr) -> Self {
        Self {
            socket: home.file("proxy.sock"),
            tcp,
            admin: home.file("admin.sock"),
            config: home.file("config.toml"),
            ca: home.file("ca.pem"),
            upstream,
        }
    }

    pub fn server_url(&self) -> String {
        format!("https://{}{PATH}", self.upstream)
    }

    pub fn introduce(&self, story: &Story) {
        let (socket, tcp, server) = (self.socket.display(), self.tcp, self.server_url());
        story.words(&format!(
            "mcp-auth-proxy demo: agent ---> proxy ---> MCP server, all of it on this host\n\
             \n  proxy   {socket}\n          http://{tcp}\n\
             \x20         holds the key, and signs METHOD, PATH and TIMESTAMP with it\n\
             \x20 server  {server}\n\
             \x20         refuses each request that is not signed as it should be"
        ));
    }

    /// What to try while everything stays up.
    pub fn invite(&self, story: &Story) {
        let me = std::env::args_os().next().unwrap_or_default();
        let me = shell_quoted(me.as_ref());
        let [socket, admin, config, ca] =
            [&self.socket, &self.admin, &self.config, &self.ca].map(|path| shell_quoted(path));
        let (tcp, server) = (self.tcp, self.server_url());
        story.heading("Your turn: it all stays up until Ctrl-C, and the proxy's log follows");
        let tries = [
            (
                "as an agent, on the Unix socket",
                format!("curl --unix-socket {socket} \\\n  http://localhost{PATH} --json {LIST}"),
            ),
            (
                "as an agent, on the TCP port: a tool that takes its time",
                format!("curl -N http://{tcp}{PATH} \\\n  --json {COUNT}"),
            ),
            (
                "around the proxy: refused",
                format!("curl --cacert {ca} \\\n  {server} --json {LIST}"),
            ),
            (
                "around the proxy, signed by hand",
                format!(
                    "{me} sign --config {config} \\\n  POST {server} |\n\
                     \x20 curl --cacert {ca} \\\n  {server} -H @- --json {LIST}"
                ),
            ),
            (
                "as the operator",
                format!("{me} status --admin-socket {admin}"),
            ),
        ];
        for (title, command) in tries {
            story.words(&format!("\n# {title}"));
            story.command(&command);
        }
        story.words("\nFor an MCP client's mcp.json, which holds no key:\n");
        story.command(&format!(
            "{{\"mcpServers\": {{\"demo\": {{\"type\": \"http\", \"url\": \"http://{tcp}{PATH}\"}}}}}}\n"
        ));
    }
}
