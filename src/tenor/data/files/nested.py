"""Columns within columns: `review.text` names the field `text` of the objects in the column `review`.

A column whose own name has a dot comes first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from shlex import quote
from typing import TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tenor.data.files.headers import SHOWN_COLUMNS, USUAL_NAMES, Wanted, obvious
from tenor.data.files.stream import Block, FileRows, Limits

CLASS_FIELDS = frozenset(("label", "value", "name", "class"))
SCORE_FIELDS = frozenset(("score", "probability", "prob", "confidence", "weight", "p"))
"""How sure a label is, in a field next to it; a label if nothing else is there."""
MOST_LEVELS = 4
"""Levels of names that messages list; a name that the user gives may be longer."""


def with_fields(record: dict[str, object], names: Iterable[str]) -> dict[str, object]:
    """A record of JSON with the nested fields that these names mean, as keys of its own."""
    found = {name: value for name in names if name not in record and (value := _field(record, name)) is not None}
    return {**record, **found} if found else record


def _field(record: Mapping[str, object], name: str) -> object:
    """The value that a name with dots means; None if there is none. A list with one object is read as this object;
    of several objects the values are a list."""
    if name in record:
        return record[name]
    for at in (at for at, letter in enumerate(name) if letter == "."):
        inner = record.get(name[:at])
        if _is_record(inner) and (value := _field(inner, name[at + 1 :])) is not None:
            return value
        if isinstance(inner, list):
            values = [value for one in inner if _is_record(one) and (value := _field(one, name[at + 1 :])) is not None]
            if values:
                return values[0] if len(inner) == 1 else values
    return None


def _is_record(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def names_of(record: Mapping[str, object], levels: int = MOST_LEVELS) -> Iterator[str]:
    """The names that can be given for the values of a record: those of its fields in place of an object, also in place
    of a list with one object."""
    for key, value in record.items():
        inner = value[0] if isinstance(value, list) and len(value) == 1 else value
        if _is_record(inner) and inner and levels > 1:
            yield from (f"{key}.{name}" for name in names_of(inner, levels - 1))
        else:
            yield key


def struct_names(field: pa.Field, levels: int = MOST_LEVELS) -> Iterator[str]:
    """The names that can be given for the values of an Arrow column."""
    if not pa.types.is_struct(field.type) or levels == 1:
        yield field.name
        return
    for at in range(field.type.num_fields):
        yield from (f"{field.name}.{name}" for name in struct_names(field.type.field(at), levels - 1))


def available_names(rows: FileRows, required: Iterable[str]) -> list[str]:
    """The columns that can be given, in the file's order: fields in place of structs, unless a struct is required."""
    if rows.schema is None:
        return list(rows.columns or ())
    names = []
    for field in rows.schema:
        if field.name not in rows.added:
            own = {field.name} if not pa.types.is_struct(field.type) else set()
            names += [name for name in struct_names(field) if name in own or name not in rows.schema.names]
    names += rows.added
    return [*names, *(name for name in required if name in rows.schema.names and name not in names)]


def label_fields(names: Sequence[str]) -> list[str]:
    """The fields of a dictionary that may be its class: the only one, or those with a usual name that no score has."""
    last = {name: name.rpartition(".")[2].lower() for name in names}
    own = [name for name in names if last[name] not in SCORE_FIELDS] or list(names)
    return own if len(own) == 1 else [one for one in own if last[one] in CLASS_FIELDS | USUAL_NAMES["label"]]


def advice_on_fields(field: pa.Field, role: str, option: str) -> str:
    """What to set in place of a column of structs, with an option such as `data.text_column={}`; empty for others."""
    if not pa.types.is_struct(field.type):
        return ""
    names = list(struct_names(field))
    likely = label_fields(names) if role == "label" else [obvious(Wanted(role, role, option), names)]
    if len(names) == 1:
        likely = names
    options = " or ".join(option.format(quote(one or "NAME")) for one in likely or [None])
    return f"Its fields: {', '.join(map(repr, names[:SHOWN_COLUMNS]))}. Set {options}."


def with_struct_fields(rows: FileRows, names: Sequence[str]) -> FileRows:
    """The rows of Arrow files with the fields of structs that these names mean, as columns after the file's own."""
    schema = rows.schema
    if schema is None:
        return rows
    paths = {name: path for name in names if name not in schema.names and (path := _path(list(schema), name))}
    if not paths:
        return rows
    added = {name: _type(schema, path) for name, path in paths.items()}
    extended = pa.schema([*schema, *(pa.field(name, kind) for name, kind in added.items())], schema.metadata)

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        stored = None if choose is None else list(dict.fromkeys(paths.get(name, (name,))[0] for name in choose))
        for block in rows.read(limits, stored):
            table = block.table
            for name in paths if choose is None else [name for name in choose if name in paths]:
                table = table.append_column(pa.field(name, added[name]), _values(table, paths[name]))
            yield replace(block, table=table if choose is None else table.select(list(choose)))

    return replace(rows, columns=tuple(extended.names), read=read, schema=extended, added=tuple(paths))


def _of_list(kind: pa.DataType) -> pa.DataType:
    """The type of a list's values; other types unchanged."""
    return kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind


def _path(fields: Sequence[pa.Field], name: str) -> tuple[str, ...]:
    """The names of the column and of the fields within it that a name with dots means; empty if there are none."""
    for field in fields:
        if field.name == name:
            return (name,)
        kind = _of_list(field.type)
        if name.startswith(f"{field.name}.") and pa.types.is_struct(kind):
            inner = [kind.field(at) for at in range(kind.num_fields)]
            if rest := _path(inner, name[len(field.name) + 1 :]):
                return (field.name, *rest)
    return ()


def _type(schema: pa.Schema, path: Sequence[str]) -> pa.DataType:
    return _inner_type(schema.field(path[0]).type, path[1:])


def _inner_type(kind: pa.DataType, path: Sequence[str]) -> pa.DataType:
    if not path:
        return kind
    inner = _of_list(kind)
    found = _inner_type(inner.field(path[0]).type, path[1:])
    return found if inner is kind else pa.list_(found)


def _values(table: pa.Table, path: Sequence[str]) -> pa.ChunkedArray:
    """The values of a field of structs; null where the struct is. Of a list of structs, the list of their values."""
    column = table[path[0]]
    kind = _inner_type(column.type, path[1:])
    return pa.chunked_array([_inner_values(chunk, path[1:]) for chunk in column.chunks], kind)


def _inner_values(values: pa.Array, path: Sequence[str]) -> pa.Array:
    if not path:
        return values
    if pa.types.is_struct(values.type):
        return _inner_values(pc.struct_field(values, path[0]), path[1:])
    # A null becomes an empty list: both have no value.
    lengths = pc.list_value_length(values).fill_null(0).to_numpy()
    ends = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
    return pa.ListArray.from_arrays(ends, _inner_values(values.flatten(), path))
