"""A run can be repeated from its manifest to the same bits, or the repetition is refused with all differences."""

import json
from pathlib import Path

import pytest

from same_end import differences
from small_runs import quiet, small_run
from tenor.errors import TenorError, UserError
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.files import read_json, write_json
from tenor.runs.manifest import read_manifest, update_manifest
from tenor.workflows import prepare
from tenor.workflows.experiments import repeat
from tenor.workflows.train import RunResult, resume

SHORT = ("training.epochs=1", "evaluation.text_baseline=false")


@pytest.fixture
def original(small_model: Path, tmp_path: Path) -> RunDirectory:
    return small_run(tmp_path, small_model, *SHORT).run


def root(run: RunDirectory) -> Path:
    return run.path.parent.parent


def runs_below(run: RunDirectory) -> int:
    return len(list_runs(root(run)))


def test_a_repeated_run_is_a_new_one_with_the_same_bits(original: RunDirectory) -> None:
    console = quiet()
    result = repeat(original.run_id, root(original), console)
    assert result.run.run_id != original.run_id
    assert differences(result.run, original) == []
    assert f"bit for bit those of {original.reference}" in console.file.getvalue()  # type: ignore[attr-defined]
    assert result.run.config.read_text() == original.config.read_text()
    one, other = read_manifest(result.run), read_manifest(original)
    for name in ("fingerprints", "versions", "threads", "device", "precision", "seed"):
        assert getattr(one, name) == getattr(other, name)


def test_all_differences_are_listed_and_nothing_is_written(
    original: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = tmp_path / "train.csv"
    csv.write_text(csv.read_text().replace("film 3 ", "movie 3 "))
    monkeypatch.setattr(prepare, "weights_digest", lambda parameters: "other weights")
    manifest = read_json(original.manifest)
    manifest["versions"]["torch"] = "1.0"
    manifest["versions"]["gone"] = "2.0"
    manifest["device"] = "cuda"
    manifest["hardware"]["accelerators"] = ["NVIDIA T4"]
    write_json(original.manifest, manifest)
    with pytest.raises(UserError) as caught:
        repeat("latest", root(original), quiet())
    message = str(caught.value)
    versions, devices = ("torch was 1.0", "gone was 2.0", "not installed"), ("device was cuda", "GPU was NVIDIA T4")
    for words in (*versions, *devices, "data:", "encoder_weights:"):
        assert words in message
    assert "tokenizer:" not in message
    assert f"tenor train {original.config}" in message
    assert runs_below(original) == 1


def test_a_configuration_that_was_changed_is_refused(original: RunDirectory) -> None:
    original.config.write_text(original.config.read_text().replace("seed: 34", "seed: 35"))
    with pytest.raises(UserError, match="was changed since the run started"):
        repeat("latest", root(original), quiet())
    update_manifest(original, status="failed")
    with pytest.raises(UserError, match="was changed since the run started"):
        resume("latest", root(original), quiet())
    assert read_manifest(original).status == "failed"


def test_different_weights_are_an_error(original: RunDirectory) -> None:
    written = json.loads(original.evaluation.read_text())
    written["checkpoint"]["digest"] = "0" * 64
    write_json(original.evaluation, written)
    with pytest.raises(TenorError, match="its weights differ from those of"):
        repeat("latest", root(original), quiet())
    assert runs_below(original) == 2


def test_a_resumed_run_reports_changed_versions_and_devices(original: RunDirectory) -> None:
    manifest = read_json(original.manifest)
    manifest["versions"]["torch"] = "1.0"
    write_json(original.manifest, {**manifest, "status": "interrupted"})
    console = quiet()
    result: RunResult = resume("latest", root(original), console)
    assert result.run.path == original.path
    assert "torch was 1.0" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_run_that_moved_from_a_gpu_to_the_processor_reports_it_once(original: RunDirectory) -> None:
    manifest = read_json(original.manifest)
    manifest["hardware"]["accelerators"] = ["NVIDIA T4"]
    write_json(original.manifest, {**manifest, "status": "interrupted"})
    console = quiet()
    resume("latest", root(original), console)
    assert "GPU was NVIDIA T4, here it is none" in console.file.getvalue()  # type: ignore[attr-defined]
    assert read_manifest(original).hardware["accelerators"] == []


@pytest.mark.parametrize("found", [{"missing": "not recorded"}, 1, [1]])
def test_names_of_gpus_may_be_anything(original: RunDirectory, found: object) -> None:
    manifest = read_json(original.manifest)
    manifest["hardware"]["accelerators"] = found
    write_json(original.manifest, {**manifest, "status": "interrupted"})
    resume("latest", root(original), quiet())


def test_a_manifest_of_an_earlier_version_is_read(original: RunDirectory) -> None:
    manifest = read_json(original.manifest)
    for name in ("device", "precision"):
        del manifest[name]
    write_json(original.manifest, manifest)
    assert read_manifest(original).device == {"missing": "not decided yet"}
