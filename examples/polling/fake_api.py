"""A service that renders films, slowly: a stand-in for any API that takes a job and is asked about it later.

    POST /jobs           {"film": …} → {"id": "job-1"}; the same Idempotency-Key gives the same job
    GET  /jobs/job-1     {"id": …, "state": "rendering" | "done", "percent": …, "url": …}

A job gets on a little whenever it is asked about. The first request for a job is refused with 503, as services do.

    python examples/polling/fake_api.py 8123
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any


class RenderService(ThreadingHTTPServer):
    """`percent_per_look` says how many looks a job takes. `requests` are those that came, in their order."""

    daemon_threads = True

    def __init__(self, port: int = 0, percent_per_look: int = 50) -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.percent_per_look = percent_per_look
        self.requests: list[str] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def submit(self, key: str, film: str) -> tuple[int, dict[str, Any]]:
        if key not in self.keys:
            self.keys[key] = ""
            return 503, {"message": "busy, try again"}
        if not self.keys[key]:
            self.keys[key] = f"job-{len(self.jobs) + 1}"
            self.jobs[self.keys[key]] = {"id": self.keys[key], "film": film, "state": "rendering", "percent": 0}
        return 200, {"id": self.keys[key]}

    def look(self, job_id: str) -> tuple[int, dict[str, Any]]:
        job = self.jobs.get(job_id)
        if job is None:
            return 404, {"message": f"there is no {job_id}"}
        job["percent"] = min(100, job["percent"] + self.percent_per_look)
        if job["percent"] == 100:
            job.update(state="done", url=f"{self.url}/films/{job_id}.webm")
        return 200, dict(job)


class _Answer(BaseHTTPRequestHandler):
    @property
    def service(self) -> RenderService:
        assert isinstance(self.server, RenderService)
        return self.server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.service.lock:
            self._answer(*self.service.submit(self.headers["Idempotency-Key"], body["film"]))

    def do_GET(self) -> None:
        with self.service.lock:
            self._answer(*self.service.look(self.path.rpartition("/")[2]))

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self.service.requests.append(f"{self.command} {self.path} {status}")
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@contextmanager
def running(percent_per_look: int = 50) -> Iterator[RenderService]:
    """The service on a free port of this machine, in threads of this process."""
    with RenderService(percent_per_look=percent_per_look) as service:
        Thread(target=service.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield service
        finally:
            service.shutdown()


if __name__ == "__main__":
    RenderService(int(sys.argv[1])).serve_forever()
