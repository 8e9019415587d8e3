"""What the readers of all JSON files share: pydantic models of a file, and one kind of error for a damaged one."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tenor.errors import UserError

SHOWN_FAULTS = 3
SHOWN_CHARACTERS = 40

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(strict=True, ge=1)]

T = TypeVar("T")


class Record(BaseModel):
    """The content of a file, or a part of it. Keys that this version does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def parse_record(kind: type[T], value: Any, path: Path, next_step: str) -> T:
    """The value of a JSON file as a record, a pydantic model or a dataclass.

    Raises:
        UserError: not what Tenor writes; names the keys, what they contain and the next step.
    """
    hashable: Any = kind
    try:
        record: T = _validator(hashable).validate_python(value)
    except ValidationError as error:
        raise UserError(f"{path}: not as Tenor writes it ({faults_of(error)}); {next_step}") from error
    return record


@cache
def _validator(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def faults_of(error: ValidationError) -> str:
    """The first faults of a value, each with its key and what it contains, on one line."""
    faults = error.errors(include_url=False)
    shown = "; ".join(_fault(fault) for fault in faults[:SHOWN_FAULTS])
    return shown if len(faults) <= SHOWN_FAULTS else f"{shown}; and {len(faults) - SHOWN_FAULTS} more"


def _fault(fault: Any) -> str:
    key = ".".join(map(str, fault["loc"]))
    message = fault["msg"] if fault["type"] == "missing" else f"{fault['msg']}, observed {_shown(fault['input'])}"
    return " ".join((f"key {key}: {message}" if key else message).split())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
