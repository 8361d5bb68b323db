"""``codec train windows``: the byte model, the strings of its 16-bit windows, or the refined dictionary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ....formats.atomic_file import AtomicFile
from ....formats.errors import InvalidParameter
from ...parameters import make_parameters
from ...protocol import Figure
from ...run_context import RunContext

__all__ = ["train"]

PROFILES = ("model", "window-strings", "dictionary")


def train(data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext) -> Mapping[str, Figure]:
    """Train on text (profile=model or dictionary), or list a model's windows (profile=window-strings).

    Text files may be ``.xz``; a line ``# Title: ...`` begins a book, and the books of ``held_out_books.txt`` are left
    out. A log of the training goes beside the output, as ``OUTPUT.log``. Nothing is random: the same text and settings
    give the same file.
    """
    rest = dict(settings)
    profile = rest.pop("profile", "model")
    if profile not in PROFILES:
        raise InvalidParameter(f"profile={profile} is not one of {', '.join(PROFILES)}")
    if not data:
        raise InvalidParameter("give the training data: --data PATH ...")
    log: list[str] = [f"profile={profile} {' '.join(f'{key}={value}' for key, value in sorted(rest.items()))}".strip()]

    def report(line: str) -> None:
        log.append(line)
        context.report(line, len(log), None, unit="lines")

    trainers: Mapping[str, Callable[..., bytes]] = {
        "model": _train_model,
        "window-strings": _list_windows,
        "dictionary": _train_dictionary,
    }
    content = trainers[profile](data, rest, report)
    _write(output, content)
    _write(output.with_name(output.name + ".log"), ("\n".join(log) + "\n").encode())
    return {"profile": profile, "size_bytes": len(content)}


def _train_model(data: Sequence[Path], settings: Mapping[str, str], report: Callable[[str], None]) -> bytes:
    from .context_counts import CountSettings
    from .context_pruning import PruneSettings, weight_levels
    from .documents import training_documents
    from .model_file import model_bytes
    from .model_training import ModelSettings, train_model

    counting = _settings_of(CountSettings, settings)
    pruning = _settings_of(PruneSettings, settings)
    rest = {key: value for key, value in settings.items() if key not in _names(CountSettings, PruneSettings)}
    chosen = dataclasses.replace(make_parameters(ModelSettings, {"": {}}, "", rest), counting=counting, pruning=pruning)
    documents = training_documents(data)
    report(f"{len(documents)} documents, {sum(map(len, documents)):,} bytes")
    pruned = train_model(documents, chosen, report)
    metadata = {"trained_on": ", ".join(path.name for path in data)}
    return model_bytes(pruned, weight_levels(), metadata)


def _names(*kinds: type[Any]) -> set[str]:
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


def _settings_of(kind: type[Any], settings: Mapping[str, str]) -> Any:
    return make_parameters(kind, {"": {}}, "", {k: v for k, v in settings.items() if k in _names(kind)})


def _list_windows(data: Sequence[Path], settings: Mapping[str, str], report: Callable[[str], None]) -> bytes:
    from .model_file import load_model
    from .shipped_files import read_file
    from .string_file import dictionary_bytes
    from .window_dictionary import window_dictionary

    if settings or len(data) != 1:
        raise InvalidParameter("profile=window-strings takes one model as --data and no settings")
    content, sha256 = read_file(data[0])
    strings = window_dictionary(load_model(content, sha256, str(data[0])).contexts).strings()[1:]
    report(f"{len(strings):,} windows of model {sha256}")
    return dictionary_bytes(strings, sha256)


def _train_dictionary(data: Sequence[Path], settings: Mapping[str, str], report: Callable[[str], None]) -> bytes:
    from .dictionary_training import DictionarySettings, train_dictionary
    from .documents import development_titles, training_documents
    from .string_file import dictionary_bytes

    chosen = make_parameters(DictionarySettings, {"": {}}, "", settings)
    documents = training_documents(data, development_titles())
    report(f"{len(documents)} documents, {sum(map(len, documents)):,} bytes")
    return dictionary_bytes(train_dictionary(documents, chosen, report))


def _write(path: Path, content: bytes) -> None:
    with AtomicFile(path, overwrite=True) as file:
        file.write(content)
        file.commit()
