"""Keeps every event of every stream, so that a client that lost one can resume it."""

from mcp.server import streamable_http


class EventStore(streamable_http.EventStore):
    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    async def store_event(self, stream_id, message) -> str:
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        seen = int(last_event_id)
        stream_id = self.events[seen - 1][0]
        for position, (stream, message) in enumerate(self.events[seen:], start=seen + 1):
            if stream == stream_id and message is not None:
                await send_callback(streamable_http.EventMessage(message, str(position)))
        return stream_id
