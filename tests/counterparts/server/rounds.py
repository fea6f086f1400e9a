"""2026-07-28: tools and a prompt that answer only after the client has supplied what they ask for."""

import json

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage


def form(message: str, name: str, kind: str = "string") -> types.ElicitRequest:
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str) -> types.CreateMessageRequest:
    content = types.TextContent(type="text", text=prompt)
    message = types.SamplingMessage(role="user", content=content)
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=50))


def missing(ctx: Context, asked: dict, state: str | None = None) -> types.InputRequiredResult | None:
    """What to answer while one of the `asked` keys has no acceptable response yet."""
    given = ctx.input_responses or {}
    if all(key in given and getattr(given[key], "action", "accept") == "accept" for key in asked):
        return None
    return types.InputRequiredResult(input_requests=asked, request_state=state)


def answered(ctx: Context) -> str:
    responses = {key: value.model_dump(mode="json") for key, value in (ctx.input_responses or {}).items()}
    return json.dumps(responses)


def one_round(server: MCPServer, name: str, asked: dict, state: str | None = None, words: str = "") -> None:
    async def tool(ctx: Context) -> str | types.InputRequiredResult:
        return missing(ctx, asked, state) or f"{words} {answered(ctx)}"

    server.add_tool(tool, name=name, description=name, structured_output=False)


def register(server: MCPServer) -> None:
    prefix = "test_input_required_result_"
    name = {"user_name": form("What is your name?", "name")}
    confirm = {"confirm": form("Please confirm", "ok", "boolean")}
    question = {"capital_question": sample("What is the capital of France?")}
    roots = {"client_roots": types.ListRootsRequest()}

    one_round(server, prefix + "sampling", question)
    one_round(server, prefix + "list_roots", roots)
    one_round(server, prefix + "request_state", confirm, state="asked", words="state-ok")
    one_round(server, prefix + "tampered_state", confirm, state="asked")
    everything = {**name, "greeting": sample("Generate a greeting"), **roots}
    one_round(server, prefix + "multiple_inputs", everything, state="asked")

    @server.tool(prefix + "elicitation", description="Greets by name", structured_output=False)
    async def greet(ctx: Context) -> str | types.InputRequiredResult:
        ask_again = missing(ctx, name)
        return ask_again or f"Hello, {(ctx.input_responses['user_name'].content or {}).get('name')}!"

    @server.tool(prefix + "multi_round", description="Asks twice", structured_output=False)
    async def ask_twice(ctx: Context) -> str | types.InputRequiredResult:
        if ctx.request_state is None:
            return missing(ctx, {"step1": form("Step 1: What is your name?", "name")}, "one")
        if ctx.request_state == "one":
            return types.InputRequiredResult(
                input_requests={"step2": form("Step 2: What is your favorite color?", "color")}, request_state="two"
            )
        return answered(ctx)

    @server.tool(prefix + "capabilities", description="Asks what the client can do", structured_output=False)
    async def within_capabilities(ctx: Context) -> str | types.InputRequiredResult:
        declared = ctx.client_capabilities or types.ClientCapabilities()
        asked = {**(name if declared.elicitation else {}), **(question if declared.sampling else {})}
        return missing(ctx, asked) or answered(ctx)

    @server.prompt(prefix + "prompt", description="Asks for its context")
    async def with_context(ctx: Context) -> list[UserMessage] | types.InputRequiredResult:
        ask_first = missing(ctx, {"user_context": form("What context should the prompt use?", "context")})
        return ask_first or [UserMessage(answered(ctx))]
