# For a tap: `brew tap mcp-auth-proxy/tap` and `brew install mcp-auth-proxy`.
class McpAuthProxy < Formula
  desc "Ssh-agent of MCP: signs what local AI agents send, and forwards it over TLS"
  homepage "https://github.com/mcp-auth-proxy/mcp-auth-proxy"
  url "https://github.com/mcp-auth-proxy/mcp-auth-proxy/archive/refs/tags/v0.1.0.tar.gz"
  # Of that archive: `packaging/homebrew/pin ARCHIVE` writes it here at each release.
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "Apache-2.0"
  head "https://github.com/mcp-auth-proxy/mcp-auth-proxy.git", branch: "main"

  depends_on "rust" => :build

  def install
    # Homebrew's rust is the toolchain; there is no rustup to fetch another.
    rm "rust-toolchain.toml"
    system "cargo", "install", *std_cargo_args
    (etc/"mcp-auth-proxy").mkpath
    (etc/"mcp-auth-proxy/secrets").mkpath
  end

  def caveats
    <<~EOS
      Write #{etc}/mcp-auth-proxy/config.toml, and each secret into a file of its own that others
      cannot read:
        install -m 0600 KEYFILE #{etc}/mcp-auth-proxy/secrets/acme
      See that all is well, and start:
        mcp-auth-proxy --config #{etc}/mcp-auth-proxy/config.toml check
        brew services start mcp-auth-proxy
      After a change of either: mcp-auth-proxy reload
    EOS
  end

  service do
    run [opt_bin/"mcp-auth-proxy", "--config", etc/"mcp-auth-proxy/config.toml", "serve"]
    keep_alive successful_exit: false
    # A configuration that cannot work is tried twice a minute, not six times.
    throttle_interval 30
    process_type :interactive
    error_log_path var/"log/mcp-auth-proxy.log"
  end

  test do
    (testpath/"secret").write "not-a-secret\n"
    (testpath/"secret").chmod 0600
    (testpath/"config.toml").write <<~TOML
      [upstream.acme]
      url = "https://mcp.acme.example/"
      credential = "acme"

      [credential.acme.auth-gateway]
      key_id = "test"
      secret = { file = "#{testpath}/secret" }
    TOML
    assert_match "ok: ", shell_output("#{bin}/mcp-auth-proxy --config #{testpath}/config.toml check")
    (testpath/"config.toml").write "[upstream.acme]\nurl = 1\n"
    shell_output("#{bin}/mcp-auth-proxy --config #{testpath}/config.toml check 2>&1", 78)
  end
end
