"""Templates → one HTML file that needs nothing from anywhere and lets nothing in."""

import base64
import hashlib
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tenor.data.dataset import Absent
from tenor.evaluation.report.examples import clean


def render(template: str, **values: Any) -> str:
    """Fill a template; everything that is not markup made by Tenor is escaped."""
    script = source("report.js")
    # A second wall behind the escaping: the browser runs the script of this digest and loads nothing.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_digest(script)}'"
    policy += "; base-uri 'none'; form-action 'none'"
    page = _environment().get_template(template)
    html = page.render(**values, policy=policy, style=Markup(source("report.css")), script=Markup(script))
    return html.encode("utf-8", "replace").decode("utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tenor.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.tests["absent"] = lambda value: isinstance(value, Absent)
    return environment


def source(name: str) -> str:
    """The text of a file among the templates."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
