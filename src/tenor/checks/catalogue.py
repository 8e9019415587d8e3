"""Every rule there is, in the order in which causes are ranked: data first, results last."""

from types import ModuleType

from tenor.checks import frz
from tenor.checks.rule import Rule

FAMILIES: tuple[ModuleType, ...] = (frz,)

RULES: tuple[Rule, ...] = tuple(
    value for family in FAMILIES for value in vars(family).values() if isinstance(value, Rule)
)

BY_CODE: dict[str, Rule] = {rule.code: rule for rule in RULES}
