"""The control port: what was received, waiting for more, opening gates, robots.txt."""

from __future__ import annotations

import json

from .record import Log
from .serve import PAGES, page
from .wire import Exchange


@page
async def robots_txt(exchange: Exchange) -> None:
    """What a test gave this host for robots.txt."""
    status, text = exchange.log.robots.get(exchange.record.host, (404, ""))
    await exchange.send(status, [("Content-Type", "text/plain")], text.encode())


PAGES["robots.txt"] = robots_txt


async def control(exchange: Exchange) -> None:
    """Do what the path says and answer with JSON."""
    log, request = exchange.log, exchange.request
    query = request.query
    token = query.get("token", "")
    told: object = None
    if request.token == "log":
        told = log.told(token)
    elif request.token == "wait":
        await _wait(log, token, query)
    elif request.token == "release":
        log.gate(token, query["gate"]).set()
    elif request.token == "robots":
        log.robots[query["host"]] = (int(query["status"]), query["text"])
    await exchange.send(200, [], json.dumps(told).encode())


async def _wait(log: Log, token: str, query: dict[str, str]) -> None:
    """Wait until so many requests have come, or have been given up by the client."""
    requests, left = int(query.get("requests", 0)), int(query.get("left", 0))
    await log.until(
        lambda: (
            len(log.of(token)) >= requests and sum(record.left for record in log.of(token)) >= left
        )
    )
