"""An intent service on this machine: `python examples/intents.py`, then ask it.

    minigpt finetune --data shop-messages --out intents/
    python examples/intents.py --model intents/ --port 8000
    curl -d '{"text": "Is my lamp ready?"}' http://127.0.0.1:8000

The reply is JSON: the label, its probability, and how many tokens of the text were cut
off because the model reads no further. What cannot be read gets one sentence instead.
It listens on the loopback address alone and answers one request after another.
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

from minigpt.adapt.heads import Adapted
from minigpt.adapt.saved import load_adapted
from minigpt.labelled import Example

LONGEST = 10_000  # bytes of a request


def answer(adapted: Adapted, body: bytes) -> dict[str, object]:
    """What the model says of a request."""
    try:
        asked = json.loads(body)
        text = asked["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('expected JSON such as {"text": "Are you open?"}') from None
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"expected a text that says something, got {text!r:.40}")
    (item,) = adapted.items([Example(text, "")], labelled=False)
    (said,) = adapted.predict([text])
    return {"label": said.answer, "probability": max(said.scores), "cut": item.cut}


def service(adapted: Adapted, port: int) -> HTTPServer:
    """A server that is ready to answer; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds; a client that stops talking must not hold up the rest

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            try:
                if not length.isdecimal() or int(length) > LONGEST:
                    raise ValueError(f"expected a request of at most {LONGEST} bytes")
                self.reply(200, answer(adapted, self.rfile.read(int(length))))
            except ValueError as error:
                self.reply(400, {"error": str(error)})

        def reply(self, status: int, content: dict[str, object]) -> None:
            body = json.dumps(content, ensure_ascii=False).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return HTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="folder that finetune wrote")
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args()
    try:
        adapted = load_adapted(asked.model)
        if adapted.layout.kind != "classes":
            parser.error(f"expected a classifier, got kind {adapted.layout.kind!r}")
        server = service(adapted, asked.port)
    except (OSError, ValueError, OverflowError) as error:
        parser.error(str(error))
    labels = ", ".join(adapted.layout.labels)
    print(f"http://127.0.0.1:{server.server_port} tells apart {labels}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
