"""Files of predictions: the same rows give the same evidence in every format, or the file is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenor.checks.diagnosis import diagnose
from tenor.checks.diagnosis.predictions_file import read_claims
from tenor.checks.evidence.evaluation_evidence import ReportedSplit
from tenor.errors import UserError
from tenor.runs.predictions import write_predictions

N = 120


def rows_of(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, mostly correct predictions, and probabilities whose argmax they are."""
    random = np.random.default_rng(k)
    labels = random.permutation(np.arange(N) % k)
    predicted = np.where(random.random(N) < 0.85, labels, random.integers(0, k, N))
    logits = random.normal(size=(N, k))
    logits[np.arange(N), predicted] = logits.max(axis=1) + 0.5
    powers = np.exp(logits)
    return labels, predicted, powers / powers.sum(axis=1, keepdims=True)


def write(path: Path, columns: dict[str, Sequence[Any]]) -> Path:
    """The columns in the format of the suffix; in text formats, values as `str` gives them."""
    rows = list(zip(*columns.values(), strict=True))
    match path.suffix:
        case ".csv" | ".tsv":
            mark = "," if path.suffix == ".csv" else "\t"
            lines = [mark.join(columns), *(mark.join(map(str, row)) for row in rows)]
            path.write_text("\n".join(lines) + "\n")
        case ".jsonl":
            path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
        case ".json":
            path.write_text(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]))
        case ".parquet":
            pq.write_table(pa.table(dict(columns)), path)
    return path


def named(names: Sequence[Any], indices: np.ndarray) -> list[Any]:
    return [names[index] for index in indices]


def require_same(claims: ReportedSplit, order: Sequence[int], scored: bool = True) -> None:
    """The claims are those of `rows_of`, with class `order[j]` of it in place j."""
    labels, predicted, probabilities = rows_of(len(order))
    place = np.argsort(order)
    assert claims.labels is not None
    assert claims.predicted is not None
    assert claims.labels.tolist() == place[labels].tolist()
    assert claims.predicted.tolist() == place[predicted].tolist()
    if scored:
        assert claims.probabilities is not None
        np.testing.assert_allclose(claims.probabilities, probabilities[:, list(order)], atol=1e-4)
    else:
        assert claims.probabilities is None


def sorted_order(names: Sequence[str]) -> list[int]:
    return sorted(range(len(names)), key=lambda index: names[index].casefold())


NAMES: list[Sequence[Any]] = [
    ("false", "true"),
    ("False", "True"),
    ("FALSE", "TRUE"),
    (False, True),
    ("no", "yes"),
    ("No", "Yes"),
    (0, 1),
    ("0", "1"),
    (1, 2),
    (1, 2, 3, 4, 5),
    ("1.0", "2.0", "3.0", "4.0", "5.0"),
    (1.0, 2.0, 3.0),
    (-1, 0, 1),
    (-1, 1),
    ("01", "02"),
    ("0", "10", "20"),
    ("negative", "positive"),
    ("negative", "neutral", "positive"),
    ("bad film", "Good Film"),
    ("a", "B", "c"),
    ("favor", "None"),
    ("nan", "other"),
    ("favor", "null", "zero"),
    ("NA", "US"),
    ("2024-01-01", "2024-02-01"),
    ("LABEL_0", "LABEL_1", "LABEL_2"),
    ("n", "y"),
    ("e", "inf", "x"),
]
STYLES = ("prob_{}", "probability_{}", "p_{}", "score_{}", "prob {}", "{}_prob", "P({})", "{}", "Prob_{}", "proba.{}")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("names", NAMES, ids=str)
def test_classes_are_identified_by_their_names(names: Sequence[Any], suffix: str, tmp_path: Path) -> None:
    labels, predicted, values = rows_of(len(names))
    columns: dict[str, Sequence[Any]] = {"text": ["a"] * N, "label": named(names, labels)}
    bare = write(tmp_path / f"bare{suffix}", columns | {"prediction": named(names, predicted)})
    order = range(len(names))  # all names above are in their usual or alphabetical order
    require_same(read_claims(bare)[0], order, scored=False)
    scores = {f"prob_{name}": values[:, k].round(5).tolist() for k, name in enumerate(names)}
    for extra in ({"prediction": named(names, predicted)}, {}):
        claims, n_classes = read_claims(write(tmp_path / f"scored{suffix}", columns | extra | scores))
        require_same(claims, order)
        assert n_classes == len(names)
    assert claims.class_names is not None
    assert len(claims.class_names) == len(names)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("names", [("false", "true"), (1, 2, 3, 4, 5), ("Bad film", "good film"), (0, 1)], ids=str)
def test_score_columns_belong_to_the_class_in_their_name(names: Sequence[Any], style: str, tmp_path: Path) -> None:
    labels, predicted, values = rows_of(len(names))
    shuffled = np.random.default_rng(0).permutation(len(names))
    columns = {"label": named(names, labels), "prediction": named(names, predicted)}
    columns |= {style.format(names[k]): values[:, k].round(5).tolist() for k in shuffled}
    claims, _ = read_claims(write(tmp_path / "any.csv", columns))
    order = shuffled.tolist() if isinstance(names[0], str) and names[0].startswith("Bad") else range(len(names))
    require_same(claims, order)


@pytest.mark.parametrize("single", ["prob_{}", "score_{}", "{}", "{}_probability"])
@pytest.mark.parametrize("names", [("false", "true"), ("no", "yes"), (0, 1), (1, 2), ("bad", "good")], ids=str)
def test_the_score_of_one_of_two_classes_is_enough(names: Sequence[Any], single: str, tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    for k in (0, 1):
        columns = {"label": named(names, labels), single.format(names[k]): values[:, k].round(6).tolist()}
        for extra in ({}, {"prediction": named(names, predicted)}):
            require_same(read_claims(write(tmp_path / "any.csv", columns | extra))[0], (0, 1))


@pytest.mark.parametrize("names", [("false", "true"), ("No", "Yes"), (0, 1), (1, 2), (-1, 1), ("neg", "pos")], ids=str)
def test_a_score_without_class_name_belongs_to_the_usual_positive_class(names: Sequence[Any], tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    columns: dict[str, Sequence[Any]] = {"label": named(names, labels), "prob": values[:, 1].tolist()}
    require_same(read_claims(write(tmp_path / "any.csv", columns))[0], (0, 1))
    columns |= {"prediction": named(names, predicted)}
    require_same(read_claims(write(tmp_path / "any.csv", columns))[0], (0, 1))


def test_a_score_without_class_name_is_assigned_by_the_predictions_or_refused(tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    names = ("great", "awful")
    columns: dict[str, Sequence[Any]] = {"label": named(names, labels), "prob": values[:, 0].tolist()}
    with pytest.raises(UserError, match=r"named after no class.*prob_great"):
        read_claims(write(tmp_path / "any.csv", columns))
    columns |= {"prediction": named(names, predicted)}
    require_same(read_claims(write(tmp_path / "any.csv", columns))[0], (1, 0))


@pytest.mark.parametrize("word", ["score", "confidence", "probability"])
@pytest.mark.parametrize("names", [("false", "true"), (0, 1), ("bad", "good")], ids=str)
def test_the_probability_of_the_predicted_class_is_recognized(names: Sequence[Any], word: str, tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    columns = {"label": named(names, labels), "prediction": named(names, predicted), word: values.max(axis=1).tolist()}
    require_same(read_claims(write(tmp_path / "any.csv", columns))[0], (0, 1))


@pytest.mark.parametrize("names", [("negative", "positive"), (0, 1)], ids=str)
def test_the_probability_of_the_predicted_class_is_recognized_if_nearly_all_are_positive(
    names: Sequence[Any], tmp_path: Path
) -> None:
    predicted = np.where(np.arange(N) % 20, 1, 0)
    scores = np.linspace(0.6, 0.99, N)
    columns = {"label": named(names, predicted), "prediction": named(names, predicted), "score": scores.tolist()}
    claims, _ = read_claims(write(tmp_path / "any.csv", columns))
    assert claims.probabilities is not None
    assert claims.probabilities[np.arange(N), predicted] == pytest.approx(scores)


def test_the_output_of_tenor_predict_is_read(tmp_path: Path) -> None:
    """The input's label, the most probable class, its probability and those of all."""
    labels, predicted, values = rows_of(3)
    names = ("negative", "neutral", "positive")
    for written in (named(names, labels), labels.tolist()):
        columns: dict[str, Sequence[Any]] = {"label": written, "prediction": named(names, predicted)}
        columns |= {"probability": values.max(axis=1).round(6).tolist()}
        columns |= {f"probability_{name}": values[:, k].round(6).tolist() for k, name in enumerate(names)}
        claims, _ = read_claims(write(tmp_path / "any.csv", columns))
        require_same(claims, (0, 1, 2))
        assert claims.read_as == ()


def test_the_predictions_of_a_run_are_read(tmp_path: Path) -> None:

    labels, _, values = rows_of(3)
    write_predictions(tmp_path / "test.parquet", [str(k) for k in range(N)], labels, values, ("a", "b", "c"))
    claims, n_classes = read_claims(tmp_path / "test.parquet")
    require_same(claims, (0, 1, 2))
    assert n_classes == 3
    assert claims.ids is not None
    assert len(set(claims.ids)) == N


def test_dictionary_and_boolean_columns_of_parquet_are_classes(tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    table = {
        "label": pa.array(labels.astype(bool)),
        "prediction": pa.array(named(("false", "true"), predicted)).dictionary_encode(),
        "prob_true": pa.array(values[:, 1].astype(np.float32)),
    }
    pq.write_table(pa.table(table), tmp_path / "any.parquet")
    require_same(read_claims(tmp_path / "any.parquet")[0], (0, 1))


@pytest.mark.parametrize(
    ("own", "other"),
    [((0, 1), ("false", "true")), (("True", "False")[::-1], (0, 1)), ((0, 1), ("LABEL_0", "LABEL_1"))],
    ids=str,
)
def test_equivalent_names_are_the_same_classes(own: Sequence[Any], other: Sequence[Any], tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    columns = {"label": named(own, labels), "prediction": named(other, predicted), "prob_1": values[:, 1].tolist()}
    claims, _ = read_claims(write(tmp_path / "any.csv", columns))
    require_same(claims, (0, 1))
    assert claims.read_as == ()


def test_a_second_label_column_with_matching_names_is_used(tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    names = ("great", "awful")
    columns = {"label": labels.tolist(), "label_name": named(names, labels), "prediction": named(names, predicted)}
    columns |= {f"prob_{name}": values[:, k].tolist() for k, name in enumerate(names)}
    claims, _ = read_claims(write(tmp_path / "any.csv", columns))
    require_same(claims, (0, 1))
    assert claims.class_names == names


def test_numbers_are_the_positions_of_named_score_columns(tmp_path: Path) -> None:
    labels, predicted, values = rows_of(3)
    names = ("joy", "anger", "fear")
    scores = {f"prob_{name}": values[:, k].tolist() for k, name in enumerate(names)}
    for prediction in (predicted.tolist(), named(names, predicted)):
        columns = {"label": labels.tolist(), "prediction": prediction} | scores
        claims, _ = read_claims(write(tmp_path / "any.csv", columns))
        require_same(claims, (0, 1, 2))
        assert any("prob_joy" in note for note in claims.notes)


def test_numbered_score_columns_are_assigned_by_the_predictions_or_refused(tmp_path: Path) -> None:
    labels, predicted, values = rows_of(3)
    names, shuffled = ("joy", "anger", "fear"), (2, 0, 1)
    columns: dict[str, Sequence[Any]] = {"label": named(names, labels)}
    columns |= {f"prob_{place}": values[:, k].tolist() for place, k in enumerate(shuffled)}
    with pytest.raises(UserError, match=r"3 classes.*prob_0.*prob_anger"):
        read_claims(write(tmp_path / "any.csv", columns))
    claims, _ = read_claims(write(tmp_path / "any.csv", columns | {"prediction": named(names, predicted)}))
    require_same(claims, sorted_order(names))


def test_positive_before_negative_is_assigned_by_the_predictions_or_refused(tmp_path: Path) -> None:
    """The model may number its classes in this order, or the order of the columns may be arbitrary."""
    labels, predicted, values = rows_of(2)
    scores = {"prob_positive": values[:, 0].tolist(), "prob_negative": values[:, 1].tolist()}
    with pytest.raises(UserError, match="ambiguous"):
        read_claims(write(tmp_path / "any.csv", {"label": labels.tolist()} | scores))
    columns = {"label": labels.tolist(), "prediction": predicted.tolist()} | scores
    require_same(read_claims(write(tmp_path / "any.csv", columns))[0], (0, 1))


@pytest.mark.parametrize("form", ["percent", "percent sign", "logit", "score as logit", "log probability", "per mille"])
def test_scores_of_other_units(form: str, tmp_path: Path) -> None:
    labels, predicted, values = rows_of(3)
    logits = np.log(values) + np.random.default_rng(0).normal(size=(N, 1))
    names, cells = {
        "percent": ("prob_{}", (100 * values).round(3).tolist()),
        "percent sign": ("score_{}", [[f"{100 * one:.3f}%" for one in row] for row in values]),
        "logit": ("logit_{}", logits.tolist()),
        "score as logit": ("score_{}", logits.tolist()),
        "log probability": ("log_prob_{}", np.log(values).tolist()),
        "per mille": ("prob_{}", (1000 * values).tolist()),
    }[form]
    columns: dict[str, Sequence[Any]] = {"label": labels.tolist(), "prediction": predicted.tolist()}
    columns |= {names.format(k): [row[k] for row in cells] for k in range(3)}
    path = write(tmp_path / "any.csv", columns)
    if form == "per mille":  # out of range for a probability: reported as a finding
        assert "EVL014" in {finding.code for finding in diagnose(path).findings}
    else:
        require_same(read_claims(path)[0], (0, 1, 2))


@pytest.mark.parametrize("unit", ["percent", "logit", "score as logit"])
def test_one_score_of_other_units(unit: str, tmp_path: Path) -> None:
    labels, _, values = rows_of(2)
    word, cells = {
        "percent": ("prob_1", 100 * values[:, 1]),
        "logit": ("logit", np.log(values[:, 1] / values[:, 0])),
        "score as logit": ("score", np.log(values[:, 1] / values[:, 0])),
    }[unit]
    require_same(read_claims(write(tmp_path / "any.csv", {"label": labels.tolist(), word: cells.tolist()}))[0], (0, 1))


@pytest.mark.parametrize("form", ["list", "dict", "pipeline", "text", "numpy", "pipeline as text", "dict as text"])
def test_scores_of_all_classes_in_one_cell(form: str, tmp_path: Path) -> None:
    labels, predicted, values = rows_of(3)
    names = ("joy", "anger", "fear")
    by_number = form in ("list", "text", "numpy")
    classes: Sequence[Any] = (0, 1, 2) if by_number else names
    cells: list[Any] = values.tolist()
    if form.startswith("dict"):
        cells = [dict(zip(names, row, strict=True)) for row in cells]
    if form.startswith("pipeline"):
        cells = [
            [{"label": name, "score": row[k]} for k, name in enumerate(names)][:: 1 - 2 * (n % 2)]
            for n, row in enumerate(cells)
        ]
    if form.endswith("text"):
        cells = [f'"{row}"' for row in cells]
    if form == "numpy":
        cells = [str(row).replace("\n", " ") for row in values]
    columns = {"label": named(classes, labels), "prediction": named(classes, predicted), "probabilities": cells}
    suffix = ".csv" if form.endswith(("text", "numpy")) else ".jsonl"
    claims, _ = read_claims(write(tmp_path / f"any{suffix}", columns))
    require_same(claims, (0, 1, 2))


def test_a_class_without_rows_counts_if_it_has_a_score(tmp_path: Path) -> None:
    columns = {"label": ["neg", "pos"] * 40, "prediction": ["neg"] * 80}
    claims, n_classes = read_claims(write(tmp_path / "none.csv", columns))
    assert (n_classes, claims.class_names) == (2, ("neg", "pos"))
    columns |= {f"prob_{name}": [share] * 80 for name, share in (("neg", 0.5), ("neu", 0.2), ("pos", 0.3))}
    claims, n_classes = read_claims(write(tmp_path / "scored.csv", columns))
    assert (n_classes, claims.class_names) == (3, ("neg", "neu", "pos"))
    assert claims.labels is not None
    assert set(claims.labels.tolist()) == {0, 2}


def test_columns_named_like_scores_are_left_out_and_listed(tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    columns: dict[str, Sequence[Any]] = {"label": labels.tolist(), "prediction": predicted.tolist()}
    columns |= {"p_value": [0.01] * N, "score_bleu": [34.5] * N, "score_rouge": [51.0] * N, "p": ["x"] * N}
    claims, n_classes = read_claims(write(tmp_path / "any.csv", columns))
    require_same(claims, (0, 1), scored=False)
    assert n_classes == 2
    assert any("p_value" in note and "score_bleu" in note for note in claims.notes)
    columns |= {"p_0": values[:, 0].tolist(), "p_1": values[:, 1].tolist()}
    claims, n_classes = read_claims(write(tmp_path / "any.csv", columns))
    require_same(claims, (0, 1))
    assert n_classes == 2
    assert "p_value left out" in claims.notes[0]


def test_spellings_of_one_class_are_merged_and_listed(tmp_path: Path) -> None:
    labels, predicted, _ = rows_of(2)
    written = [("Positive", "positive ", "positive")[k % 3] if label else "negative" for k, label in enumerate(labels)]
    columns = {"label": written, "prediction": named(("NEGATIVE", "positive"), predicted)}
    claims, n_classes = read_claims(write(tmp_path / "any.csv", columns))
    require_same(claims, (0, 1), scored=False)
    assert n_classes == 2
    assert any("'Positive'" in note and "'positive'" in note for note in claims.notes)


def test_a_json_list_of_rows_is_read(tmp_path: Path) -> None:
    labels, predicted, _ = rows_of(3)
    diagnosis = diagnose(write(tmp_path / "any.json", {"label": labels.tolist(), "prediction": predicted.tolist()}))
    assert diagnosis.kind == "a file of predictions"
    assert "3 classes: 0, 1, 2" in diagnosis.notes[0]


def test_spaces_after_commas_and_a_byte_order_mark_are_ignored(tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    lines = ["label, prediction, prob_1"]
    lines += [f"{a}, {b}, {p[1]:.6f}" for a, b, p in zip(labels, predicted, values, strict=True)]
    (tmp_path / "any.csv").write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    require_same(read_claims(tmp_path / "any.csv")[0], (0, 1))


def test_text_columns_next_to_predictions_may_have_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "any.csv").write_bytes(b"text,label,prediction\n" + b"caf\xe9,1,1\nna\xefve,0,0\n" * 40)
    assert read_claims(tmp_path / "any.csv")[0].n == 80


REFUSED: dict[str, tuple[dict[str, Sequence[Any]], str]] = {
    "a label is missing": ({"label": [0, 1, "", 1], "prediction": [0, 1, 0, 1]}, "1 of 4 values of label are missing"),
    "a number is nan": ({"label": [0, "nan", 1, 1], "prediction": [0, 1, 0, 1]}, "1 of 4 values of label are missing"),
    "a prediction is None": ({"label": [0, 0, 1, 1], "pred": [0, 1, 0, None]}, "1 of 4 values of pred are missing"),
    "probabilities for predictions": ({"label": [0, 1], "y_pred": [0.2, 0.93]}, "fractions such as 0.2.*prob_CLASS"),
    "no name in common": (
        {"label": ["a", "b", "c"] * 30, "prediction": ["x", "y", "z", "y", "x", "z", "z", "x", "y"] * 10},
        "classes of label are a, b, c, those of prediction are x, y, z.*same names",
    ),
    "one score for three classes": (
        {"label": [0, 1, 2] * 9, "prob_1": [0.2] * 27},
        r"3 classes \(0, 1, 2\), but scores of one: prob_1",
    ),
    "a class without a score": (
        {"label": [1, 2, 3] * 9, "prob_0": [0.2] * 27, "prob_1": [0.2] * 27, "prob_2": [0.6] * 27},
        "No column is named after 3",
    ),
    "a comma for a point": ({"label": [0, 1], "prob_1": ['"0,93"', '"0,2"']}, "row 1 of column prob_1 is '0,93'"),
    "a word for a score": ({"label": [0, 1], "prob_1": [0.4, "high"]}, "row 2 of column prob_1 is 'high'"),
    "texts for labels": (
        {"label": [f"text {k}" for k in range(2000)], "prediction": ["a"] * 2000},
        "2,000 different values",
    ),
    "the output of a pipeline": (
        {"label": ["POSITIVE", "NEGATIVE"] * 9, "score": [0.99, 0.8] * 9},
        "name that column prediction",
    ),
    "semicolons": ({"label;prediction": ["1;1", "0;1"]}, "separated by ';'"),
    "nothing of use": ({"weather": [1], "wind": [2]}, "not recognized"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_ambiguous_or_invalid_files_are_refused_with_the_next_step(case: str, tmp_path: Path) -> None:
    columns, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as refused:
        read_claims(write(tmp_path / "any.csv", columns))
    assert "any.csv" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"label": 1}\n[2]\n', "line 2.*object"), ('{"label": 1, \n', "line 1.*JSON"), ("\n", "not recognized")],
)
def test_broken_json_lines_are_refused_with_the_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "any.jsonl").write_text(text)
    with pytest.raises(UserError, match=words):
        diagnose(tmp_path / "any.jsonl")


@pytest.mark.parametrize("names", [("false", "true"), (1, 2, 3, 4, 5), ("no", "yes")], ids=str)
def test_healthy_predictions_have_no_error(names: Sequence[Any], tmp_path: Path) -> None:
    labels, predicted, values = rows_of(len(names))
    columns = {"label": named(names, labels), "prediction": named(names, predicted)}
    columns |= {f"prob_{name}": values[:, k].tolist() for k, name in enumerate(names)}
    diagnosis = diagnose(write(tmp_path / "predictions.csv", columns))
    assert not [finding for finding in diagnosis.findings if finding.severity == "error"]
    assert f"{len(names)} classes: {', '.join(map(str, names))}" in diagnosis.notes[0]


@pytest.mark.parametrize("names", [("false", "true"), (1, 2), ("awful", "great")], ids=str)
def test_predictions_that_differ_from_the_argmax_are_reported(names: Sequence[Any], tmp_path: Path) -> None:
    labels, predicted, values = rows_of(2)
    columns = {"label": named(names, labels), "prediction": named(names, 1 - predicted)}
    columns |= {f"prob_{name}": values[:, k].tolist() for k, name in enumerate(names)}
    diagnosis = diagnose(write(tmp_path / "predictions.csv", columns))
    (finding,) = [finding for finding in diagnosis.findings if finding.code == "EVL004"]
    assert f"{N} of {N} rows" in finding.observed


def test_findings_use_the_class_names_of_the_file(tmp_path: Path) -> None:
    columns = {"label": [1, 2] * 60, "prediction": [2] * 120}
    diagnosis = diagnose(write(tmp_path / "predictions.csv", columns))
    (finding,) = [finding for finding in diagnosis.findings if finding.code == "EVL001"]
    assert "120 of 120 predicted as class 2" in finding.observed
    assert "class 2 is 50.0% of the labels" in finding.expected


PAIRS = [
    *(
        ("sentiment", "predicted_sentiment"),
        ("rating", "pred_rating"),
        ("stars", "stars_pred"),
        ("true_mood", "pred_mood"),
    ),
    *(("actual sentiment", "Predicted Sentiment"), ("Ground Truth", "Model Output"), ("y_test", "y_hat")),
]


@pytest.mark.parametrize(("label", "prediction"), PAIRS)
def test_a_pair_of_columns_is_recognized_by_the_name_that_both_share(
    label: str, prediction: str, tmp_path: Path
) -> None:
    labels, predicted, _ = rows_of(3)
    texts = [f"{k} stars" for k in range(N)]
    path = write(tmp_path / "any.csv", {"text": texts, label: labels.tolist(), prediction: predicted.tolist()})
    claims, _ = read_claims(path)
    require_same(claims, (0, 1, 2), scored=False)
    one = write(tmp_path / "one.csv", {"text": texts, label: labels.tolist(), prediction: [1] * N})
    assert "EVL001" in {finding.code for finding in diagnose(one).errors}


def test_two_pairs_of_columns_are_refused(tmp_path: Path) -> None:
    columns = {name: [0, 1] * 30 for name in ("mood", "predicted_mood", "topic", "predicted_topic")}
    with pytest.raises(UserError, match="not recognized"):
        read_claims(write(tmp_path / "any.csv", columns))


@pytest.mark.parametrize("k", [2, 4])
def test_swapped_labels_lead_to_their_own_causes(k: int, tmp_path: Path) -> None:
    labels, predicted, _ = rows_of(k)
    columns = {"label": labels.tolist(), "prediction": ((predicted + 1) % k).tolist()}
    diagnosis = diagnose(write(tmp_path / "any.csv", columns))
    assert {"EVL005", "EVL007"} <= {finding.code for finding in diagnosis.findings}
    assert diagnosis.causes[0].code == "DAT009"
    assert not {"DAT001", "DAT002", "DAT003"} & {cause.code for cause in diagnosis.causes}
    (swapped,) = [finding for finding in diagnosis.findings if finding.code == "EVL007"]
    assert "1 read as 0" in swapped.observed
    assert "numbered" not in swapped.observed


@pytest.mark.parametrize("first", [0, 1])
def test_labels_numbered_from_1_and_predictions_from_0_are_named(first: int, tmp_path: Path) -> None:
    labels, predicted, _ = rows_of(4)
    columns = {"label": (labels + first).tolist(), "prediction": (predicted + 1 - first).tolist()}
    findings = {finding.code: finding for finding in diagnose(write(tmp_path / "any.csv", columns)).findings}
    assert "one side are numbered from 0" in findings["EVL007"].observed
    assert "EVL013" not in findings  # The class at the end is not lost.


def test_the_saved_output_of_a_pipeline_is_refused_with_the_name_to_use(tmp_path: Path) -> None:
    path = write(tmp_path / "any.json", {"label": ["POSITIVE", "NEGATIVE"] * 9, "score": [0.99, 0.8] * 9})
    with pytest.raises(UserError, match="name that column prediction"):
        diagnose(path)
