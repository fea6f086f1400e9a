"""Tools, resources and prompts that answer at once, the same in both eras."""

import base64
import json
from typing import Annotated

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import UserMessage
from pydantic import Field

PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )
).decode()
SILENCE = base64.b64encode(
    b"RIFF" + (38).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    + bytes.fromhex("01000100401f0000803e000002001000")
    + b"data" + (2).to_bytes(4, "little") + b"\0\0"
).decode()
DRAFT_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def image() -> types.ImageContent:
    return types.ImageContent(type="image", data=PIXEL, mime_type="image/png")


def embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    resource = types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return types.EmbeddedResource(type="resource", resource=resource)


def text(words: str) -> types.TextContent:
    return types.TextContent(type="text", text=words)


def always(answer):
    return lambda: answer


def register(server: MCPServer) -> None:
    tools(server)
    resources(server)
    prompts(server)
    legacy_requests(server)


def tools(server: MCPServer) -> None:
    answers = {
        "test_simple_text": [text("This is a simple text response for testing.")],
        "test_image_content": [image()],
        "test_audio_content": [types.AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")],
        "test_embedded_resource": [
            embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
        ],
        "test_multiple_content_types": [
            text("Multiple content types test:"),
            image(),
            embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ],
    }
    for name, content in answers.items():
        server.add_tool(always(content), name=name, description=name, structured_output=False)

    @server.tool(description="Always fails")
    def test_error_handling() -> str:
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool(description="Echoes a parameter that is mirrored in a request header")
    def test_mirrored_header(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
    ) -> str:
        return region

    @server.tool(description="Echoes what it is sent")
    def echo(message: str) -> str:
        return message

    @server.tool(description="Tells which request headers arrived here", structured_output=False)
    def seen_headers(ctx: Context) -> str:
        return json.dumps(sorted(ctx.headers or {}))

    server.add_tool(always(""), name="json_schema_2020_12_tool", description="Tool with JSON Schema 2020-12 features")
    server._tool_manager.get_tool("json_schema_2020_12_tool").parameters = DRAFT_2020_12


def resources(server: MCPServer) -> None:
    @server.resource("test://static-text", description="Text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", description="A pixel", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PIXEL)

    @server.resource("test://watched-resource", description="Can be subscribed to")
    def watched_resource() -> str:
        return "Watched resource content"

    @server.resource("test://template/{id}/data", description="By id", mime_type="application/json")
    def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def prompts(server: MCPServer) -> None:
    @server.prompt(description="Without arguments")
    def test_simple_prompt() -> list[UserMessage]:
        return [UserMessage("This is a simple prompt for testing.")]

    @server.prompt(description="With arguments")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
        return [UserMessage(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @server.prompt(description="With a resource")
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        resource = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]

    @server.prompt(description="With an image")
    def test_prompt_with_image() -> list[UserMessage]:
        return [UserMessage(image()), UserMessage("Please analyze the image above.")]

    @server.completion()
    async def complete(ref, argument, context) -> types.Completion:
        cities = [city for city in ("paris", "park", "party") if city.startswith(argument.value)]
        return types.Completion(values=cities, total=len(cities), has_more=False)

    async def another_prompt() -> str:
        return "new"

    @server.tool(description="Adds or removes a prompt and says so")
    async def test_trigger_prompt_change(ctx: Context) -> str:
        if any(prompt.name == "another_prompt" for prompt in await server.list_prompts()):
            server.remove_prompt("another_prompt")
        else:
            server.add_prompt(Prompt.from_function(another_prompt, description="Comes and goes"))
        await ctx.notify_prompts_changed()
        return "changed"

    @server.tool(description="Adds or removes a tool and says so")
    async def test_trigger_tool_change(ctx: Context) -> str:
        if any(tool.name == "another_tool" for tool in await server.list_tools()):
            server.remove_tool("another_tool")
        else:
            server.add_tool(another_prompt, name="another_tool", description="Comes and goes")
        await ctx.notify_tools_changed()
        return "changed"


def legacy_requests(server: MCPServer) -> None:
    async def accept(ctx, params) -> types.EmptyResult:
        return types.EmptyResult()

    add = server._lowlevel_server.add_request_handler
    add("logging/setLevel", types.SetLevelRequestParams, accept)
    add("resources/subscribe", types.SubscribeRequestParams, accept)
    add("resources/unsubscribe", types.UnsubscribeRequestParams, accept)
