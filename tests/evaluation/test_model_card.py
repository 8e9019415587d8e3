"""huggingface_hub reads the model's card back with the numbers of the run."""

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id

from report_runs import FINDING, HOSTILE, finished_run
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.errors import UserError
from tenor.evaluation.model_card import base_model, model_card
from tenor.evaluation.report.run_content import RunContent, collect_run
from tenor.runs.files import read_json

ROWS = {"train": 42, "validation": 18, "test": 60}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> RunContent:
    """Read only."""
    return collect_run(finished_run(tmp_path_factory.mktemp("card")))


def test_its_metadata_are_read_back_complete(content: RunContent, tmp_path: Path) -> None:
    card = model_card(content, ROWS)
    card.save(tmp_path / "README.md")
    back = ModelCard.load(tmp_path / "README.md")
    assert back.data.to_dict() == card.data.to_dict()
    name, results = model_index_to_eval_results(back.data.to_dict()["model-index"])
    assert name == "invented"
    assert eval_results_to_model_index(name, results) == back.data.to_dict()["model-index"]
    validate_repo_id(back.data.base_model)
    assert back.data.pipeline_tag == "text-classification"
    assert back.data.library_name == "transformers"


def test_its_metrics_are_those_of_the_run_with_their_split(content: RunContent) -> None:
    written = read_json(content.run.evaluation)
    found = {(r.dataset_split, r.metric_type): r.metric_value for r in model_card(content, ROWS).data.eval_results}
    expected = {
        (split, kind): pytest.approx(written[key][name], abs=1e-6)
        for split, key in (("validation", "val"), ("test", "test"))
        for kind, name in (("accuracy", "accuracy"), ("f1", "macro_f1"), ("loss", "loss"))
    }
    assert found == expected


def test_it_says_what_it_is_for_and_where_it_fails(content: RunContent) -> None:
    text = model_card(content, ROWS).text
    for words in (
        "## Intended use",
        "## Limits",
        "## Training",
        "## Checks",
        "TOK009",
        "42 texts",
        "SHA-256",
        "Lowest",
    ):
        assert words in text, words
    assert "\n\n\n\n" not in text
    assert "Do not rely on" not in text


def test_an_error_of_a_check_is_shown_at_the_top(tmp_path: Path) -> None:
    run = finished_run(tmp_path, finding=replace(FINDING, severity="error", code="EVL001"))
    assert "Do not rely on this model: EVL001" in model_card(collect_run(run), ROWS).text.partition("## Results")[0]


def test_class_names_with_markup_stay_words(tmp_path: Path) -> None:
    run = finished_run(tmp_path, class_names=(HOSTILE, "a | b"), finding=replace(FINDING, observed="x\n\n# heading"))
    text = model_card(collect_run(run), ROWS).text
    assert "<script>" not in text.replace("\\<script", "")
    assert "| a \\| b |" in text
    assert "\n# heading" not in text


def test_without_a_test_split_validation_is_the_split(tmp_path: Path) -> None:
    card = model_card(collect_run(finished_run(tmp_path, has_test=False)), {"train": 42, "validation": 18})
    assert {result.dataset_split for result in card.data.eval_results} == {"validation"}
    assert "No result on test rows" in card.text


def test_a_run_without_evaluation_gets_no_card(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    run.evaluation.unlink()
    with pytest.raises(UserError, match="ended before its evaluation"):
        model_card(collect_run(run), ROWS)


@pytest.mark.parametrize(
    ("data", "dataset_type", "datasets"),
    [
        ("data.source=embedded", "embedded", ["stanfordnlp/imdb"]),
        ("data.source=imdb", "stanfordnlp/imdb", ["stanfordnlp/imdb"]),
        ("data.source=sst2", "stanfordnlp/sst2", ["stanfordnlp/sst2"]),
        ("data.source=given", "given", None),
    ],
)
def test_data_are_named_as_the_hub_names_them(
    data: str, dataset_type: str, datasets: list[str] | None, content: RunContent
) -> None:
    config: Config = load_config("demo", [data])
    card = model_card(replace(content, config=config), ROWS).data
    assert {result.dataset_type for result in card.eval_results} == {dataset_type}
    assert card.datasets == datasets


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("distilbert/distilbert-base-uncased", "distilbert/distilbert-base-uncased"),
        ("random-distilbert", None),
        ("/home/someone/model", None),
        ("tests", None),
    ],
)
def test_only_a_model_of_the_hub_is_named_as_base(name: str, expected: str | None) -> None:
    assert base_model(name) == expected
