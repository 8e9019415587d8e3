"""Class names that are markup in HTML, a terminal or TeX are shown as plain text."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from small_models import BAD, GOOD
from small_runs import quiet, small_config
from tenor.data.sources.labels import read_table
from tenor.errors import UserError
from tenor.evaluation.confusion_picture import confusion_figure
from tenor.evaluation.results import SplitResult
from tenor.workflows.train import train

NAMES = ("<script>alert(1)</script>", "[bold red]x[/bold red] $\\frac{1}{")


class Text(HTMLParser):
    """What a page shows, and what it would run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.shown, self.scripts, self._inside = "", "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts += data
        else:
            self.shown += data


def write_markup(path: Path, count: int, start: int = 0) -> None:
    lines = ["review\tverdict"]
    for number in range(start, start + count):
        words = GOOD if number % 2 else BAD
        lines.append(f"film {number} was {words[number % 4]} <b>and</b> [i]scene[/i] $x\t{NAMES[number % 2]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_run_shows_class_names_as_text(small_model: Path, tmp_path: Path) -> None:
    config = small_config(
        tmp_path, small_model, "training.epochs=1", "training.trackers=[tensorboard]",
        f"data.path={tmp_path / 'train.tsv'}", f"data.test_path={tmp_path / 'test.tsv'}",
    )  # fmt: skip
    write_markup(tmp_path / "train.tsv", 60)
    write_markup(tmp_path / "test.tsv", 20, start=100)
    console = quiet()
    result = train(config, tmp_path / "runs", console)
    assert isinstance(result.results["test"], SplitResult)
    message = console.file.getvalue()  # type: ignore[attr-defined]
    assert NAMES[0] in message
    assert NAMES[1][:20] in message
    page = Text(result.run.report.read_text(encoding="utf-8"))
    assert NAMES[0] in page.shown
    assert NAMES[1] in page.shown
    assert "alert(1)" not in page.scripts


@pytest.mark.parametrize("name", [*NAMES, "$", "$$", "\\", "{}", "%s", "_", "^", "a\u200db"])
def test_a_figure_draws_any_name(name: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(confusion_figure([[3, 1], [0, 2]], (name, "other"), "Title")).draw()


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\x07", "a\nb", "a\u2028b"])
def test_a_name_that_is_a_command_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text(f'text\tlabel\na film\t"{name}"\nother\tgood\n', encoding="utf-8")
    with pytest.raises(UserError, match="control character"):
        read_table(tmp_path / "rows.tsv")


@pytest.mark.parametrize(("name", "read"), [("a\u202eb", "ab"), ("\ufeffa", "a")])
def test_a_name_is_read_without_its_invisible_characters(name: str, read: str, tmp_path: Path) -> None:
    """A class called "a" and a direction mark could not be told from "a", and would turn the text after it around."""
    (tmp_path / "rows.tsv").write_text(f'text\tlabel\na film\t"{name}"\nother\tgood\n', encoding="utf-8")
    rows = read_table(tmp_path / "rows.tsv")
    assert rows.class_names == (read, "good")
    assert "invisible characters" in rows.notes[0]
