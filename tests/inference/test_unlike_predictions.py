"""Who predicts is told that texts are unlike the training texts: in Python, on the command line, and for a file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from exports import save_export
from prediction_files import done, write_input
from tenor.cli.main import main
from tenor.config.schema import Data
from tenor.data.sources import read_source
from tenor.data.unlike_texts import profile_of
from tenor.inference.file_job import FileJob
from tenor.inference.predictor import Predictor, UnlikeTextsWarning
from tenor.inference.source import load_source

CHINESE = "这部电影太好看了，强烈推荐给大家。"
GERMAN = "Der Film war leider eine große Enttäuschung, ich habe mich nur gelangweilt."
ENGLISH = "a film to remember, with a superb cast and a good story"


@pytest.fixture(scope="module")
def predictor(tiny_predictor: Predictor) -> Predictor:
    texts = read_source(Data()).train.texts  # type: ignore[union-attr]
    known = profile_of([texts[row] for row in range(0, len(texts), 40)])
    return replace(tiny_predictor, source=replace(tiny_predictor.source, training_texts=known))


def test_python_warns_and_each_prediction_says_why(predictor: Predictor) -> None:
    with pytest.warns(UnlikeTextsWarning, match=r"1 of 3 texts \(33.3%\) are written in another script"):
        predictions = predictor.predict([ENGLISH, CHINESE, GERMAN])
    assert [bool(one.caution) for one in predictions] == [False, True, True]
    assert "another language" in predictions[2].caution
    with pytest.warns(UnlikeTextsWarning, match=r"for example texts\[1\]"):
        assert predictor.probabilities([ENGLISH, CHINESE]).shape == (2, 2)


@pytest.mark.filterwarnings("error")
def test_ordinary_texts_cause_no_warning(predictor: Predictor) -> None:
    assert [one.caution for one in predictor.predict([ENGLISH, "Great phone 👍👍👍"])] == ["", ""]


def test_a_model_without_a_record_still_counts_unknown_tokens(tiny_predictor: Predictor) -> None:
    with pytest.warns(UnlikeTextsWarning, match="consist mostly of tokens that the model does not know"):
        assert tiny_predictor.predict([CHINESE])[0].caution


def test_a_file_is_counted_as_a_whole(predictor: Predictor, tmp_path: Path) -> None:
    source = write_input(tmp_path / "rows.csv", [*[ENGLISH] * 5, CHINESE, GERMAN, CHINESE])
    result = done(predictor, FileJob(source, tmp_path / "out.csv"))
    assert (result.unlike["rows"], result.unlike["other_script"], result.unlike["other_language"]) == (8, 2, 1)
    assert result.unlike["unknown_tokens"] > 0
    assert any("row 6, '这部电影" in note for note in result.unlike["notes"])


def test_the_command_prints_cautions_to_stderr_and_as_a_field(
    tiny_classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tiny_classifier), ENGLISH, CHINESE, "--json", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    assert [bool(row["caution"]) for row in json.loads(captured.out)["predictions"]] == [False, True]
    assert "text 2: do not trust this prediction" in captured.err
    assert "UnlikeTextsWarning" not in captured.err


def test_an_export_keeps_the_record(predictor: Predictor, small_classifier: Path, tmp_path: Path) -> None:
    known = predictor.source.training_texts
    folder = save_export(small_classifier, tmp_path / "export", training_texts=known)
    assert load_source(folder, tmp_path).training_texts == known
    assert load_source(save_export(small_classifier, tmp_path / "other"), tmp_path).training_texts is None
