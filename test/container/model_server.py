#!/usr/bin/env python3
"""A model server for the tests of endpoints. The environment variable FAULTS lists its faults, separated by commas.

It answers each line of a request with `<model> <line>`. The request "die" ends it; after the request
"become unhealthy" its pings fail.

Faults:
- dies-at-start: it exits before it listens
- unhealthy: its pings fail from the start
- ignores-sigterm: it ignores SIGTERM
- busy: it answers the first two requests with 503
- slow: each request takes SECONDS, by default 0.3
- no-parameters: it has no execution parameters
- invalid-parameters: its execution parameters are invalid
"""

import http.server
import json
import os
import signal
import sys
import threading
import time

FAULTS = os.environ.get("FAULTS", "").split(",")
PORT = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
state = {"busy": 2, "unhealthy": "unhealthy" in FAULTS, "open": 0, "most": 0}
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for head and body: otherwise Nagle's algorithm delays each answer by 40 ms

    def do_GET(self):
        if self.path == "/ping":
            self.answer(503 if state["unhealthy"] else 200, b"no worker runs" if state["unhealthy"] else b"")
        elif self.path == "/execution-parameters" and "invalid-parameters" in FAULTS:
            self.answer(200, b'{"MaxConcurrentTransforms": "many"}')
        elif self.path == "/execution-parameters" and "no-parameters" not in FAULTS:
            parameters = {"MaxConcurrentTransforms": 3, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 1}
            self.answer(200, json.dumps(parameters).encode())
        elif self.path == "/environment":
            self.answer(200, json.dumps({**dict(os.environ), "MOST": state["most"]}).encode())
        else:
            self.answer(404, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with lock:
            state["open"] += 1
            state["most"] = max(state["most"], state["open"])
        try:
            self.invoke(body)
        finally:
            with lock:
                state["open"] -= 1

    def invoke(self, body):
        if "slow" in FAULTS:
            time.sleep(float(os.environ.get("SECONDS", "0.3")))
        if body.strip() == b"die":
            print("the server ends now", flush=True)
            os._exit(9)
        if body.strip() == b"become unhealthy":
            state["unhealthy"] = True
        with lock:
            busy = "busy" in FAULTS and state["busy"] > 0
            state["busy"] -= busy
        if busy:
            return self.answer(503, b"ask later", {"Retry-After": "1"})
        if len(body) > 2**20:
            return self.answer(413, b"more than 1 MB")
        if "application/x-npy" in self.headers["content-type"]:
            return self.answer(415, b"this model reads text")
        lines = body.decode().splitlines()
        for number, line in enumerate(lines, 1):
            if line == "bad":
                return self.answer(400, b"line %d: bad is bad" % number)
        with open("/opt/ml/model/name") as file:
            name = file.read().strip()
        print("invoked with %d lines" % len(lines), flush=True)
        content_type = self.headers.get("accept") or "text/plain"
        self.answer(200, "".join("%s %s\n" % (name, line) for line in lines).encode(), {"Content-Type": content_type})

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in dict(headers or {}, **{"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if "dies-at-start" in FAULTS:
    sys.exit("there is no model to serve")
if "ignores-sigterm" in FAULTS:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
try:
    open("/opt/ml/model/mine", "w")
except OSError as error:
    print("the model is %s" % error.strerror, flush=True)
print("serving", sys.argv[1:], flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
