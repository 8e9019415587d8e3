from pathlib import Path
from typing import Any

from wild.cases import Case


def said_by_traincheck(case: Case, materials: Path) -> dict[str, Any]:
    raise NotImplementedError
