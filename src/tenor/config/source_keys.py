"""Which source reads which keys of `data`: a key that a source does not read would be ignored in silence."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenor.config.schema import Data

FILES, HUB = ("imdb", "file"), ("hub", "sst2")
READ_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "path": FILES,
        "test_path": ("file",),
        "hub_name": HUB,
        "hub_config": HUB,
        "train_split": HUB,
        "test_split": HUB,
        # The embedded sources hold texts and labels and nothing else. Rows that are given were read elsewhere, and may
        # have groups.
        "text_column": (*FILES, *HUB),
        "label_column": (*FILES, *HUB),
        "id_column": (*FILES, *HUB),
        "group_column": (*FILES, *HUB, "given"),
        "class_names": ("embedded", "rotten_tomatoes", *FILES, *HUB),
    }
)
"""The sources that read a key. Keys that are not here are no matter of the source."""


def unread_keys(data: "Data") -> list[str]:
    """The keys that `data.source` does not read, and that are not at their default."""
    fields = type(data).model_fields
    return [
        name
        for name, sources in READ_BY.items()
        if data.source not in sources and getattr(data, name) != fields[name].default
    ]
