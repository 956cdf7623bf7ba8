"""A server of real pages over HTTP on this machine, each answered after 100 ms: like a network.

A program of its own, which prints its address and the names of its pages, a line each, and
ends when its standard input closes. The pages are the same in every run.
"""

import random
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LATENCY = 0.1
TOPICS = (
    "threads processes locks queues futures pools timeouts signals sockets caches "
    "schedulers channels"
).split()
WORDS = (
    "a the one each no every thread process worker task future result queue lock page file "
    "waits runs ends takes gives holds returns wakes sleeps shares copies sends receives "
    "while until before after because and or but then never always together alone"
).split()


def make_page(topic: str) -> bytes:
    """Write the page of a topic: some ten to some two hundred paragraphs of HTML."""
    chance = random.Random(topic)
    paragraphs = []
    for _ in range(chance.randint(10, 200)):
        words = " ".join(chance.choices(WORDS, k=chance.randint(20, 120)))
        paragraphs.append(f"<p>{words.capitalize()}.</p>")
    head = f"<!DOCTYPE html>\n<html><head><title>About {topic}</title></head>\n<body>"
    return "\n".join([head, f"<h1>About {topic}</h1>", *paragraphs, "</body></html>"]).encode()


PAGES = {f"/{topic}.html": make_page(topic) for topic in TOPICS}


class Handler(BaseHTTPRequestHandler):
    """Answers with a page, or with 404 where there is none."""

    def do_GET(self) -> None:
        """Answer one request."""
        time.sleep(LATENCY)
        body = PAGES.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the output belongs to the lecture."""


class Server(ThreadingHTTPServer):
    """Takes many connections that arrive at once; the usual queue is 5 long."""

    request_queue_size = 128


def main() -> None:
    """Serve until the standard input closes."""
    # Ctrl-C reaches this process too; the lecture ends it in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    print(*PAGES, flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
