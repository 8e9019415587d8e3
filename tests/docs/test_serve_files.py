"""The systemd unit and the container file start a command that exists, and allow it the time that it may take."""

import json
import re
from pathlib import Path

from tenor.cli.main import _parser
from tenor.serving.http_server import FINISH_SECONDS
from tenor.serving.limits import ServerLimits

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_the_unit_starts_the_server_and_waits_for_its_end() -> None:
    unit = (EXAMPLES / "tenor-serve.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    program, *words = command.split()
    assert Path(program).name == "tenor"
    assert _parser().parse_args(words).reference == "/srv/tenor/run"
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(seconds) >= ServerLimits().seconds + FINISH_SECONDS


def test_the_container_starts_the_server_where_it_is_reached() -> None:
    file = (EXAMPLES / "Containerfile").read_text()
    (command,) = re.findall(r"^CMD (.+)$", file, re.MULTILINE)
    program, *words = json.loads(command)
    options = _parser().parse_args(words)
    assert (program, options.host) == ("tenor", "0.0.0.0")
    assert f"EXPOSE {options.port}\n" in file
