"""Fetch many pages in one call: python examples/fetch.py, or with addresses of your own.

Without addresses, the pages are those of a small server in this program, one of them missing.
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import raddle


class Pages(BaseHTTPRequestHandler):
    """Answers with a page whose size is in its address, such as /1000."""

    def do_GET(self) -> None:
        """Answer one request."""
        size = self.path.strip("/")
        if not size.isdigit():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(b"x" * int(size))

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the output belongs to the example."""


def show(urls: list[str]) -> None:
    """Fetch the pages and print what each is, or why it could not be had."""
    # In order of the input; one bad address costs no other.
    for url, response in zip(urls, raddle.fetch(urls, timeout=10, progress=False)):
        if response.error:
            print(f"{url}: {type(response.error).__name__}")
        elif response.ok:
            print(f"{url}: {len(response.content):,} bytes in {response.elapsed:.3f} s")
        else:
            print(f"{url}: status {response.status}")

    # As they complete, two connections at most to each host, and five requests a second.
    polite = raddle.fetch_iter(urls, per_host=2, rate=5, retries=0)
    print(f"{sum(response.ok for response in polite)} of {len(urls)} are pages")


def main() -> None:
    """Fetch what the command line names, or the pages of a server here."""
    if sys.argv[1:]:
        show(sys.argv[1:])
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        show([f"{base}/1000", f"{base}/250000", f"{base}/missing", "not an address"])
        server.shutdown()


if __name__ == "__main__":
    main()
