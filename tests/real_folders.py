"""Makes `tests/folders/`: small run folders of other programs, written by these programs themselves.

    python tests/real_folders.py [TOOL …] [--environments FOLDER]

Each tool is installed with the pins below into a virtual environment of its own, trains twice on a toy task, once
soundly and once with a fault, and what it writes is kept, except weights, tokenizers, logs and caches. Only the names
of machine, user and folder are replaced, by strings of the same length where a format needs it.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

TORCH = ("torch==2.13.0", "numpy==2.4.6")
ENCODER = (*TORCH, "transformers==5.23.0", "accelerate")
PINS: dict[str, tuple[str, ...]] = {
    "wandb": ("wandb==0.31.0", *TORCH),
    "mlflow": ("mlflow-skinny==3.17.2", "mlflow==3.17.2", "sqlalchemy", "alembic", *TORCH),
    "lightning": ("lightning==2.6.6", "tensorboard==2.21.0", *TORCH),
    "keras": ("keras==3.15.1", "tensorflow-cpu==2.21.0", "tensorboard==2.21.0", *TORCH),
    "simpletr": ("simpletransformers==0.70.8", *ENCODER),
    "setfit": ("setfit==1.2.0", "sentence-transformers==6.2.0", *ENCODER),
    "trainer": ENCODER,
    "spacy": ("spacy==3.8.18",),
    "keras_captured": ("keras==3.15.1", "jax==0.10.2", "numpy==2.4.6"),
    "evaluators": ("sentence-transformers==6.2.0", "pandas", *ENCODER),
    "flair": ("flair==0.15.1", "torch==2.13.0"),
}
"""Weights & Biases and MLflow come without a training loop, so that one of PyTorch is added."""
KEPT = 128 * 1024
"""Bytes of the largest file that is kept; everything that a reader needs is smaller."""
LEFT_OUT = re.compile(
    r"(safetensors|\.bin|\.pt|\.pth|\.ckpt|\.keras|debug.*\.log|tokenizer.*|vocab.*|special_tokens_map\.json|requirements\.txt"
    r"|wandb-metadata\.json|textcat/.*|config\.cfg|key2row|lookups.*|strings\.json|weights\.txt|test\.tsv|dev\.tsv"
    r"|checkpoint-(20|40|60|80)(-epoch-.)?/.*|README\.md|scheduler.*|optimizer.*|merges\.txt)$"
)
FOLDERS = Path(__file__).parent / "folders"

GOOD = ("great", "lovely", "superb", "moving", "clever", "bright", "funny", "warm")
BAD = ("awful", "dull", "stupid", "boring", "weak", "ugly", "cold", "dreadful")
PLAIN = ("the", "film", "plot", "was", "and", "a", "story", "with", "some", "actors", "of", "this", "it", "music")


def texts(n: int, seed: int, noise: float = 0.0) -> tuple[list[str], list[int]]:
    """Reviews of ten words, three of which tell the class; a share of `noise` has a random label."""
    chance = random.Random(seed)
    rows, labels = [], []
    for row in range(n):
        label = row % 2
        words = [chance.choice(PLAIN) for _ in range(7)] + [chance.choice((BAD, GOOD)[label]) for _ in range(3)]
        chance.shuffle(words)
        rows.append(" ".join(words))
        labels.append(chance.randrange(2) if chance.random() < noise else label)
    return rows, labels


def bags(n: int, seed: int, noise: float = 0.0, repeat: int = 1) -> tuple[Any, Any]:
    """The same as counts of words, shape (n, words), float32, and labels."""
    import numpy as np

    words = [*GOOD, *BAD, *PLAIN]
    rows, labels = texts(n, seed, noise)
    counts = np.array([[row.split().count(word) for word in words] for row in rows], dtype="float32")
    return np.repeat(counts, repeat, axis=1), np.array(labels)


def loop(log: Callable[[dict[str, float], int], None], rate: float, steps: int = 120, classes: int = 2) -> None:
    """A loop of PyTorch with 16 rows per step, which logs every second step and validates every twentieth."""
    import torch

    torch.manual_seed(0)
    x, y = (torch.tensor(part) for part in bags(320, 1))
    held_out, expected = (torch.tensor(part) for part in bags(200, 2))
    y, expected = (part if classes == 2 else torch.arange(len(part)) % classes for part in (y, expected))
    model = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 16), torch.nn.Tanh(), torch.nn.Linear(16, classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for step in range(1, steps + 1):
        rows = torch.randint(len(x), (16,))
        loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        record = {"train/loss": loss.item(), "train/learning_rate": rate} if step % 2 == 0 else {}
        if step % 20 == 0:
            with torch.no_grad():
                logits = model(held_out)
            record["eval/loss"] = torch.nn.functional.cross_entropy(logits, expected).item()
            record["eval/accuracy"] = (logits.argmax(1) == expected).float().mean().item()
        if record:
            log(record, step)


def with_wandb(out: Path) -> None:
    import wandb

    quiet = wandb.Settings(
        x_disable_stats=True, x_disable_meta=True, console="off", disable_git=True, host="host", silent=True
    )
    for name, rate in (("healthy", 0.1), ("not_a_number", 1e38)):
        (out / f"wandb_{name}").mkdir()
        config = {"learning_rate": rate, "num_labels": 2, "optimizer": {"kind": "SGD"}}
        run = wandb.init(
            project="reviews", mode="offline", dir=out / f"wandb_{name}", name=name, config=config, settings=quiet
        )
        loop(lambda record, step, run=run: run.log(record, step=step), rate)  # type: ignore[misc]
        run.finish()


def with_mlflow(out: Path) -> None:
    import mlflow

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    os.environ["LOGNAME"] = os.environ["USER"] = "user"  # As getpass.getuser reads it.
    for name, store, rate, classes in (
        ("healthy", "sqlite", 0.1, 2),
        ("flat", "file", 1e-9, 3),
        ("healthy_files", "file", 0.1, 2),
    ):
        place = out / f"mlflow_{name}"
        place.mkdir()
        mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db" if store == "sqlite" else f"file://{place}/mlruns")
        experiment = mlflow.create_experiment("reviews", artifact_location="file:///runs")
        with mlflow.start_run(run_name=name, experiment_id=experiment):
            mlflow.log_params({"learning_rate": rate, "num_labels": classes})
            loop(lambda record, step: mlflow.log_metrics(record, step=step), rate, classes=classes)
        if store == "sqlite":
            _shrink(place / "mlflow.db")
        for tag in place.glob("mlruns/*/*/tags/*"):
            if tag.name != "mlflow.runName":
                tag.unlink()  # User, program and commit.


def _shrink(path: Path) -> None:
    """Drop the tables of MLflow's other features, which are empty and take 900 kB."""
    import sqlite3

    kept = ("runs", "metrics", "latest_metrics", "params", "tags", "experiments", "alembic_version")
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table not in kept and not table.startswith("sqlite_"):
                database.execute(f'DROP TABLE "{table}"')
        database.execute("UPDATE runs SET artifact_uri = '/runs', user_id = 'user', source_name = ''")
        database.execute("DELETE FROM tags WHERE key != 'mlflow.runName'")
        database.commit()
        database.execute("VACUUM")


def with_lightning(out: Path) -> None:
    import lightning
    import torch
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    class Classifier(lightning.LightningModule):
        def __init__(self, width: int = 16, lr: float = 1e-2, num_classes: int = 2) -> None:
            super().__init__()
            self.save_hyperparameters()
            words = len(GOOD) + len(BAD) + len(PLAIN)
            self.net = torch.nn.Sequential(
                torch.nn.Linear(words, width), torch.nn.Tanh(), torch.nn.Linear(width, num_classes)
            )

        def training_step(self, batch: Any, index: int) -> Any:
            loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            logits = self.net(batch[0])
            self.log("val_loss", torch.nn.functional.cross_entropy(logits, batch[1]))
            self.log("val_acc", (logits.argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])

    def loader(n: int, seed: int, noise: float, shuffle: bool) -> Any:
        x, y = (torch.tensor(part) for part in bags(n, seed, noise))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16, shuffle=shuffle)

    lightning.seed_everything(0)
    for name, logger, rows, noise, epochs, width, rate in (
        ("healthy", CSVLogger, 320, 0.1, 4, 16, 1e-2),
        ("overfitting", CSVLogger, 96, 0.5, 40, 256, 1e-2),
        ("tensorboard", TensorBoardLogger, 320, 0.1, 4, 16, 1e-2),
    ):
        trainer = lightning.Trainer(
            max_epochs=epochs,
            logger=logger(out / f"lightning_{name}", name="lightning_logs"),
            log_every_n_steps=2,
            callbacks=[LearningRateMonitor("step")],
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(Classifier(width, rate), loader(rows, 1, noise, True), loader(200, 2, noise, False))


def with_keras(out: Path) -> None:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    for name, rows, noise, epochs, width, rate in (
        ("healthy", 320, 0.1, 8, 16, 3e-3),
        ("at_chance", 320, 0.0, 8, 16, 0.0),
        ("overfitting", 96, 0.5, 40, 256, 1e-2),
    ):
        keras.utils.set_random_seed(0)
        place = out / f"keras_{name}"
        place.mkdir()
        last = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="zeros")
        model = keras.Sequential([keras.layers.Dense(width, activation="relu"), last])
        model.compile(keras.optimizers.Adam(rate), loss="binary_crossentropy", metrics=["accuracy"])
        logs = [keras.callbacks.CSVLogger(str(place / "csv" / "training.log"), separator=";")]
        if name != "at_chance":
            logs.append(keras.callbacks.TensorBoard(str(place / "logs" / "fit"), write_graph=False))
        (place / "csv").mkdir()
        history = model.fit(
            *bags(rows, 1, noise),
            validation_data=bags(200, 2, noise),
            epochs=epochs,
            batch_size=16,
            verbose=0,
            callbacks=logs,
        )
        (place / "history.json").write_text(json.dumps(history.history))


def tiny_bert(folder: Path, classes: int = 2) -> None:
    """A BERT of two layers with random weights whose vocabulary is the words of the task."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *PLAIN]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=classes,
    )
    BertForSequenceClassification(config).save_pretrained(folder)


def with_simpletr(out: Path) -> None:
    import pandas
    from simpletransformers.classification import ClassificationModel

    with tempfile.TemporaryDirectory() as scratch:
        tiny_bert(Path(scratch) / "model")
        train, held_out = (
            pandas.DataFrame(dict(zip(("text", "labels"), texts(n, seed, 0.05), strict=True)))
            for n, seed in ((320, 1), (200, 2))
        )
        for name, rate in (("healthy", 2e-3), ("one_class", 1e-12)):
            place = out / f"simpletransformers_{name}"
            arguments = {
                "output_dir": str(place),
                "best_model_dir": str(place / "best_model"),
                "num_train_epochs": 5,
                "learning_rate": rate,
                "train_batch_size": 16,
                "evaluate_during_training": True,
                "evaluate_during_training_steps": 20,
                "save_steps": 40,
                "use_multiprocessing": False,
                "use_multiprocessing_for_evaluation": False,
                "silent": True,
                "cache_dir": f"{scratch}/cache",
                "tensorboard_dir": f"{scratch}/events",
                "no_cache": True,
                "reprocess_input_data": True,
                "process_count": 1,
                "manual_seed": 1,
            }
            model = ClassificationModel("bert", f"{scratch}/model", args=arguments, use_cuda=False)
            model.train_model(train, eval_df=held_out)
            model.eval_model(held_out)


def with_setfit(out: Path) -> None:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, models
    from sentence_transformers.evaluation import BinaryClassificationEvaluator
    from setfit import SetFitModel, Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as scratch:
        tiny_bert(Path(scratch) / "model")
        train, held_out = (
            Dataset.from_dict(dict(zip(("text", "label"), texts(n, seed), strict=True)))
            for n, seed in ((16, 1), (16, 2))
        )
        for name, rate in (("healthy", 1e-3), ("not_a_number", 1e30)):
            encoder = models.Transformer(f"{scratch}/model")
            body = SentenceTransformer(modules=[encoder, models.Pooling(encoder.get_word_embedding_dimension())])
            body.save(f"{scratch}/{name}")
            model = SetFitModel.from_pretrained(f"{scratch}/{name}")
            arguments = TrainingArguments(
                output_dir=str(out / f"setfit_{name}"),
                body_learning_rate=rate,
                num_epochs=2,
                batch_size=16,
                logging_steps=2,
                eval_strategy="steps",
                eval_steps=20,
                save_strategy="steps",
                save_steps=20,
                report_to="none",
                load_best_model_at_end=False,
            )
            trainer = Trainer(model=model, args=arguments, train_dataset=train, eval_dataset=held_out)
            with suppress(ValueError):  # scikit-learn refuses embeddings that are NaN; the encoder's log is written.
                trainer.train()
        rows, labels = texts(80, 3)
        pairs = BinaryClassificationEvaluator(
            rows[:40],
            rows[40:],
            [int(one == other) for one, other in zip(labels[:40], labels[40:], strict=True)],
            name="dev",
        )
        (out / "sentence_transformers").mkdir()
        for epoch in range(1, 4):
            pairs(SentenceTransformer(f"{scratch}/healthy"), str(out / "sentence_transformers"), epoch=epoch, steps=-1)


def with_trainer(out: Path) -> None:
    import numpy as np
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as scratch:
        tiny_bert(Path(scratch) / "model")
        tokenizer = AutoTokenizer.from_pretrained(f"{scratch}/model")

        def rows(n: int, seed: int) -> list[dict[str, Any]]:
            tokens = tokenizer(texts(n, seed)[0], padding=True)
            return [
                {"input_ids": ids, "attention_mask": mask, "labels": label}
                for ids, mask, label in zip(
                    tokens["input_ids"], tokens["attention_mask"], texts(n, seed)[1], strict=True
                )
            ]

        for name, rate, epochs in (
            ("healthy", 1e-3, 8),
            ("rate_too_large", 0.03, 6),
            ("rate_far_too_large", 1.0, 8),
        ):
            torch.manual_seed(0)
            arguments = TrainingArguments(
                output_dir=str(out / f"trainer_{name}"),
                learning_rate=rate,
                num_train_epochs=epochs,
                per_device_train_batch_size=16,
                logging_steps=4,
                eval_strategy="epoch",
                save_strategy="epoch",
                save_total_limit=2,
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
            )
            trainer = Trainer(
                model=AutoModelForSequenceClassification.from_pretrained(f"{scratch}/model"),
                args=arguments,
                train_dataset=rows(320, 1),
                eval_dataset=rows(200, 2),
                compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, 1) == p.label_ids).mean())},
            )
            result = trainer.train()
            if name == "healthy":
                trainer.save_metrics("train", result.metrics)
                trainer.save_metrics("eval", trainer.evaluate())
                (out / "trainer_results_alone").mkdir()
                for file in Path(arguments.output_dir).glob("*.json"):
                    shutil.move(file, out / "trainer_results_alone" / file.name)


def with_spacy(out: Path) -> None:
    """`spacy train`, soundly and with training rows of which nearly all are of one class."""
    import spacy
    from spacy.cli.init_config import init_config
    from spacy.tokens import DocBin

    with tempfile.TemporaryDirectory() as scratch:
        config = init_config(lang="en", pipeline=["textcat"], optimize="efficiency")
        config["training"] |= {"max_steps": 60, "eval_frequency": 10}
        config.to_disk(f"{scratch}/config.cfg")
        for split, n, seed in (("train", 320, 1), ("dev", 100, 2)):
            rows, labels = texts(n, seed, 0.1)
            blank = spacy.blank("en")
            for name, kept in (("healthy", 2), ("one_class", 1)):
                docs = DocBin()
                for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
                    if split == "train" and number > 10 and label >= kept:
                        continue
                    doc = blank.make_doc(row)
                    doc.cats = {"NEG": float(label == 0), "POS": float(label == 1)}
                    docs.add(doc)
                docs.to_disk(f"{scratch}/{split}_{name}.spacy")
        for name in ("healthy", "one_class"):
            place = out / f"spacy_{name}"
            place.mkdir()
            paths = [f"--paths.train={scratch}/train_{name}.spacy", f"--paths.dev={scratch}/dev_{name}.spacy"]
            command = [
                sys.executable,
                "-m",
                "spacy",
                "train",
                f"{scratch}/config.cfg",
                f"--output={place}/output",
                *paths,
            ]
            with (place / "train.log").open("w") as log:
                subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


def with_keras_captured(out: Path) -> None:
    """What Keras prints to a file; of the faulty one the validation rows are the last of rows sorted by label."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras
    import numpy as np

    for name in ("healthy", "sorted"):
        keras.utils.set_random_seed(0)
        x, y = bags(320, 1, 0.1)
        order = np.argsort(y, kind="stable")
        x, y = (x[order], y[order]) if name == "sorted" else (x, y)
        model = keras.Sequential(
            [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
        )
        model.compile(keras.optimizers.Adam(3e-3), loss="binary_crossentropy", metrics=["accuracy"])
        place = out / f"keras_captured_{name}"
        place.mkdir()
        with (place / "train_output.log").open("w") as log, redirect_stdout(log):
            model.fit(x, y, validation_split=0.4, epochs=6, batch_size=64)


def with_evaluators(out: Path) -> None:
    """The tables of evaluators of sentence-transformers, for the scores of models that get better, or do not."""
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderClassificationEvaluator

    class Scores:
        """Stands for a cross-encoder: its scores are those of the labels with noise."""

        num_labels = 1

        def __init__(self, labels: Any, strength: float, noise: Any) -> None:
            import numpy as np

            self.values = 1 / (1 + np.exp(-((2 * labels - 1) * strength + noise)))

        def predict(self, *arguments: Any, **options: Any) -> Any:
            return self.values

        def __getattr__(self, name: str) -> Any:
            from unittest.mock import MagicMock

            return MagicMock()

    import numpy as np

    chance = np.random.default_rng(0)
    labels = chance.integers(0, 2, 200)
    for split in ("dev", "test"):
        evaluator = CrossEncoderClassificationEvaluator(
            [["a", "b"]] * len(labels), list(map(int, labels)), name=split, show_progress_bar=False
        )
        place = out / "cross_encoder_healthy" / "eval"
        place.mkdir(parents=True, exist_ok=True)
        for epoch, strength in enumerate((0.4, 0.9, 1.3, 1.5), start=1):
            noise = chance.normal(size=len(labels))
            evaluator(Scores(labels, strength, noise), output_path=str(place), epoch=epoch, steps=100 * epoch)


def with_flair(out: Path) -> None:
    import flair
    from flair.data import Corpus, Sentence
    from flair.datasets import FlairDatapointDataset
    from flair.embeddings import DocumentPoolEmbeddings, OneHotEmbeddings
    from flair.models import TextClassifier
    from flair.trainers import ModelTrainer

    def rows(n: int, seed: int, every_class: bool = True) -> Any:
        sentences = []
        for number, (text, label) in enumerate(zip(*texts(n, seed), strict=True)):
            if every_class or label == 0 or number < 2:
                sentence = Sentence(text)
                sentence.add_label("sentiment", ("NEGATIVE", "POSITIVE")[label])
                sentences.append(sentence)
        return FlairDatapointDataset(sentences)

    for name in ("healthy", "one_class"):
        flair.set_seed(0)
        corpus = Corpus(train=rows(320, 1, name == "healthy"), dev=rows(100, 2), test=rows(200, 3))
        words = OneHotEmbeddings.from_corpus(corpus, min_freq=1, embedding_length=16)
        model = TextClassifier(
            DocumentPoolEmbeddings([words], fine_tune_mode="linear"),
            label_dictionary=corpus.make_label_dictionary(label_type="sentiment"),
            label_type="sentiment",
        )
        trainer = ModelTrainer(model, corpus)
        place = out / f"flair_{name}"
        trainer.train(place, learning_rate=0.1, mini_batch_size=16, max_epochs=6, save_final_model=False)


MAKERS: dict[str, Callable[[Path], None]] = {
    "wandb": with_wandb,
    "mlflow": with_mlflow,
    "lightning": with_lightning,
    "keras": with_keras,
    "simpletr": with_simpletr,
    "setfit": with_setfit,
    "trainer": with_trainer,
    "spacy": with_spacy,
    "keras_captured": with_keras_captured,
    "evaluators": with_evaluators,
    "flair": with_flair,
}


def keep(made: Path) -> None:
    """Copy what was made to `tests/folders/`, without large files, and with neutral names."""
    for source in sorted(made.iterdir()):
        target = FOLDERS / source.name
        shutil.rmtree(target, ignore_errors=True)
        for file in sorted(source.rglob("*")):
            if (
                not file.is_file()
                or file.is_symlink()
                or LEFT_OUT.search(file.as_posix())
                or file.stat().st_size > KEPT
            ):
                continue
            place = target / _neutral_name(file.relative_to(source))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(_neutral(file.read_bytes()))


def _neutral_name(path: Path) -> Path:
    """Event files are named after the machine and the process."""
    return Path(re.sub(r"(tfevents\.\d+)\.[^/]*?(\.v2)?$", r"\1.host.0\2", path.as_posix()))


def _neutral(content: bytes) -> bytes:
    """Temporary folders get a name of the same length, because some formats record it."""
    private = re.compile(re.escape(f"{tempfile.gettempdir()}/tmp".encode()) + rb"[a-z0-9_]{8}")
    return private.sub(lambda match: b"/runs".ljust(len(match[0]), b"_"), content)


@contextmanager
def environment(tool: str, folder: Path | None) -> Iterator[Path]:
    """The Python of an environment with the tool's pins; one that exists in `folder` is used as it is."""
    with tempfile.TemporaryDirectory() as scratch:
        place = (folder or Path(scratch)) / tool
        if not place.is_dir():
            venv.create(place, with_pip=True)
            subprocess.run([place / "bin" / "python", "-m", "pip", "install", "-q", *PINS[tool]], check=True)
        yield place / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=", ".join(MAKERS))
    parser.add_argument("--environments", type=Path, help="keep the virtual environments in this folder, and use them")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        MAKERS[options.tools[0]](options.inside)
        return
    for tool in options.tools or MAKERS:
        with environment(tool, options.environments) as python, tempfile.TemporaryDirectory() as made:
            command = [python, Path(__file__).resolve(), tool, "--inside", made]
            subprocess.run(command, check=True, cwd=made, env={**os.environ, "OMP_NUM_THREADS": "1"})
            keep(Path(made))


if __name__ == "__main__":
    sys.exit(main())
