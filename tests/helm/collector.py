"""A collector of traces on 127.0.0.1: OTLP over HTTP, as protobuf. It keeps every span it is sent."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service


@dataclass(frozen=True)
class Span:
    trace: str
    id: str
    parent: str  # empty: a root
    name: str
    began: int  # nanoseconds since 1970
    ended: int
    failed: bool
    attributes: dict
    resource: dict  # of the process


def values(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes if a.value.WhichOneof("value")}


def read(body):
    """The spans of a request."""
    for of_process in service.ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = values(of_process.resource.attributes)
        for s in (s for scope in of_process.scope_spans for s in scope.spans):
            ids = [part.hex() for part in (s.trace_id, s.span_id, s.parent_span_id)]
            failed = s.status.code == s.status.STATUS_CODE_ERROR
            times = (s.start_time_unix_nano, s.end_time_unix_nano)
            yield Span(*ids, s.name, *times, failed, values(s.attributes), resource)


class Collector:
    """Listens until it is left."""

    def __init__(self):
        self.spans = []  # in the order in which they came
        self.refused = []  # what was no request of spans
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    if (self.path, self.headers["Content-Type"]) != ("/v1/traces", "application/x-protobuf"):
                        raise ValueError(f"{self.path}, {self.headers['Content-Type']}")
                    collector.spans.extend(list(read(body)))
                    code = 200
                except Exception as e:  # noqa: BLE001: whatever it is, the test tells
                    collector.refused.append(repr(e))
                    code = 400
                answer = service.ExportTraceServiceResponse().SerializeToString()
                self.send_response(code)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
