"""A rule's page: what `tenor rule CODE` prints and `docs/rules/` holds."""

from pathlib import Path

from tenor.checks.catalogue import BY_CODE, RULES
from tenor.checks.rule import Rule
from tenor.errors import UserError
from tenor.runs.files import write_text


def find_rule(code: str) -> Rule:
    """The rule of a code, in capitals or not.

    Raises:
        UserError: no such rule; names the nearest ones.
    """
    if code.upper() in BY_CODE:
        return BY_CODE[code.upper()]
    from difflib import get_close_matches

    near = get_close_matches(code.upper(), BY_CODE, n=3, cutoff=0.4)
    raise UserError(f"there is no rule {code!r}; nearest: {', '.join(near) or 'none'}. `tenor rule` lists them all")


def page(rule: Rule) -> str:
    """A rule's documentation as Markdown."""
    title, _, body = rule.doc.partition("\n")
    needs = "; ".join(kind.held_by for kind in rule.needs)
    facts = [f"Severity: {rule.severity}.", f"Needs: {needs}."]
    if rule.explained_by:
        facts.append(f"A symptom of: {', '.join(rule.explained_by)}.")
    return f"# {rule.code}: {title}\n\n{' '.join(facts)}\n\n{body.strip()}\n"


def index() -> str:
    """The list of all rules as Markdown."""
    lines = [f"| [{rule.code}]({rule.code}.md) | {rule.severity} | {rule.title} |" for rule in RULES]
    return "\n".join(["# Rules", "", "| code | severity | what it finds |", "| --- | --- | --- |", *lines, ""])


def write_pages(folder: Path) -> None:
    """Write `docs/rules/` anew."""
    for old in folder.glob("*.md"):
        old.unlink()
    for rule in RULES:
        write_text(folder / f"{rule.code}.md", page(rule))
    write_text(folder / "README.md", index())


if __name__ == "__main__":
    import sys

    write_pages(Path(sys.argv[1]))
