"""A folder into which only a model was saved has no tokenizer, whatever `transformers` returns for it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from classifiers import save_classifier
from exports import save_export
from tenor.config.schema import Model
from tenor.errors import UserError
from tenor.inference.source import load_source
from tenor.model.classifier import load_classifier, load_saved_classifier, load_trained_classifier
from tenor.model.tokenizer import knows_words, load_tokenizer

KINDS = ("bert", "distilbert", "roberta", "electra", "deberta-v2", "xlm-roberta", "albert", "mpnet", "t5", "modernbert")


def without_tokenizer(folder: Path) -> Path:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_only_a_configuration_has_no_tokenizer(tmp_path: Path, kind: str) -> None:
    """Most give special tokens alone, T5 a space with them; DeBERTa counts two tokens twice, ModernBERT raises."""
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"no tokenizer in .*save_pretrained"):
        load_tokenizer(tmp_path, local=True)


def test_characters_need_no_file(tmp_path: Path) -> None:
    AutoConfig.for_model("perceiver").save_pretrained(tmp_path)
    assert knows_words(load_tokenizer(tmp_path, local=True))


@pytest.mark.parametrize("kept", ["tokenizer.json", "vocab.txt"])
def test_one_file_with_the_vocabulary_is_enough(tiny_bert: Path, tmp_path: Path, kept: str) -> None:
    whole = AutoTokenizer.from_pretrained(tiny_bert)
    shutil.copy(tiny_bert / "config.json", tmp_path)
    if kept == "vocab.txt":
        words = sorted(whole.get_vocab(), key=whole.get_vocab().get)
        (tmp_path / kept).write_text("\n".join(words), encoding="utf-8")
    else:
        shutil.copy(tiny_bert / kept, tmp_path)
    assert load_tokenizer(tmp_path, local=True).get_vocab() == whole.get_vocab()


def test_settings_and_added_words_are_not_a_vocabulary(small_bert: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small_bert)
    tokenizer.add_tokens(["filmcomedy"])
    shutil.copytree(small_bert, tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer in"):
        load_tokenizer(tmp_path / "model", local=True)


def test_a_vocabulary_of_special_tokens_is_refused(small_bert: Path, tmp_path: Path) -> None:
    shutil.copy(small_bert / "config.json", tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    with pytest.raises(UserError, match="special tokens and no words"):
        load_tokenizer(tmp_path, local=True)


@pytest.mark.parametrize(
    "load",
    [
        load_saved_classifier,
        lambda folder: load_trained_classifier(str(folder)),
        lambda folder: load_classifier(Model(name=str(folder)), ("negative", "positive"), 0, "cpu"),
        lambda folder: load_source(folder, folder.parent),
    ],
    ids=["saved", "trained", "to train", "source"],
)
def test_no_model_is_loaded_without_its_tokenizer(
    small_bert: Path, tmp_path: Path, load: Callable[[Path], object]
) -> None:
    folder = without_tokenizer(save_classifier(small_bert, tmp_path / "model"))
    assert AutoModelForSequenceClassification.from_pretrained(folder) is not None
    with pytest.raises(UserError, match=f"no tokenizer in {folder}.*Copy them from the original model"):
        load(folder)


def test_an_export_without_tokenizer_is_refused(small_bert: Path, tmp_path: Path) -> None:
    folder = without_tokenizer(save_export(small_bert, tmp_path / "exported"))
    with pytest.raises(UserError, match=f"no tokenizer in {folder}"):
        load_source(folder, tmp_path)
