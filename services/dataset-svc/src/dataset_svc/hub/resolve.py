"""From a repository, subset and revision to a commit and the files of each split.

``datasets`` itself finds them. What it found is kept beside the cached files, so that the same can be read
when the hub is out of reach.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from datasets import get_dataset_config_names, load_dataset_builder
from datasets.builder import DatasetBuilder
from huggingface_hub import HfApi, constants

from dataset_svc.hub.failures import Refused
from dataset_svc.hub.protocol import HubTask

READABLE = ("parquet", "arrow", "json", "csv", "text")
"""Readers of the library whose files are rows. Others hold media, or run code."""

_NOT_OPTIONS = {"name", "version", "data_dir", "data_files", "description", "features"}
_SHOWN_NAMES = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Resolution:
    """Where the rows are.

    Attributes:
        repo_id: the repository's name by the hub.
        commit: its commit.
        reader: the reader of ``datasets`` for these files, one of ``READABLE``.
        options: options of the reader that the repository sets (a separator).
        features: the declared features, as ``Features.to_dict`` gives them; ``None`` if none are declared.
        files: by split, paths inside the repository.
        rows: by split, rows that the repository declares.
        subset: as asked for, or the repository's own default; ``None`` where it declares no subsets.
    """

    repo_id: str
    commit: str
    reader: str
    options: dict[str, Any]
    features: dict[str, Any] | None
    files: dict[str, list[str]]
    rows: dict[str, int]
    subset: str | None = None


def resolve(task: HubTask) -> Resolution:
    """Ask the hub, or, when it may not be asked, what it said last time.

    Raises:
        Refused: there is no such subset, the repository wants to run code, or holds no text.
        Exception: what the libraries raise of repositories, revisions and the network.
    """
    if constants.is_offline_mode():
        return _remembered(task)
    found = _ask(task)
    for revision in {task.revision, found.commit}:
        for repo_id in {task.repo_id, found.repo_id}:
            _remember(found, _place(repo_id, task.subset, revision))
    return found


def _ask(task: HubTask) -> Resolution:
    token = task.token or False
    api = HfApi(token=token)
    info = api.dataset_info(task.repo_id, revision=task.commit or task.revision)
    commit, repo_id = str(info.sha), str(info.id)
    if info.gated:
        api.auth_check(repo_id, repo_type="dataset")
    script = f"{repo_id.rpartition('/')[2]}.py"
    if any(sibling.rfilename == script for sibling in info.siblings or ()):
        raise Refused(
            "loader-script",
            f"dataset scripts are not supported: {repo_id} is loaded by running {script}; choose a revision "
            "with data files, where there is one (refs/convert/parquet)",
        )
    builder = _builder(task, repo_id, commit)
    features = builder.info.features
    return Resolution(
        repo_id=repo_id,
        commit=commit,
        reader=_reader(builder, repo_id),
        options=_options(builder),
        features=None if features is None else features.to_dict(),
        files={
            str(split): [_inside(str(url), f"hf://datasets/{repo_id}@{commit}/") for url in urls]
            for split, urls in (builder.config.data_files or {}).items()
        },
        rows={str(name): split.num_examples for name, split in (builder.info.splits or {}).items()},
        subset=task.subset or _declared_default(builder),
    )


def _builder(task: HubTask, repo_id: str, commit: str) -> DatasetBuilder:
    token = task.token or False
    try:
        return load_dataset_builder(repo_id, name=task.subset, revision=commit, token=token)
    except ValueError as error:
        # Asked only now: it costs as many requests as the builder itself.
        names = get_dataset_config_names(repo_id, revision=commit, token=token)
        if task.subset is None and len(names) > 1:
            message = f"{repo_id} has several subsets; name one of them: {_shown(names)}"
            raise Refused("subset-needed", message, hints=names) from error
        if task.subset is not None and task.subset not in names:
            message = f"{repo_id} has no subset {task.subset!r}; there are: {_shown(names)}"
            raise Refused("unknown-subset", message, hints=names) from error
        raise


def _reader(builder: DatasetBuilder, repo_id: str) -> str:
    reader = type(builder).__module__.rpartition(".")[2]
    if reader not in READABLE:
        raise Refused(
            "unsupported-format",
            f"the files of {repo_id} are of the kind {reader!r}, which holds no rows of text; choose a "
            f"repository with files of one of these kinds: {', '.join(READABLE)}",
            hints=READABLE,
        )
    return reader


def _options(builder: DatasetBuilder) -> dict[str, Any]:
    """Options of the reader that differ from its defaults and are plain values."""
    default = type(builder.config)()
    return {
        field.name: value
        for field in dataclasses.fields(builder.config)
        if field.name not in _NOT_OPTIONS
        and isinstance(value := getattr(builder.config, field.name), str | int | float | bool | list)
        and value != getattr(default, field.name)
    }


def _declared_default(builder: DatasetBuilder) -> str | None:
    """The subset that was read without being named; "default" is what the library calls having none."""
    name = str(builder.config.name)
    return name if name in builder.builder_configs and name != "default" else None


def _inside(url: str, repository: str) -> str:
    if not url.startswith(repository):
        raise Refused("unsupported-source", f"the repository takes a file from elsewhere: {url}")
    return url.removeprefix(repository)


def _shown(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")


def _place(repo_id: str, subset: str | None, revision: str) -> Path:
    key = hashlib.sha256(json.dumps([repo_id, subset, revision]).encode()).hexdigest()
    return Path(constants.HF_HOME) / "assay" / f"{key}.json"


def _remember(resolution: Resolution, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=place.parent)
    with os.fdopen(descriptor, "w") as file:
        json.dump(dataclasses.asdict(resolution), file)
    os.replace(partial, place)


def _remembered(task: HubTask) -> Resolution:
    place = _place(task.repo_id, task.subset, task.commit or task.revision)
    try:
        return Resolution(**json.loads(place.read_text()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise Refused(
            "not-cached",
            f"HF_HUB_OFFLINE is set and {task.repo_id} (subset {task.subset or 'default'}, revision "
            f"{task.revision}) is not in the cache; ingest it once with the hub in reach",
        ) from error
