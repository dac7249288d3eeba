"""An intent service on this machine: `python examples/intents.py`, for a saved model.

    minigpt finetune --data shop-messages --out intents/
    python examples/intents.py --model intents/ --port 8000
    curl -d '{"text": "Is my lamp ready?"}' http://127.0.0.1:8000

It replies in JSON: the label, its probability, and how many tokens were cut off because
the model reads no further; or one sentence about what cannot be read. It listens on the
loopback address alone and answers one request after another.
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
        text = json.loads(body)["text"]
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
                status, said = 200, answer(adapted, self.rfile.read(int(length)))
            except ValueError as error:
                status, said = 400, {"error": str(error)}
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(said, ensure_ascii=False).encode() + b"\n")

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
        server, labels = service(adapted, asked.port), ", ".join(adapted.layout.labels)
        print(f"http://127.0.0.1:{server.server_port} tells apart {labels}", flush=True)
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    except (OSError, ValueError, OverflowError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
