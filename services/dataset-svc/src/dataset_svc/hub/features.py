"""What a column of the Hub's data may be, and how it is stored."""

from collections.abc import Iterator
from typing import Any

import datasets
import pyarrow as pa

from dataset_svc.columns import type_name
from dataset_svc.hub.failures import Refused

_LISTS = (datasets.List, datasets.LargeList)
_ARRAYS = (datasets.Array2D, datasets.Array3D, datasets.Array4D, datasets.Array5D)
_TRANSLATIONS = (datasets.Translation, datasets.TranslationVariableLanguages)
_BYTES = ("binary", "large_binary")


def refuse_unusable(features: datasets.Features, *, repo_id: str) -> None:
    """Refuse columns that hold what no text evaluation can use.

    Raises:
        Refused: with every such column named.
    """
    reasons = [reason for name, feature in features.items() for reason in _reasons(feature, name)]
    if reasons:
        raise Refused(
            "unsupported-column",
            f"{repo_id} cannot be evaluated as text: {'; '.join(reasons)}; choose a subset without such "
            "columns, or upload the columns that you need as JSON Lines",
        )


def _reasons(feature: Any, path: str) -> Iterator[str]:
    if isinstance(feature, dict):
        for name, inner in feature.items():
            yield from _reasons(inner, f"{path}.{name}")
    elif isinstance(feature, list):
        yield from _reasons(feature[0], f"{path}[]")
    elif isinstance(feature, _LISTS):
        yield from _reasons(feature.feature, f"{path}[]")
    elif isinstance(feature, datasets.Value):
        if feature.dtype in _BYTES:
            yield f"column {path!r} holds raw bytes"
    elif not isinstance(feature, (datasets.ClassLabel, *_ARRAYS, *_TRANSLATIONS)):
        kind = type(feature).__name__
        what = "values of different types" if kind == "Json" else f"{kind} data"
        yield f"column {path!r} holds {what}"


def name_of(feature: Any) -> str:
    """The type's name, as ``type_name`` says it, with ``ClassLabel(<number of names>)``."""
    if isinstance(feature, datasets.ClassLabel):
        return f"ClassLabel({feature.num_classes})"
    if isinstance(feature, dict):
        return f"struct<{', '.join(f'{name}: {name_of(inner)}' for name, inner in feature.items())}>"
    if isinstance(feature, _LISTS):
        return f"list<{name_of(feature.feature)}>"
    if isinstance(feature, list):
        return f"list<{name_of(feature[0])}>"
    kind = feature.pa_type if isinstance(feature, datasets.Value) else feature()
    return type_name(storage_type(kind))


def storage_schema(features: datasets.Features) -> pa.Schema:
    """Columns and types of the canonical file; its metadata give the features back to ``datasets``."""
    schema = features.arrow_schema
    return pa.schema(
        [pa.field(field.name, storage_type(field.type)) for field in schema], metadata=schema.metadata
    )


def storage_type(kind: pa.DataType) -> pa.DataType:
    """The type without what Parquet does not tell apart: widths of offsets, lengths of lists, extensions."""
    if isinstance(kind, pa.BaseExtensionType):
        return storage_type(kind.storage_type)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, storage_type(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(storage_type(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


def as_stored(array: pa.Array) -> pa.Array:
    """The values in ``storage_type`` of their type."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return as_stored(array.storage)
    wanted = storage_type(kind)
    if pa.types.is_struct(kind):
        children = [as_stored(child) for child in (array.field(place) for place in range(kind.num_fields))]
        return pa.StructArray.from_arrays(children, fields=list(wanted), mask=array.is_null())
    if pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        array = array.cast(pa.list_(kind.value_type))
    if pa.types.is_list(array.type):
        offsets = pa.array(array.offsets.to_numpy())
        return pa.ListArray.from_arrays(offsets, as_stored(array.values), type=wanted, mask=array.is_null())
    return array if kind == wanted else array.cast(wanted)
