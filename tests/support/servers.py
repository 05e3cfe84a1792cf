"""A web server on this machine that fails by script."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def serve(folder, failure="none", after=0, times=10**9, port=0):
    """Serves a folder's files by ranges; yields the server, whose ``url`` and ``seen`` tell.

    Args:
        folder: The folder.
        failure: ``"none"``; a status such as ``"500"``; ``"half"``, which ends in the middle of an
            answer; ``"whole"``, which knows no ranges; or ``"stall"``, which stops sending.
        after: Number of answers before the first failure.
        times: Number of failures; then the server answers again.
        port: The port; any free port by default.
    """
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    server.folder, server.failure, server.good, server.bad = Path(folder), failure, after, times
    server.seen, server.ended = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        server = self.server
        path = server.folder / self.path.lstrip("/")
        if not path.is_file():
            return self.send(404, b"", 0)
        server.seen.append((self.command, self.headers.get("Range")))
        data = path.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, len(data) - 1
        if found:
            first, last = int(found[1]), min(int(found[2] or last), last)
        failure = "none"
        if body and server.failure != "none":
            if server.good > 0:
                server.good -= 1
            elif server.bad > 0:
                server.bad -= 1
                failure = server.failure
        if failure.isdigit():
            return self.send(int(failure), b"no", 2)
        if failure == "whole":
            return self.send(200, data if body else b"", len(data))
        part = data[first : last + 1]
        extra = {"Content-Range": f"bytes {first}-{last}/{len(data)}"} if found else {}
        status = 206 if found else 200
        if failure in ("half", "stall"):
            self.send(status, part[: len(part) // 2], len(part), extra)
            self.close_connection = True
            if failure == "stall":
                server.ended.wait(60)
            return None
        return self.send(status, part if body else b"", len(part), extra)

    def send(self, status, body, length, extra=None):
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        """Says nothing."""
