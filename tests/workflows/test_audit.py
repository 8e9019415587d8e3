"""An audit of rows with known faults, and a training without them."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from report_runs import HOSTILE, Page
from small_runs import quiet, small_config
from tenor.config.loading import load_config
from tenor.console.comparison import show_audit
from tenor.errors import UserError
from tenor.runs.files import read_json
from tenor.runs.manifest import read_manifest
from tenor.workflows.audit import Audit, audit, audit_record, write_audit
from tenor.workflows.audit_report import write_audit_report
from tenor.workflows.train import train

pytest.importorskip("cleanlab")


def _with_faults(path: Path) -> None:
    """Row 2 (good) is called bad; row 61 is row 11 again, row 62 row 12 with another label."""
    rows = _rows(path)
    assert rows[2][1] == "good"
    rows[2][1] = "bad"
    rows += [[rows[11][0], rows[11][1]], [rows[12][0], "bad" if rows[12][1] == "good" else "good"]]
    _write(path, rows)


def _rows(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open(encoding="utf-8")))


def _write(path: Path, rows: list[list[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def audited(small_model: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Audit]:
    """The folder of a small run's configuration with faults in its data, and the audit by words."""
    folder = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENOR_CACHE", str(session_cache))
        small_config(folder, small_model)
        _with_faults(folder / "train.csv")
        config = load_config(str(folder / "small.yaml"), ["data.validation.size=2", "seed=4"])
        return folder, audit(config, "words", quiet())


def test_known_label_errors_and_duplicates_are_suspected(audited: tuple[Path, Audit]) -> None:
    found = {one.id: one for one in audited[1].suspects}
    assert audited[1].n == 60
    assert (found["2"].kind, found["2"].given, found["2"].suggested, found["2"].exclude) == (
        "label",
        "bad",
        "good",
        True,
    )
    assert {"11", "61"} & set(found)
    assert {"12", "62"} & set(found)
    assert any("same text as" in one.reason for one in found.values())
    assert any("which has label" in one.reason for one in found.values())
    assert [one.rank for one in audited[1].suspects] == list(range(1, len(found) + 1))


def test_the_file_names_every_suspect_once(audited: tuple[Path, Audit], tmp_path: Path) -> None:
    write_audit(audited[1], tmp_path / "audit.csv")
    with open(tmp_path / "audit.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [one.id for one in audited[1].suspects]
    assert len({row["id"] for row in rows}) == len(rows)
    assert set(rows[0]) == {"rank", "id", "given", "suggested", "probability", "reason", "exclude", "text"}
    assert [path.name for path in tmp_path.iterdir()] == ["audit.csv"]


def test_printed_and_recorded_counts_agree(audited: tuple[Path, Audit]) -> None:
    console = quiet()
    show_audit(console, audited[1], Path("audit.csv"), Path("audit.html"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    record = audit_record(audited[1])
    assert f"{record['counts']['label']} suspected label errors" in shown
    assert "data.exclude=audit.csv" in shown
    assert sum(record["counts"].values()) == len(record["suspects"])


def test_the_report_shows_every_suspect_with_its_text(audited: tuple[Path, Audit], tmp_path: Path) -> None:
    folder, found = audited
    config = load_config(str(folder / "small.yaml"), ["data.validation.size=2", "seed=4"])
    write_audit_report(found, config, tmp_path / "a.csv", tmp_path / "a.html", ["tenor", "audit", "small.yaml"])
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    shown = [values["id"] for name, values in page.elements if name == "section" and "id" in values]
    assert shown == ["label", "duplicate", "ambiguous", "next", "origin"]
    for one in found.suspects:
        assert one.text in page.text
        assert one.reason in page.text
    assert f"{len(found.of('label'))} {len(found.of('label')) / found.n:.1%} of the rows" in page.text
    assert "data.exclude=" in page.text
    assert "exclude in a.csv" in page.text
    assert sum(found.label_probabilities) == found.n
    assert sum(found.suspected_probabilities) == len(found.of("label"))


def test_words_from_elsewhere_stay_words_in_the_report_and_on_the_terminal(
    audited: tuple[Path, Audit], tmp_path: Path
) -> None:
    folder, found = audited
    suspects = tuple(
        replace(one, id=f"[red]{HOSTILE}", given=HOSTILE, suggested="[bold]looks[/]", reason=HOSTILE, text=HOSTILE)
        for one in found.suspects
    )
    hostile = replace(found, suspects=suspects)
    config = load_config(str(folder / "small.yaml"), [])
    write_audit_report(hostile, config, tmp_path / "<b>.csv", tmp_path / "a.html", ["tenor", HOSTILE])
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not page.all("b") or "<b>bold" not in html
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", html)
    console = quiet()
    show_audit(console, hostile, Path("[red]a.csv"), Path("a.html"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]looks[/]" in shown
    assert "data.exclude=[red]a.csv" in shown


def test_a_large_audit_stays_a_file_that_opens_from_a_mail(audited: tuple[Path, Audit], tmp_path: Path) -> None:
    folder, found = audited
    one = replace(found.suspects[0], text="long words <&> " * 4000)
    kinds = ("label", "duplicate", "ambiguous")
    many = tuple(replace(one, id=f"{kind}-{k}", kind=kind) for kind in kinds for k in range(3000))
    config = load_config(str(folder / "small.yaml"), [])
    write_audit_report(replace(found, suspects=many), config, tmp_path / "a.csv", tmp_path / "a.html", [])
    assert (tmp_path / "a.html").stat().st_size < 3_000_000
    assert (
        "These are the first 200 of 3,000; a.csv contains all of them" in Page((tmp_path / "a.html").read_text()).text
    )


def test_training_without_them_has_another_fingerprint(small_model: Path, audited: tuple[Path, Audit]) -> None:
    folder, found = audited
    write_audit(found, folder / "audit.csv")
    excluded = sum(one.exclude for one in found.suspects)
    overrides = ["data.validation.size=2", "seed=4", "training.epochs=1", "evaluation.text_baseline=false"]
    runs = []
    for more in ([], [f"data.exclude={folder / 'audit.csv'}"]):
        config = load_config(str(folder / "small.yaml"), [*overrides, *more])
        console = quiet()
        runs.append(train(config, folder / "runs", console))
    assert f"{excluded} training rows" in console.file.getvalue()  # type: ignore[attr-defined]
    prints = [read_manifest(one.run).fingerprints["data"] for one in runs]
    assert prints[0] != prints[1]
    assert [read_json(one.run.evaluation)["val"]["n"] for one in runs] == [2, 2]


def test_features_of_a_frozen_encoder_are_kept_and_give_the_same_again(
    small_model: Path, tmp_path: Path, own_cache: Path
) -> None:
    config = small_config(tmp_path, small_model)
    first = audit(config, "both", quiet())
    kept = list((own_cache / "features").glob("*.npy"))
    assert len(kept) == 1
    assert audit(config, "both", quiet()) == first
    assert list((own_cache / "features").glob("*.npy")) == kept


def test_one_class_can_t_be_audited(small_model: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, small_model, "data.subset.size=1")
    with pytest.raises(UserError, match="compares classes"):
        audit(config, "words", quiet())


def test_ids_that_repeat_are_refused(small_model: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, small_model, "data.id_column=film", "data.validation.size=2", "data.test_path=null")
    names = ["film", *("twice" if number in (5, 9, 12) else str(number) for number in range(60))]
    path = tmp_path / "train.csv"
    _write(path, [[*row, name] for row, name in zip(_rows(path), names, strict=True)])
    with pytest.raises(UserError, match=r"[23] rows of train\.csv have the id 'twice'.*Leave data\.id_column out"):
        audit(config, "words", quiet())


def test_without_cleanlab_the_extra_is_named(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(UserError, match=r"tenor\[audit\]"):
        audit(small_config(tmp_path, small_model), "words", quiet())
