"""Diagnosis: every kind of run artifact is read, causes are ranked, and invalid input is refused with one message."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tenor.checks.catalogue import BY_CODE
from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.diagnosis.causes import ranked_causes
from tenor.checks.diagnosis.observations import Observations
from tenor.checks.diagnosis.predictions_file import read_claims
from tenor.console.diagnosis_text import render
from tenor.errors import UserError
from tenor.runs.findings import Finding, Report, write_findings

CASE_EVALUATION = {
    "val": {"confusion_matrix": [[1298, 0], [1202, 0]]},
    "test": {"confusion_matrix": [[12500, 0], [12500, 0]]},
}
CASE_RUN = {"name": "full", "status": "ok", "ckpt_path": None, "val_metrics": None, "config": {"small_subset": 2000}}
CASE_REPORT = {
    "0": {"precision": 0.5, "recall": 1.0, "f1-score": 0.6666666666666666, "support": 12500.0},
    "1": {"precision": 0.0, "recall": 0.0, "f1-score": 0.0, "support": 12500.0},
    "accuracy": 0.5,
    "macro avg": {"precision": 0.25, "recall": 0.5, "f1-score": 0.3333333333333333, "support": 25000.0},
}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def codes(diagnosis: Diagnosis, status: str) -> list[str]:
    return [cause.code for cause in diagnosis.causes if cause.status == status]


def finding_codes(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings}


def rendered(width: int, diagnosis: Diagnosis) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(render(diagnosis))
    return capture.get()


def test_training_rows_of_one_class_are_the_first_causes_of_the_case(tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "eval_best_model.json", CASE_EVALUATION))
    first, second, *_ = diagnosis.causes
    assert {first.code, second.code} == {"DAT001", "DAT002"}
    assert first.status == "suspected"
    assert "the same class for every row" in first.evidence
    assert "label counts of the rows that the model was trained on" in first.settled_by
    assert {"EVL001", "EVL005"} <= set(first.symptoms)


@pytest.mark.parametrize(
    "content",
    [
        CASE_EVALUATION,
        CASE_EVALUATION["test"],
        CASE_REPORT,
        {"report": CASE_REPORT, "confusion_matrix": None},
        {"val": None, "test": {"confusion_matrix": [[12500, 0], [12500, 0]], "report": None}},
        {"test": {"missing": "none"}, "validation": {"confusion": [[1298, 0], [1202, 0]], "accuracy": 0.5192}},
    ],
)
def test_evaluations_are_read_in_every_usual_form(content: Any, tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "results.json", content))
    assert "EVL001" in finding_codes(diagnosis)
    assert "EVL010" not in finding_codes(diagnosis)
    assert json.loads(json.dumps(diagnosis.as_dict()))["symptoms"]


def test_a_validation_of_null_is_a_finding(tmp_path: Path) -> None:
    assert finding_codes(diagnose(write(tmp_path / "eval.json", {"val": None, "test": None}))) == {"CKP004"}


@pytest.mark.parametrize(
    "content",
    [[CASE_RUN], {"full": CASE_RUN}, {"runs": [CASE_RUN]}, CASE_RUN, [CASE_RUN, CASE_RUN | {"name": "frozen"}]],
)
def test_the_summary_of_the_case_is_read(content: Any, tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "experiments_summary.json", content))
    assert codes(diagnosis, "confirmed") == ["CKP003", "CKP004"]
    assert [finding.code for finding in diagnosis.symptoms] == ["CKP005"] * (2 if content and len(content) == 2 else 1)


def test_the_subset_setting_in_a_summary_is_named(tmp_path: Path) -> None:
    run = CASE_RUN | {"test_metrics": CASE_EVALUATION["test"]}
    diagnosis = diagnose(write(tmp_path / "experiments_summary.json", [run]))
    suspect = next(cause for cause in diagnosis.causes if cause.status == "suspected")
    assert suspect.code in ("DAT001", "DAT002")
    assert "small_subset = 2,000" in suspect.evidence


def test_failed_runs_need_no_checkpoint_or_metrics(tmp_path: Path) -> None:
    failed = CASE_RUN | {"status": "failed"}
    assert not diagnose(write(tmp_path / "summary.json", [failed])).findings


def test_checkpoint_paths_are_relative_to_the_summary(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    row = CASE_RUN | {"val_metrics": {"accuracy": 0.9, "n": 10}}
    for place, expected in (("a", set()), ("a/gone", {"CKP003", "CKP005"}), ("/elsewhere/on/another/machine", set())):
        path = write(tmp_path / "runs" / "experiments_summary.json", [row | {"ckpt_path": place}])
        assert finding_codes(diagnose(path)) & {"CKP003", "CKP005"} == expected


def tenor_run(folder: Path, chosen: int = 20, evaluated: int = 20, select_by: str = "accuracy") -> Path:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    positive = np.clip(labels * 0.6 + 0.4 * random.random(200), 0, 1)
    counts = [[int(((labels == i) & ((positive > 0.5) == j)).sum()) for j in (0, 1)] for i in (0, 1)]
    lines = [
        {"kind": "train", "step": s, "loss": 0.7 - s / 100, "learning_rate": 1e-5, "grad_norm": 1.0} for s in (10, 20)
    ]
    validations = ((10, 0.8, 0.4), (20, 0.9, 0.5))
    lines += [{"kind": "validation", "step": s, "accuracy": a, "loss": loss} for s, a, loss in validations]
    write(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "tr')
    write(folder / "manifest.json", {"status": "completed"})
    write(folder / "config.yaml", f"training:\n  select_by: {select_by}\n")
    split = {"n": 200, "confusion_matrix": counts, "accuracy": float(np.trace(counts) / 200)}
    result = {"checkpoint": {"step": evaluated, "digest": f"d{evaluated}"}, "val": split, "test": {"missing": "none"}}
    write(folder / "eval_best_model.json", result)
    write(folder / "model" / "tenor.json", {"checkpoint_step": chosen, "weights_sha256": f"d{chosen}"})
    (folder / "checkpoints" / f"step-{chosen:06d}").mkdir(parents=True)
    (folder / "predictions").mkdir()
    columns = {
        "id": [str(row) for row in range(200)],
        "label": labels,
        "label_name": [("bad", "good")[k] for k in labels],
        "predicted": (positive > 0.5).astype(int),
        "probability_0": 1 - positive,
        "probability_1": positive,
    }
    pq.write_table(pa.table(columns), folder / "predictions" / "validation.parquet")
    return folder


def test_a_healthy_tenor_run_has_no_finding(tmp_path: Path) -> None:
    diagnosis = diagnose(tenor_run(tmp_path))
    assert not [finding for finding in diagnosis.findings if finding.severity != "note"]
    assert "no problem found; the run is complete." in diagnosis.conclusion or diagnosis.findings


def test_evaluating_other_weights_than_the_chosen_ones_is_reported(tmp_path: Path) -> None:
    assert codes(diagnose(tenor_run(tmp_path, chosen=10)), "confirmed") == ["CKP001", "CKP002"]


def test_a_tenor_run_is_judged_by_its_configured_metric(tmp_path: Path) -> None:
    assert "CKP001" not in finding_codes(diagnose(tenor_run(tmp_path / "least", 10, 10, "loss")))
    diagnosis = diagnose(tenor_run(tmp_path / "largest", 20, 20, "loss"))
    (finding,) = [finding for finding in diagnosis.findings if finding.code == "CKP001"]
    assert finding.observed == "step 20 was selected: loss 0.5 (smaller is better)"
    assert finding.expected == "step 10: loss 0.4"


def test_a_tenor_run_without_configuration_is_not_judged_by_a_metric(tmp_path: Path) -> None:
    folder = tenor_run(tmp_path, 10, 10, "loss")
    (folder / "config.yaml").unlink()
    diagnosis = diagnose(folder)
    assert "CKP001" not in finding_codes(diagnosis)
    (reason,) = [rule.reason for rule in diagnosis.not_checked if rule.code == "CKP001"]
    assert "config.yaml" in reason


def test_earlier_findings_explain_later_ones_and_rule_out_others(tmp_path: Path) -> None:
    folder = tenor_run(tmp_path)
    write(folder / "eval_best_model.json", CASE_EVALUATION)
    (folder / "predictions" / "validation.parquet").unlink()
    frozen = Finding(
        code="FRZ003",
        title="No parameter is trainable",
        severity="error",
        observed="0 weights",
        expected="some",
        n=1,
        cause="frozen",
        fix="thaw",
    )
    write_findings(folder / "findings.json", [Report("preflight", ("FRZ003", "FRZ005"), (), (frozen,))])
    diagnosis = diagnose(folder)
    assert diagnosis.causes[0].code == "FRZ003"
    assert "EVL001" in diagnosis.causes[0].symptoms
    assert not codes(diagnosis, "suspected")
    assert "FRZ005" in diagnosis.ruled_out


def test_trainer_output_is_read_without_its_pickle(tmp_path: Path) -> None:
    log = [{"step": 10, "loss": 0.5, "learning_rate": 1e-5, "grad_norm": float("nan")}]
    log += [{"step": 10, "eval_loss": 0.4, "eval_accuracy": 0.8}, {"step": 20, "eval_loss": 0.3, "eval_accuracy": 0.9}]
    state = {"log_history": log, "global_step": 20, "best_metric": 0.8, "best_model_checkpoint": "/x/out/checkpoint-10"}
    (tmp_path / "training_args.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    write(tmp_path / "checkpoint-10" / "trainer_state.json", state | {"global_step": 10, "log_history": log[:2]})
    write(tmp_path / "checkpoint-20" / "trainer_state.json", json.dumps(state))
    write(tmp_path / "all_results.json", {"eval_accuracy": 0.905, "eval_samples": 100})
    diagnosis = diagnose(tmp_path)
    assert diagnosis.kind == "the output of transformers.Trainer"
    assert {"CKP001", "EVL009"} <= finding_codes(diagnosis)
    assert "CKP003" not in finding_codes(diagnosis)


def test_event_files_are_read(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path / "logs"))
    for step in range(5):
        writer.add_scalar("train/loss", 1.0 / (step + 1), step)
        writer.add_scalar("eval/accuracy", 0.5 + step / 10, step)
    writer.close()
    diagnosis = diagnose(tmp_path)
    assert diagnosis.kind == "TensorBoard event files"
    assert not [finding for finding in diagnosis.findings if finding.severity == "error"]


@pytest.mark.parametrize(
    "header_and_row",
    [
        ("label,predicted", lambda k: f"{k},0"),
        ("y_true,y_pred", lambda k: f"{('neg', 'pos')[k]},neg"),
        ("target,prob_0,prob_1", lambda k: f"{k},0.9,0.1"),
        ("true,score", lambda k: f"{k},0.2"),
        ("gold,logit_neg,logit_pos", lambda k: f"{('neg', 'pos')[k]},3.5,-1.25"),
        ("text,label,pred,id", lambda k: f'"a, b\nc",{k},0,{k}'),
    ],
)
def test_prediction_columns_are_recognized(header_and_row: tuple[str, Callable[[int], str]], tmp_path: Path) -> None:
    header, row = header_and_row
    path = write(tmp_path / "test_predictions.csv", "\n".join([header, *(row(i % 2) for i in range(200))]) + "\n")
    diagnosis = diagnose(path)
    assert "EVL001" in finding_codes(diagnosis)
    assert "EVL004" not in finding_codes(diagnosis)
    assert "200 of 200" in diagnosis.symptoms[0].observed or len(diagnosis.symptoms) > 1


def test_a_good_ranking_with_one_predicted_class_blames_the_threshold(tmp_path: Path) -> None:
    rows = [f"{i % 2},{0.1 + 0.2 * (i % 2) + i / 10000}" for i in range(200)]
    diagnosis = diagnose(write(tmp_path / "predictions.csv", "\n".join(["label,prob", *rows])))
    assert diagnosis.causes[0].code == "EVL002"
    assert diagnosis.causes[0].status == "confirmed"
    assert "EVL001" in diagnosis.causes[0].symptoms


@pytest.mark.parametrize(("loss_share", "leads"), [(0.001, True), (0.99, False), (None, True)])
def test_the_training_loss_ranks_the_suspected_causes(loss_share: float | None, leads: bool) -> None:
    symptom = Finding(
        code="EVL001", severity="error", stage="evaluation", observed="", expected="", n=1, cause="", fix=""
    )
    observations = Observations("all", same_class_for_all=True, loss_share=loss_share, last_loss=loss_share)
    causes = ranked_causes([symptom], list(BY_CODE), observations)
    order = [cause.code for cause in causes]
    assert (order[0] == "DAT001") == leads
    assert leads != ({"DAT001", "DAT002"}.isdisjoint(order))
    families = {"DAT": 0, "TOK": 0, "LOS": 1, "MOD": 1, "OPT": 2, "FRZ": 2, "PRC": 2, "CKP": 3, "EVL": 4}
    weakest = [families[cause.code[:3]] for cause in causes if cause.evidence.startswith("can cause this result")]
    assert weakest == sorted(weakest)


def test_a_printed_diagnosis_is_short_and_fits_80_columns(tmp_path: Path) -> None:
    run = CASE_RUN | {"test_metrics": CASE_EVALUATION["test"]}
    text = rendered(80, diagnose(write(tmp_path / "experiments_summary.json", [run, run | {"name": "other"}])))
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 80
    assert text.index("Causes") < text.index("Symptoms") < text.index("Not checked")  # The first cause is confirmed.


BAD: dict[str, str | bytes] = {
    "truncated.json": '{"val": {"confusion_matrix": [[1298, 0], [12',
    "empty.json": "",
    "number.json": "5",
    "null.json": "null",
    "list.json": "[1, 2]",
    "strange.json": '{"weather": "fine"}',
    "ragged.json": '{"confusion_matrix": [[1, 2], [3]]}',
    "shares.json": '{"confusion_matrix": [[0.5, 0.5], [0.1, 0.9]]}',
    "words.json": '{"test": {"confusion_matrix": "none"}}',
    "binary.json": bytes(range(256)),
    "deep.json": "[" * 100_000,
    "strange.csv": "weather,wind\nfine,3\n",
    "no_rows.csv": "label,predicted\n",
    "empty.csv": "",
    "missing.csv": "label,predicted\n1,\n0,1\n",
    "fraction.csv": "label,predicted\n0.5,1\n",
    "binary.csv": bytes(range(256)) * 8,
    "binary.parquet": struct.pack("<256B", *range(256)),
    "model.bin": b"\x80\x04",
    "findings.json": '{"stages": [{"stage": 1}]}',
    "trainer_state.json": '{"log_history": [3]}',
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_input_is_refused_with_one_message(name: str, tmp_path: Path) -> None:
    content = BAD[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as refused:
        diagnose(tmp_path / name)
    assert name in str(refused.value) or "trainer_state" in str(refused.value)


def test_unknown_columns_are_listed_with_the_accepted_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weather, wind.*y_true"):
        diagnose(write(tmp_path / "strange.csv", "weather,wind\nfine,3\n"))


@pytest.mark.parametrize("names", [(), ("notes.txt",), ("events.out.tfevents.1",)])
def test_unrelated_folders_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"\x00junk" * 20)
    with pytest.raises(UserError, match=str(tmp_path.name)):
        diagnose(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        diagnose(tmp_path / "gone")


@pytest.mark.parametrize("name", ["metrics.jsonl", "manifest.json", "eval_best_model.json", "findings.json"])
def test_a_broken_file_in_a_run_is_named(name: str, tmp_path: Path) -> None:
    folder = tenor_run(tmp_path)
    write(folder / name, '{"val": [1\n')
    with pytest.raises(UserError, match=name):
        diagnose(folder)


FINDING = {"code": "DAT001", "title": "t", "severity": "note", "stage": "preflight", "observed": "o", "expected": "e"}
FINDING |= {"n": 1, "cause": "c", "fix": "f", "caused_by": []}
STAGE = {"stage": "preflight", "checked": ["DAT001"], "not_applicable": [], "findings": [FINDING]}
INVALID: list[tuple[str, Any, str]] = [
    (
        "findings.json",
        {"stages": [{**STAGE, "findings": [{**FINDING, "severity": "grave"}]}]},
        "not as Tenor writes it",
    ),
    ("findings.json", {"stages": [{**STAGE, "findings": [{**FINDING, "code": 3}]}]}, "not as Tenor writes it"),
    ("findings.json", {"stages": [{**STAGE, "checked": [[]]}]}, "not as Tenor writes it"),
    ("metrics.jsonl", '{"kind": "train", "step": 1e30, "loss": 0.5}\n', "line 1: is not a record"),
    ("metrics.jsonl", '{"kind": "train", "step": 1, "loss": 1' + "0" * 400 + "}\n", "an integer of 401 digits"),
    ("metrics.jsonl", '{"step": 1, "x": ' + "[" * 100_000 + "\n", "line 1: is not a record"),
    ("eval_best_model.json", {"val": {"n": 4, "accuracy": 0.5, "baselines": {"text": 1.5}}}, "expected an accuracy"),
    ("eval_best_model.json", {"val": {"confusion_matrix": [[10**30, 1], [0, 1]]}}, "not a square table of counts"),
    ("eval_best_model.json", {"val": {"n": 4, "accuracy": 10**400}}, "an integer of 401 digits"),
]


@pytest.mark.parametrize(("name", "content", "words"), INVALID)
def test_an_invalid_value_in_a_run_is_refused_with_the_file_name(
    name: str, content: Any, words: str, tmp_path: Path
) -> None:
    folder = tenor_run(tmp_path)
    write(folder / "findings.json", {"stages": [STAGE]})
    diagnose(folder)
    write(folder / name, content)
    with pytest.raises(UserError, match=words) as refused:
        diagnose(folder)
    assert name in str(refused.value)


KEYS = (
    *("val", "test", "confusion_matrix", "report", "accuracy", "n", "status", "ckpt_path", "val_metrics", "baselines"),
    *("0", "1", "precision", "recall", "support", "step", "loss", "runs", "config", "log_history", "stages"),
)
NUMBERS = st.integers(-3, 10**20) | st.floats() | st.just([[1, 2], [3, 4]])
LEAVES = st.none() | st.booleans() | st.text(max_size=3) | NUMBERS
CELLS = st.sampled_from(["0", "1", "2", "a", "", "-1", "0.5", "inf", "nan", "1e300", '"'])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_any_json_is_diagnosed_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = write(tmp_path_factory.mktemp("any") / "any.json", value)
    try:
        diagnosis = diagnose(path)
    except UserError as refused:
        assert "any.json" in str(refused) or "trainer_state" in str(refused)  # noqa: PT017
    else:
        assert rendered(80, diagnosis)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=30))
def test_any_table_is_diagnosed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
) -> None:
    text = "\n".join(["label,pred,prob_1", *(",".join(row) for row in rows)])
    path = write(tmp_path_factory.mktemp("any") / "any.csv", text)
    try:
        diagnose(path)
    except UserError as refused:
        assert "any.csv" in str(refused)  # noqa: PT017


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_quotes_within_texts_lose_no_prediction(suffix: str, tmp_path: Path) -> None:
    delimiter = "\t" if suffix == ".tsv" else ","
    lines = [delimiter.join((f"a film {n}", str(n % 2), str(n % 2))) for n in range(60)]
    lines[9], lines[19] = (delimiter.join((text, "0", "1")) for text in ('"awful', 'never ends"'))
    header = delimiter.join(("text", "label", "predicted"))
    claims, _ = read_claims(write(tmp_path / f"predictions{suffix}", "\n".join([header, *lines])))
    assert (claims.n, len(claims.predicted)) == (60, 60)
    assert "double quotes are read as part of the texts" in claims.notes[0]


def test_an_unbalanced_quote_is_refused_with_its_line(tmp_path: Path) -> None:
    lines = [f'"Good, really {n}",{n % 2},1' for n in range(20)]
    lines[6], lines[8] = '"awful,0,1', 'ends",0,1'
    with pytest.raises(UserError, match=r"line 8 is malformed: "):
        read_claims(write(tmp_path / "predictions.csv", "\n".join(["text,label,predicted", *lines])))
