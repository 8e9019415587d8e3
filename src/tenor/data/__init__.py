"""Text → token batches: sources, splits, tokenization, batching."""

from typing import Any


def __getattr__(name: str) -> Any:
    # Imported on first use, because importing Arrow is slow.
    if name in ("LabelledText", "SourceData"):
        from tenor.data import dataset

        return getattr(dataset, name)
    if name == "from_dataframe":
        from tenor.data.sources.labels import from_dataframe

        return from_dataframe
    raise AttributeError(f"module 'tenor.data' has no attribute {name!r}")
