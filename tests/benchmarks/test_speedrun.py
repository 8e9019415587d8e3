"""The speedrun with a two-layer model: a run under the rules holds, and each kind of tampering with it is found."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from small_models import BAD, GOOD
from small_runs import quiet
from speedrun import race as race_module
from speedrun.race import race
from speedrun.records import (
    Measurement,
    Record,
    Start,
    Step,
    measurements_in_force,
    reached,
    read_records,
    result_of,
    steps_with_weights,
    weights_file,
)
from speedrun.rules import OFFICIAL, RECIPES, Rules, digest_of_rows, level_name, read_recipe, rows_text, split_reviews
from speedrun.verify import faults, main
from tenor.config.describe import to_yaml
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.dataset import LabelledText
from tenor.data.splits import Splits
from tenor.errors import UserError
from tenor.runs.environment import hardware
from tenor.runs.files import sha256_file
from training_tasks import Cut

LEVEL = 0.9
RECIPE = ["epochs=8", "batch_size=4", "learning_rate=3e-3", "threads=1", "token_budget=64", "precision=fp32"]


def reviews(order: int = 1) -> LabelledText:
    """61 sentences whose adjective gives the class, ten of them in capitals too."""
    rows = [(f"film {number} was {(BAD, GOOD)[number % 2][number % 4]}", number % 2) for number in range(60)]
    rows = [*rows, rows[7], *((text.upper(), label) for text, label in rows[:10])][::order]
    texts, labels = zip(*rows, strict=True)
    ids = [str(number) for number in range(len(rows))]
    table = pa.table({"id": ids, "text": pa.array(texts, pa.large_string()), "label": pa.array(labels, pa.int64())})
    return LabelledText(table, ("negative", "positive"), "sentences")


@pytest.fixture(scope="session")
def rules(small_model: Path) -> Rules:
    made = Rules(levels=(0.7, LEVEL), validation_rows=16, measured_every=8, encoder=str(small_model))
    with pytest.raises(UserError, match="other reviews") as refused:
        split_reviews(reviews(), made)
    return replace(made, validation_sha256=str(refused.value).split("digest ")[1][:64])


@pytest.fixture(scope="session")
def splits(rules: Rules) -> Splits:
    return split_reviews(reviews(), rules)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text("data: {max_length: 16}\n")
    return read_recipe(path, [f"training.{setting}" for setting in RECIPE])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, recipe: Config, splits: Splits, rules: Rules) -> Path:
    folder = tmp_path_factory.mktemp("speedrun") / "run"
    race(recipe, splits, folder, LEVEL, rules, quiet(), 16)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to tamper with."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def rewrite(folder: Path, rules: Rules, edit: Callable[[list[Record]], list[Record]]) -> None:
    """Change the records, and `result.json` so that it agrees with them."""
    records = edit(read_records(folder))
    lines = [json.dumps({"kind": record.kind, **asdict(record)}) + "\n" for record in records]
    (folder / "records.jsonl").write_text("".join(lines))
    (folder / "result.json").write_text(json.dumps(result_of(folder, records, rules)) + "\n")


def edited(folder: Path, rules: Rules, kind: type[Record], which: int, **changes: object) -> None:
    """Change one record of a kind."""

    def edit(records: list[Record]) -> list[Record]:
        one = [record for record in records if isinstance(record, kind)][which]
        return [replace(record, **changes) if record is one else record for record in records]  # type: ignore[arg-type]

    rewrite(folder, rules, edit)


def test_a_run_under_the_rules_holds_and_its_result_is_one_line(finished: Path, splits: Splits, rules: Rules) -> None:
    assert list(faults(finished, splits, rules)) == []
    text = (finished / "result.json").read_text()
    result = json.loads(text)
    assert text.count("\n") == 1
    level = result["levels"]["0.90"]
    assert min(level["accuracies"]) >= LEVEL
    assert level["score"] == pytest.approx(level["minutes"] * result["peak_gflops"]["fp32"], rel=0.2, abs=0.1)
    assert result["resumed"] == 0
    assert set(result["weights_sha256"]) == {path.stem for path in (finished / "weights").iterdir()}
    assert not (finished / "checkpoints").exists()


def test_the_time_ends_at_the_second_measurement_and_excludes_measurements(finished: Path) -> None:
    records = read_records(finished)
    steps = [record for record in records if isinstance(record, Step)]
    assert isinstance(records[-1], Measurement)
    assert (
        records[-1].seconds == steps[-1].seconds == pytest.approx(sum(one.ended - one.began for one in steps), abs=1e-4)
    )


def test_a_killed_run_is_resumed_with_the_same_weights_and_its_time_counts_on(
    tmp_path: Path, finished: Path, recipe: Config, splits: Splits, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, folder = race_module.append, tmp_path / "run"

    def cut(place: Path, record: Record) -> None:
        append(place, record)
        if isinstance(record, Step) and record.step == 5:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(race_module, "append", cut)
        with pytest.raises(Cut):
            race(recipe, splits, folder, LEVEL, rules, quiet(), 16)
    with pytest.raises(UserError, match="another recipe"):
        race(recipe.model_copy(update={"seed": 1}), splits, folder, LEVEL, rules, quiet(), 16)
    with pytest.raises(UserError, match="started for 90%"):
        race(recipe, splits, folder, 0.7, rules, quiet(), 16)
    with monkeypatch.context() as patch:
        patch.setattr(race_module, "hardware", lambda: {**hardware(), "cpu": "a faster one"})
        with pytest.raises(UserError, match="another processor;"):
            race(recipe, splits, folder, LEVEL, rules, quiet(), 16)
    result = race(recipe, splits, folder, LEVEL, rules, quiet(), 16)
    whole = json.loads((finished / "result.json").read_text())
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert (result["resumed"], result["steps"]) == (1, whole["steps"] + 1)  # Step 5 was made twice, and counts twice.
    assert list(faults(folder, splits, rules)) == []


def test_a_complete_run_is_not_made_again(finished: Path, recipe: Config, splits: Splits, rules: Rules) -> None:
    with pytest.raises(UserError, match="complete"):
        race(recipe, splits, finished, LEVEL, rules, quiet(), 16)


def test_a_run_that_misses_its_level_says_so(tmp_path: Path, recipe: Config, splits: Splits, rules: Rules) -> None:
    hard = replace(rules, levels=(1.01,))
    short = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 1})})
    result = race(short, splits, tmp_path / "run", 1.01, hard, quiet(), 16)
    assert f"not reached in {-(-len(splits.train) // 4)} steps" in result["levels"]["1.01"]["missing"]
    assert list(faults(tmp_path / "run", splits, hard)) == ["records.jsonl: 101% was not reached twice in a row"]


def test_validation_rows_depend_on_the_texts_alone(splits: Splits, rules: Rules) -> None:
    other_order = split_reviews(reviews(order=-1), rules)
    assert digest_of_rows(other_order.validation) == digest_of_rows(splits.validation)
    assert len(splits.validation) == 16
    assert splits.validation.label_counts().tolist() == [8, 8]


def test_no_validation_text_or_copy_of_it_is_trained_on(splits: Splits) -> None:
    held_out = {text.casefold() for text in splits.validation.texts}
    trained = [text.casefold() for text in splits.train.texts]
    assert held_out.isdisjoint(trained)
    assert len(held_out | set(trained)) == 60
    assert len(trained) < 60 + 10 - 16  # Some of the copies were those of validation rows.


def test_the_recipe_for_90_is_measured_four_times_in_its_epoch() -> None:
    """The loop leaves out a measurement that would be closer to the end of the epoch than the others are apart."""
    config = OFFICIAL.config(read_recipe(RECIPES / "90.yaml"), 22_400)
    assert config.data.subset.size is not None
    steps = config.data.subset.size // config.training.batch_size
    assert 4 * round(config.training.evaluate_every * steps) == steps


def test_the_recipes_keep_the_rules() -> None:
    for level in OFFICIAL.levels:
        config = OFFICIAL.config(read_recipe(RECIPES / f"{level_name(level)}.yaml"), 22_400)
        assert OFFICIAL.config(config, 22_400) == config
        assert config.model.hybrid == "off"
        rows = min(config.data.subset.size or 22_400, 22_400)
        assert config.training.evaluate_every * rows == pytest.approx(2_250)


@pytest.mark.parametrize("setting", ["model.name=other", "training.evaluate_every=0.5", "data.validation.size=0.5"])
def test_a_recipe_with_a_fixed_setting_is_refused(tmp_path: Path, setting: str) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match="the rules of the speedrun fix " + setting.split("=")[0]):
        read_recipe(tmp_path / "recipe.yaml", [setting])


def measured(step: int, accuracy: float) -> Measurement:
    return Measurement(step, 0, accuracy, 0.0, float(step), {"fp32": 1.0}, "")


def test_a_level_needs_two_measurements_in_a_row() -> None:
    accuracies = [0.91, 0.89, 0.90, 0.93]
    curve = [measured(step, accuracy) for step, accuracy in enumerate(accuracies, 1)]
    pair = reached(0.90, curve)
    assert pair is not None
    assert [one.step for one in pair] == [3, 4]
    assert reached(0.92, curve) is None
    assert steps_with_weights(curve, (0.90, 0.92)) == {3, 4}
    assert steps_with_weights(curve[:1], (0.90, 0.92)) == {1}


def test_a_resume_drops_later_measurements_and_a_repeated_one_counts_once(finished: Path) -> None:
    start = read_records(finished)[0]
    assert isinstance(start, Start)
    records = [start, measured(2, 0.8), measured(4, 0.9), replace(start, step=2), measured(4, 0.9)]
    assert [one.step for one in measurements_in_force(records)] == [2, 4]
    assert reached(0.85, measurements_in_force(records)) is None


def one_fault(folder: Path, splits: Splits, rules: Rules) -> str:
    found = list(faults(folder, splits, rules))
    assert found
    assert not any("\n" in fault for fault in found)
    return found[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("minutes", 99.0),
        ("tokens", 1),
        ("seed", 7),
        ("processor", "slow"),
        ("peak_gflops", {"fp32": 0.1}),
        ("more", 1),
    ],
)
def test_another_result_is_found(run: Path, splits: Splits, rules: Rules, key: str, value: object) -> None:
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, key: value}))
    assert one_fault(run, splits, rules).startswith(f"result.json: {key} is")


@pytest.mark.parametrize("name", ["config.yaml", "records.jsonl", "result.json", "training_rows.txt"])
def test_a_missing_file_is_found(run: Path, splits: Splits, rules: Rules, name: str) -> None:
    (run / name).unlink()
    assert f"{name} is missing" in one_fault(run, splits, rules)


@pytest.mark.parametrize("name", ["config.yaml", "records.jsonl", "result.json"])
def test_a_damaged_file_is_found(run: Path, splits: Splits, rules: Rules, name: str) -> None:
    (run / name).write_text("[" + (run / name).read_text())
    assert name in one_fault(run, splits, rules)


def test_another_configuration_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    changed = load_config(run / "config.yaml", ["training.warmup=0.07"])
    (run / "config.yaml").write_text(to_yaml(changed))
    assert one_fault(run, splits, rules) == "config.yaml: is not the one that records.jsonl names"


@pytest.mark.parametrize(
    "setting", ["model.hybrid=on", "training.evaluate_every=0.01", "training.class_weights=balanced"]
)
def test_a_configuration_beyond_the_rules_is_found(run: Path, splits: Splits, rules: Rules, setting: str) -> None:
    changed = load_config(run / "config.yaml", [setting, "evaluation.text_baseline=true"])
    (run / "config.yaml").write_text(to_yaml(changed))
    edited(run, rules, Start, 0, config_sha256=sha256_file(run / "config.yaml"))
    assert one_fault(run, splits, rules) == "config.yaml: sets what the rules fix"


def test_a_validation_row_that_was_trained_on_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    stolen = (run / "validation_rows.txt").read_text().splitlines()[0]
    lines = (run / "training_rows.txt").read_text().splitlines()
    (run / "training_rows.txt").write_text("\n".join([stolen, *lines[1:]]) + "\n")
    edited(run, rules, Start, 0, training_rows_sha256=sha256_file(run / "training_rows.txt"))
    assert "1 validation rows were trained on" in one_fault(run, splits, rules)


def test_other_training_rows_are_found(run: Path, splits: Splits, rules: Rules) -> None:
    lines = (run / "training_rows.txt").read_text().splitlines()
    (run / "training_rows.txt").write_text("\n".join(lines[1:]) + "\n")
    edited(run, rules, Start, 0, training_rows_sha256=sha256_file(run / "training_rows.txt"))
    assert "are not the rows that the rules" in one_fault(run, splits, rules)


def test_other_validation_rows_are_found(run: Path, splits: Splits, rules: Rules) -> None:
    easier = rows_text(splits.validation.select(np.arange(15)))
    (run / "validation_rows.txt").write_text(easier)
    assert one_fault(run, splits, rules) == "validation_rows.txt: are not the 16 rows of the rules"


def test_a_row_digest_of_other_rows_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    edited(run, rules, Start, 0, validation_rows_sha256="0" * 64)
    assert "another digest than records.jsonl names" in one_fault(run, splits, rules)


def test_a_missing_step_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    rewrite(run, rules, lambda records: [*records[:1], *records[2:]])
    assert one_fault(run, splits, rules) == "records.jsonl, line 2: step 2 after step 0"


def test_a_step_of_another_batch_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    edited(run, rules, Step, 3, tokens=5)
    assert "step 4 has 5 tokens" in one_fault(run, splits, rules)


def test_a_measurement_that_was_left_out_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    rewrite(run, rules, lambda records: [one for one in records if not isinstance(one, Measurement) or one.step != 2])
    assert "step 2 was not measured" in one_fault(run, splits, rules)


def test_a_measurement_too_many_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    def again(records: list[Record]) -> list[Record]:
        last = records[-1]
        assert isinstance(last, Measurement)
        return [*records, replace(last, step=last.step + 1)]

    rewrite(run, rules, again)
    assert "is not due" in one_fault(run, splits, rules)


def test_an_accuracy_of_other_counts_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    edited(run, rules, Measurement, 0, accuracy=0.99)
    assert "accuracy 0.99 is not" in one_fault(run, splits, rules)


def test_a_resume_on_another_machine_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    def moved(records: list[Record]) -> list[Record]:
        start, at = records[0], records[2].ended
        assert isinstance(start, Start)
        return [*records[:3], replace(start, step=2, at=at, threads=8), *records[3:]]

    rewrite(run, rules, moved)
    assert "another machine" in one_fault(run, splits, rules)


def test_a_resume_from_an_unmade_step_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    def ahead(records: list[Record]) -> list[Record]:
        start = records[0]
        assert isinstance(start, Start)
        return [start, replace(start, step=2), *records[3:]]

    rewrite(run, rules, ahead)
    assert "starts at step 2, but 0 were made" in one_fault(run, splits, rules)


def test_times_that_run_backwards_are_found(run: Path, splits: Splits, rules: Rules) -> None:
    edited(run, rules, Step, 2, began=0.0)
    assert "before the record before it" in one_fault(run, splits, rules)


def test_times_that_do_not_add_up_are_found(run: Path, splits: Splits, rules: Rules) -> None:
    edited(run, rules, Step, 2, seconds=0.0)
    assert "the steps add up to" in one_fault(run, splits, rules)


def test_time_that_was_not_counted_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    """All later records happen an hour later, between the first two steps, which no measurement divides."""

    def later(record: Record) -> Record:
        if isinstance(record, Step):
            return replace(record, began=record.began + 3600, ended=record.ended + 3600)
        return replace(record, ended=record.ended + 3600) if isinstance(record, Measurement) else record

    rewrite(run, rules, lambda records: [*records[:2], *map(later, records[2:])])
    assert "s between two steps were not counted" in one_fault(run, splits, rules)


def test_a_peak_below_the_speed_of_training_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    def slower(record: Record) -> Record:
        return record if isinstance(record, Step) else replace(record, peak_gflops={"fp32": 1e-9, "bf16": 1e-9})

    rewrite(run, rules, lambda records: [slower(record) for record in records])
    assert "the machine's peak was" in one_fault(run, splits, rules)


def test_missing_weights_are_found(run: Path, splits: Splits, rules: Rules) -> None:
    file = next(iter(sorted((run / "weights").iterdir())))
    file.unlink()
    assert one_fault(run, splits, rules) == f"{file.name}: is missing"


def test_other_weights_are_found(run: Path, splits: Splits, rules: Rules) -> None:
    first, second, *_ = sorted((run / "weights").iterdir())
    shutil.copyfile(second, first)
    assert one_fault(run, splits, rules) == f"{first.name}: has another digest than records.jsonl names"


@pytest.mark.parametrize("shape", ["same", "other"])
def test_weights_that_do_not_have_the_accuracy_are_found(run: Path, splits: Splits, rules: Rules, shape: str) -> None:
    """Also where all digests agree with them."""
    last = [record for record in read_records(run) if isinstance(record, Measurement)][-1]
    file = weights_file(run, last.step)
    tensors = load_file(file)
    if shape == "same":  # Every row is predicted as the other class.
        tensors = {name: -value if name.startswith("classifier") else value for name, value in tensors.items()}
    else:
        tensors = {"classifier.weight": torch.zeros(1)}
    save_file(tensors, file)
    edited(run, rules, Measurement, -1, weights_sha256=sha256_file(file))
    expected = "of the validation rows are right, recorded" if shape == "same" else "not the weights of this model"
    assert expected in one_fault(run, splits, rules)


def test_a_level_that_was_met_once_is_found(run: Path, splits: Splits, rules: Rules) -> None:
    edited(run, rules, Measurement, -1, correct=8, accuracy=0.5)
    assert one_fault(run, splits, rules) == "records.jsonl: 90% was not reached twice in a row"


def test_the_command_refuses_a_folder_of_other_rows_in_one_line(
    run: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("speedrun.verify.split_reviews", lambda reviews: splits)
    monkeypatch.setattr("speedrun.verify.read_reviews", lambda imdb: None)
    assert main([str(run)]) == 1  # Its encoder is not that of the official rules.
    assert capsys.readouterr().out == f"{run}: config.yaml: sets what the rules fix\n"
