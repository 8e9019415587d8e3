"""The texts that an encoder is adapted to: the training rows, or any file or folder of texts, without labels."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tenor.checks.rules.dat_splits import evaluated_keys
from tenor.checks.rules.shared import text_keys
from tenor.config.schema import Adaptation
from tenor.data.dataset import LabelledText
from tenor.data.sources.row_files import gather
from tenor.data.splits import Splits, present_splits
from tenor.errors import UserError
from tenor.inference.file_inputs import describe_fault, open_input, read_chunks
from tenor.inference.texts import text_fault

SCHEMA = pa.schema([("text", pa.large_string())])
SHOWN_FAULTS = 3


@dataclass(frozen=True, eq=False)
class Corpus:
    """The texts as rows, all of them with label 0, and what was noted when they were read."""

    rows: LabelledText
    origin: str
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the texts, in order."""
        digest = hashlib.sha256()
        for text in self.rows.texts:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return digest.hexdigest()

    def without(self, left_out: np.ndarray, why: str) -> "Corpus":
        """Without the rows at which `left_out` (rows,) is true.

        Raises:
            UserError: no text would remain.
        """
        count = int(left_out.sum())
        if not count:
            return self
        if count == len(self.rows):
            raise UserError(f"{self.origin}: {why} would leave no text. Choose another adaptation.corpus")
        note = f"{count:,} of {len(self.rows):,} texts of {self.origin} were left out: {why}"
        return Corpus(self.rows.select(np.flatnonzero(~left_out)), self.origin, (*self.notes, note))


def read_corpus(settings: Adaptation, splits: Splits) -> Corpus:
    """The configured corpus: the training rows, or the texts of a file or a folder. Rows without a text are left out.

    Raises:
        UserError: a file that cannot be read, has no such column, or has no text.
    """
    if settings.corpus is None:
        return Corpus(splits.train, splits.train.origin)
    path = Path(settings.corpus).expanduser()
    try:
        rows = open_input(path, settings.text_column)
    except UserError as error:
        # The reader's advice is for `tenor predict`.
        message = str(error).replace("--text-column ", "adaptation.text_column=")
        raise UserError(f"adaptation.corpus: {message}") from error
    faults: list[str] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for chunk in read_chunks(rows, settings.text_column):
            good = []
            for at, text in enumerate(chunk.texts):
                fault = chunk.faults.get(at) or text_fault(text)
                if fault is None:
                    good.append(text)
                else:
                    faults.append(describe_fault(rows, chunk, at, fault))
            yield pa.record_batch([pa.array(good, pa.large_string())], SCHEMA)

    table = gather(batches(), SCHEMA)
    shown = "; ".join(faults[:SHOWN_FAULTS]) + ("; …" if len(faults) > SHOWN_FAULTS else "")
    if not table.num_rows:
        why = f": {shown}" if faults else ""
        raise UserError(f"adaptation.corpus: {rows.where} has no text{why}. Choose another file")
    ids = pa.array(map(str, range(1, table.num_rows + 1)), pa.string())
    table = table.append_column("id", ids).append_column("label", pa.array(np.zeros(table.num_rows, np.int64)))
    notes = list(rows.notes)
    if faults:
        notes.append(f"{len(faults):,} rows of {rows.where} were left out: {shown}")
    return Corpus(LabelledText(table, ("text",), rows.where), rows.where, tuple(notes))


def without_evaluated(corpus: Corpus, settings: Adaptation, splits: Splits) -> Corpus:
    """The corpus without the texts of the validation and the test split, where `settings` leave them out.

    They are always left out of the training rows, which may repeat a few; of a corpus of one's own only on request, as
    it may be the wrong file.

    Raises:
        UserError: no text would remain.
    """
    if settings.corpus is not None and settings.evaluated_texts == "refuse":
        return corpus
    keys, known = text_keys(corpus.rows.texts), evaluated_keys(held_out_texts(splits))
    return corpus.without(np.isin(keys, known), "they are texts of the validation or the test split")


def held_out_texts(splits: Splits) -> dict[str, Sequence[str]]:
    """The texts of every split that is not trained on."""
    return {name: rows.texts for name, rows in present_splits(splits).items() if name != "train"}
