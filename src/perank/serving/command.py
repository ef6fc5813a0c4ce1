"""Serve a model over HTTP: POST /v1/rerank in Jina's form, POST /v2/rerank in Cohere's, and a page to try it at /.

Examples:
    python -m perank.serving                                                # the model in the package, port 8000
    python -m perank.serving --model <folder> --device cuda --port 9000
    python -m perank.serving --store <store>                                # documents may be ids of these vectors
    PERANK_API_KEYS=<key>,<key> python -m perank.serving --host 0.0.0.0     # requests need one of the keys

SIGTERM stops accepting connections, answers every request that was accepted, and exits.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from perank.errors import BadInput, exits_cleanly
from perank.serving.limits import Limits

log = logging.getLogger("perank.serving")  # __name__ may be __main__

_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")


def parser() -> argparse.ArgumentParser:
    """The command line; every field of `Limits` is an option."""
    found = argparse.ArgumentParser(
        prog="perank serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--model", default="box", help="a folder, a Hub id, or box: the model inside the package")
    found.add_argument("--name", help="the model's name in requests (default: the last part of --model)")
    found.add_argument("--store", type=Path, help="a store of vectors that perank.encode wrote")
    found.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    found.add_argument("--port", type=int, default=8000, help="port to listen at (default: %(default)s)")
    found.add_argument("--device", default="cpu", help="device of LLM and encoder (default: %(default)s)")
    found.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default: %(default)s)")
    found.add_argument("--decoder", default="speculative", help="as in Reranker (default: %(default)s)")
    found.add_argument("--log-level", default="info", choices=_LEVELS, help="of uvicorn (default: %(default)s)")
    for limit in fields(Limits):
        kind = float if limit.type == "float" else int
        text = f"{limit.metadata['help']} (default: %(default)s)"
        found.add_argument(f"--{limit.name.replace('_', '-')}", type=kind, default=limit.default, help=text)
    return found


def application(options: argparse.Namespace) -> Any:
    """Load the model and make the ASGI application. Raises `BadInput` for settings that can't be used."""
    limits = Limits(**{limit.name: getattr(options, limit.name) for limit in fields(Limits)})
    try:
        from perank.serving.application import make_app
    except ModuleNotFoundError as error:
        problem = f"the server needs {error.name}, which isn't installed"
        raise BadInput(problem, remedy="pip install 'perank[serve]'") from error
    from perank.ranking.reranker import Reranker
    from perank.retrieval.store import EmbeddingStore

    store = None if options.store is None else EmbeddingStore.open(options.store)
    model = None if options.model == "box" else options.model
    more = {"device": options.device, "dtype": options.dtype, "decoder": options.decoder, "store": store}
    log.info("loading the model %s", options.model)
    reranker = Reranker.from_pretrained(model, **more)
    keys = [key for key in os.environ.get("PERANK_API_KEYS", "").split(",") if key]
    return make_app(reranker, options.name or Path(options.model).name, limits=limits, keys=keys)


def serve(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("perank").setLevel(logging.INFO)
    check_address(options.host, options.port)
    app = application(options)
    import uvicorn

    _allow_connections()
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        log_level=options.log_level,
        access_log=False,
        server_header=False,
        backlog=4096,
        timeout_keep_alive=75,  # longer than clients keep idle connections, or a request meets a closing one
    )


def check_address(host: str, port: int) -> None:
    """Raise `BadInput` for an address that can't be listened at, before the model is loaded."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except (OSError, OverflowError, UnicodeError) as error:
        problem = f"can't listen at {host!r}, port {port}: {error}"
        raise BadInput(problem, remedy="choose an address of this machine and a free port from 0 to 65535") from error


def _allow_connections() -> None:
    """Raise the soft limit on open files, each connection is one, to the hard limit."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@exits_cleanly
def main() -> None:
    """The command line."""
    serve(sys.argv[1:])
