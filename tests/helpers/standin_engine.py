"""A server on loopback that stands in for vLLM: its paths, its messages, and answers of an LLM."""

from __future__ import annotations

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

NAME = "/models/the-llm"


class StandInEngine:
    """Answers prompts of embeddings greedily with transformers' own generate.

    Args:
        llm: transformers' Llama.
        end_id: ends an answer.
        port: to listen on; 0 takes a free one.

    Attributes:
        version: that it says it is.
        is_well: whether it answers at all.
        has_fault: whether it fails on every prompt, though it is well.
        most_tokens: after which it dies in the middle of an answer; None where it does not.
        answered: prompts that it has begun to answer, by their lengths.
        at_once: the most that it answered at once.
        may_go: answers wait for it.
        left: clients that left before their answer's end.
    """

    def __init__(self, llm, end_id, port=0):
        self.llm, self.end_id = llm, end_id
        self.version, self.is_well, self.most_tokens = "0.32.0", True, None
        self.has_fault = False
        self.answered, self.at_once, self.left = [], 0, 0
        self.may_go = threading.Event()
        self.may_go.set()
        self.running = 0
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"engine": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.is_well = False
        self.may_go.set()
        self._server.shutdown()
        self._server.server_close()

    def tokens(self, embeds, limit):
        """The greedy answer to a prompt (L, D)."""
        mask = torch.ones(1, len(embeds), dtype=torch.long)
        with self.lock, torch.inference_mode():
            out = self.llm.generate(
                inputs_embeds=embeds[None],
                attention_mask=mask,
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=self.end_id,
                pad_token_id=0,
            )
        return out[0].tolist()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    engine: StandInEngine

    def log_message(self, *args):
        pass

    def do_GET(self):
        if not self.engine.is_well:
            self.close_connection = True
            return
        about = {"id": NAME, "max_model_len": 2048}
        values = {
            "/health": {},
            "/version": {"version": self.engine.version},
            "/v1/models": {"object": "list", "data": [about]},
        }
        self._send(values[self.path])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.engine.is_well:
            self.close_connection = True
            return
        assert self.path == "/v1/completions" and body["model"] == NAME
        file = io.BytesIO(base64.b64decode(body["prompt_embeds"], validate=True))
        embeds = torch.load(file, weights_only=True)
        width = self.engine.llm.config.hidden_size
        if embeds.dim() != 2 or embeds.shape[1] != width:
            says = f"`prompt_embeds` hidden_size {embeds.shape[1]} does not match the model's "
            return self._send({"error": {"message": f"{says}hidden_size {width}."}}, 400)
        if not body["stream"]:
            return self._send({"choices": [{"text": "", "finish_reason": "length"}]})
        engine = self.engine
        if engine.has_fault:
            return self._send({"error": {"message": "something inside"}}, 500)
        with engine.lock:
            engine.answered.append(len(embeds))
            engine.running += 1
            engine.at_once = max(engine.at_once, engine.running)
        try:
            self._stream(embeds, body)
        except OSError:
            engine.left += 1
        finally:
            with engine.lock:
                engine.running -= 1

    def _stream(self, embeds, body):
        engine, limit = self.engine, body["max_tokens"]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        tokens = engine.tokens(embeds, limit)
        for place, token in enumerate(tokens):
            if place == engine.most_tokens:
                return
            reason = "length" if place + 1 == limit else None
            reason = "stop" if token == engine.end_id else reason
            logprobs = None
            if body.get("logprobs") is not None:
                top = {f"token_id:{token}": -0.25, "token_id:7": -2.0, "token_id:8": -1.5}
                logprobs = {"token_logprobs": [-0.25], "top_logprobs": [top]}
            choice = {"text": "", "token_ids": [token], "finish_reason": reason}
            self._event({"choices": [choice | {"logprobs": logprobs}]})
            engine.may_go.wait(20)
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, value):
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def _send(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
