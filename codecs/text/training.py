"""``codec train text``: the n-gram memory and each preset's trained starting states, from a recipe and texts."""

from __future__ import annotations

import hashlib
import json
import lzma
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats.atomic_file import AtomicFile
from ...formats.errors import InvalidParameter
from ..protocol import Figure
from ..run_context import RunContext

__all__ = ["Recipe", "TextSource", "read_recipe", "train"]

_PIECE_BYTES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """One training file: how many of its bytes are used, how often, and for which profile's starting state."""

    name: str
    use_bytes: int
    repeat: int
    held_out_bytes: int
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the model is made from.

    ``memory_lines``: lines of 32 bytes; ``threshold_bits``: what a node must save to be kept; ``count_line_bits``:
    log2 of the lines used while counting; ``document_bytes``: length of the pieces the starting states learn from.
    """

    memory_lines: int
    threshold_bits: float
    count_line_bits: int
    document_bytes: int
    sources: tuple[TextSource, ...]


def read_recipe(path: Path | None = None) -> Recipe:
    """The recipe at ``path``, by default the one the shipped model was made with.

    Raises:
        InvalidParameter: it cannot be read or lacks a field.
    """
    location = path or Path(__file__).with_name("byte_model.toml")
    try:
        values: dict[str, Any] = tomllib.loads(location.read_text(encoding="utf-8"))
        sources = tuple(TextSource(**source) for source in values.pop("sources"))
        return Recipe(sources=sources, **values)
    except (OSError, tomllib.TOMLDecodeError, TypeError, KeyError) as error:
        raise InvalidParameter(f"cannot use the recipe {location}: {error}") from error


def train(data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext) -> Mapping[str, Figure]:
    """Train the byte model of the text codecs, or with ``profile=transformer`` a plain byte transformer to compare.

    For the byte model, ``data`` is the folder with the recipe's files, plain or ``.xz``. The result depends on the
    texts and the recipe alone: nothing is drawn at random, nothing runs in parallel. A log of every step is written
    beside the output.
    """
    rest = dict(settings)
    profile = rest.pop("profile", "memory")
    if profile == "transformer":
        from .transformer_training import train as train_transformer_model

        return train_transformer_model(data, output, rest, context)
    if profile != "memory":
        raise InvalidParameter(f"profile={profile} is not one of memory, transformer")
    return _train_byte_model(data, output, rest, context)


def _train_byte_model(
    data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext
) -> Mapping[str, Figure]:
    from safetensors.numpy import save

    from .memory_training import train_memory
    from .packed_memory import pack_memory
    from .snapshot_training import train_snapshots

    unknown = settings.keys() - {"recipe"}
    if unknown:
        raise InvalidParameter(
            f"no training setting is called {', '.join(sorted(unknown))}; there are profile and recipe"
        )
    recipe = read_recipe(Path(settings["recipe"]) if "recipe" in settings else None)
    texts, held_out = _read_texts(data, recipe)
    log = _Log(output.with_suffix(".log.txt"))
    for source, text in zip(recipe.sources, texts, strict=True):
        log.write(event="source", name=source.name, bytes=len(text), sha256=hashlib.sha256(text.tobytes()).hexdigest())
    everything = np.concatenate(
        [text for source, text in zip(recipe.sources, texts, strict=True) for _ in range(source.repeat)]
    )

    def report(line: str) -> None:
        context.check_cancelled()
        log.write(event="memory", text=line)

    memory = train_memory(
        everything,
        lines=recipe.memory_lines,
        threshold=recipe.threshold_bits,
        count_line_bits=recipe.count_line_bits,
        report=report,
    )
    documents: dict[str, list[bytes]] = {}
    for source, ending in zip(recipe.sources, held_out, strict=True):
        pieces = [ending[at : at + recipe.document_bytes] for at in range(0, len(ending), recipe.document_bytes)]
        documents.setdefault(source.profile, []).extend(pieces)
    tensors = train_snapshots(memory, documents, log.write)
    content = save({**pack_memory(memory), **tensors})
    with AtomicFile(output, overwrite=True) as file:
        file.write(content)
        file.commit()
    sha256 = hashlib.sha256(content).hexdigest()
    log.write(event="model", bytes=len(content), sha256=sha256)
    return {"training_bytes": len(everything), "model_bytes": len(content), "sha256": sha256}


def _read_texts(data: Sequence[Path], recipe: Recipe) -> tuple[list[NDArray[np.uint8]], list[bytes]]:
    """The training part, in pieces spread over each file, and the held-out end of each file."""
    if len(data) != 1:
        raise InvalidParameter("give one folder with the training texts: --data FOLDER")
    texts, held_out = [], []
    for source in recipe.sources:
        content = _read_text(data[0], source.name)
        if len(content) <= source.held_out_bytes:
            raise InvalidParameter(f"{source.name} has {len(content):,} bytes, fewer than are held out")
        body = np.frombuffer(content, np.uint8)[: len(content) - source.held_out_bytes]
        use = min(source.use_bytes, len(body))
        count = max(1, use // _PIECE_BYTES)
        step, size = len(body) // count, use // count
        texts.append(np.concatenate([body[k * step : k * step + size] for k in range(count)]))
        held_out.append(content[len(content) - source.held_out_bytes :])
    return texts, held_out


def _read_text(folder: Path, name: str) -> bytes:
    plain, packed = folder / name, folder / (name + ".xz")
    try:
        return plain.read_bytes() if plain.exists() else lzma.decompress(packed.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise InvalidParameter(f"cannot read {plain} or {packed}: {error}") from error


class _Log:
    """JSON lines with the processor seconds since the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = time.process_time()
        path.write_text("", encoding="utf-8")

    def write(self, **fields: object) -> None:
        row = {"cpu_seconds": round(time.process_time() - self._start, 1), **fields}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
