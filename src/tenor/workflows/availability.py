"""What a configuration names and only this installation can tell: rules and trackers."""

from collections.abc import Iterator

from tenor.checks.catalogue import BY_CODE
from tenor.config.errors import Problem, config_error, nearest
from tenor.config.schema import Config
from tenor.training.trackers import missing_trackers

HINT = "`tenor rule` lists every rule; a tracker is a package of its name."


def require_available(config: Config) -> None:
    """Raises UserError for rules in `checks.allow` that there are not and trackers that are not installed, together."""
    if problems := [*_unknown_rules(config), *_missing_trackers(config)]:
        raise config_error(config.name, problems, {}, HINT)


def require_known_rules(config: Config) -> None:
    """Raises UserError for rules in `checks.allow` that do not exist."""
    if problems := list(_unknown_rules(config)):
        raise config_error(config.name, problems, {}, HINT)


def _unknown_rules(config: Config) -> Iterator[Problem]:
    for code in config.checks.allow:
        if code not in BY_CODE:
            near = nearest(code, tuple(BY_CODE))
            mend = f"did you mean {near}?" if near else "expected a rule's code, such as DAT001"
            yield Problem(("checks", "allow", code), f"checks.allow.{code}: there is no such rule; {mend}")


def _missing_trackers(config: Config) -> Iterator[Problem]:
    for name in missing_trackers(config.training.trackers):
        text = f"training.trackers: {name} is not installed; install it or leave it out"
        yield Problem(("training", "trackers"), text)
