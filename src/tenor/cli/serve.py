"""`tenor serve RUN`."""

import argparse
from pathlib import Path

from tenor.cli.options import add_root
from tenor.errors import UserError


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="serve a model over HTTP, with a page to try it",
        epilog="Exit status: 0 on SIGTERM, after the accepted requests; 3 for a run with open error findings.",
    )
    parser.add_argument(
        "reference", metavar="RUN", help="a run (folder, id or latest), a model folder, an export or a hub id"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: any free one")
    parser.add_argument(
        "--engine",
        choices=("torch", "torch-bf16", "onnx", "onnx-int8"),
        default="auto",
        help="default: torch, or an export's own engine",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="for engine torch")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per physical core")
    parser.add_argument(
        "--long-text",
        choices=("truncate", "windows"),
        default="truncate",
        help="texts above the maximum length, if a request does not say: truncate as in training, or average windows",
    )
    parser.add_argument("--abstain-below", type=float, default=0.0, metavar="P", help="no label below this probability")
    parser.add_argument(
        "--ignore-threshold", action="store_true", help="predict the most probable class, despite tenor calibrate"
    )
    parser.add_argument("--max-texts", type=int, metavar="N", help="largest number of texts per request (default: 128)")
    parser.add_argument("--max-characters", type=int, metavar="N", help="most characters of one text (default: 100000)")
    parser.add_argument("--max-body", type=int, metavar="BYTES", help="largest size of one request (default: 1000000)")
    parser.add_argument(
        "--queue-tokens", type=int, metavar="N", help="most tokens that may wait; beyond it, 429 (default: 32768)"
    )
    parser.add_argument(
        "--deadline", type=float, metavar="SECONDS", help="time from a request's arrival to its answer (default: 30)"
    )
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="require this key; or set TENOR_API_KEY in the environment"
    )
    parser.add_argument(
        "--allow-unverified", action="store_true", help="serve a model although its checks found an error"
    )
    add_root(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.threads is not None and options.threads < 1:
        raise UserError(f"--threads {options.threads}: expected 1 or more")
    _require_packages()
    from tenor.serving.limits import ServerLimits
    from tenor.workflows.serve import Address, read_key, serve

    given = {
        "texts": options.max_texts,
        "characters": options.max_characters,
        "body_bytes": options.max_body,
        "queue_tokens": options.queue_tokens,
        "seconds": options.deadline,
    }
    return serve(
        options.reference,
        Address(options.host, options.port),
        ServerLimits(**{name: value for name, value in given.items() if value is not None}),
        load={
            "engine": options.engine,
            "device": options.device,
            "threads": options.threads,
            "root": options.runs,
            "ignore_threshold": options.ignore_threshold,
        },
        long_text=options.long_text,
        abstain_below=options.abstain_below,
        key=read_key(options.api_key_file),
        allow_unverified=options.allow_unverified,
    )


def _require_packages() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "httptools", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"tenor serve needs packages that are not installed: {', '.join(missing)}. Install them: "
            'pip install "tenor[serve]"'
        )
