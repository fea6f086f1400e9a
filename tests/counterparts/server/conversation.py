"""Tools that talk to the client while they run: progress, logging, sampling, elicitation, a cut stream."""

import asyncio

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError

DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}
TITLED = [{"const": "value1", "title": "First"}, {"const": "value2", "title": "Second"}]
ENUMS = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": TITLED},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
    },
    "required": [],
}
USER = {
    "type": "object",
    "properties": {"username": {"type": "string"}, "email": {"type": "string"}},
    "required": ["username", "email"],
}


async def ask(ctx: Context, message: str, schema: dict) -> str:
    answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return f"action={answer.action}, content={answer.content}"


def register(server: MCPServer) -> None:
    @server.tool(description="Logs three times")
    async def test_tool_with_logging(ctx: Context) -> str:
        for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(words)
            await asyncio.sleep(0.05)
        return "Tool with logging executed successfully"

    @server.tool(description="Logs, if the request allows it")
    async def test_logging_tool(ctx: Context) -> str:
        await ctx.info("A line of log")
        return "logged"

    @server.tool(description="Reports progress three times")
    async def test_tool_with_progress(ctx: Context) -> str:
        for step in (0, 50, 100):
            await ctx.report_progress(step, 100, f"Completed step {step} of 100")
            await asyncio.sleep(0.05)
        return "done"

    @server.tool(description="Takes its time")
    async def test_long() -> str:
        await asyncio.sleep(20)
        return "done"

    @server.tool(description="Reports progress while it runs, never asks")
    async def test_streaming_elicitation(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        return "done"

    @server.tool(description="Asks the client's model")
    async def test_sampling(prompt: str, ctx: Context) -> str:
        content = types.TextContent(type="text", text=prompt)
        message = types.SamplingMessage(role="user", content=content)
        answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
        return f"LLM response: {answer.content.text}"

    @server.tool(description="Asks the user")
    async def test_elicitation(message: str, ctx: Context) -> str:
        return "User response: " + await ask(ctx, message, USER)

    @server.tool(description="Asks the user, with defaults")
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        return "Elicitation completed: " + await ask(ctx, "Please review", DEFAULTS)

    @server.tool(description="Asks the user to choose")
    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        return "Elicitation completed: " + await ask(ctx, "Please choose", ENUMS)

    @server.tool(description="Cuts its own stream; the rest comes to who resumes it")
    async def test_reconnection(ctx: Context) -> str:
        await ctx.close_sse_stream()
        await asyncio.sleep(0.2)
        return "Reconnection test completed"

    @server.tool(description="Needs a client that can sample")
    async def test_missing_capability(ctx: Context) -> str:
        declared = ctx.client_capabilities
        if declared is None or declared.sampling is None:
            raise MCPError(
                code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
                message="The client declared no sampling",
                data={"requiredCapabilities": {"sampling": {}}},
            )
        return "declared"
