"""``codec train text --set profile=transformer``: the paper's kind of byte model, to compare the shipped one with."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...formats.atomic_file import AtomicFile
from ...formats.errors import CorruptFile, ExternalFailure, InvalidParameter
from ..parameters import make_parameters
from ..protocol import Figure
from ..run_context import RunContext
from .transformer import TransformerSettings, bits_per_token, train_transformer, transformer
from .windows.documents import training_documents

__all__ = ["load_transformer", "train"]

_BYTES = 256
_MOST_HELD_OUT_BYTES = 1 << 17
_FORMAT = "codeckit byte transformer 1"


def train(data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext) -> Mapping[str, Figure]:
    """Train on the text files ``data`` (plain or ``.xz``), the last of which (1 %, at most 128 KiB) is to measure on.

    Books of ``windows/held_out_books.txt`` are left out. The settings are those of :class:`TransformerSettings`. The
    log goes beside the output, as ``OUTPUT.log``.
    """
    from safetensors.torch import save

    chosen = make_parameters(TransformerSettings, {"": {}}, "", settings)
    text = np.concatenate(training_documents(data))
    train_ids, held_out = np.split(text, [len(text) - min(len(text) // 100, _MOST_HELD_OUT_BYTES)])
    if len(held_out) < chosen.context:
        raise InvalidParameter(f"{len(text):,} bytes of text are too few to train on and to measure")
    log = [json.dumps({"bytes": len(train_ids), "held_out_bytes": len(held_out), **dataclasses.asdict(chosen)})]
    start = time.process_time()

    def report(step: int, bits: float) -> None:
        cpu_seconds = round(time.process_time() - start, 1)
        log.append(json.dumps({"step": step, "cpu_seconds": cpu_seconds, "bits_per_byte": round(bits, 4)}))
        context.report("train", step, chosen.steps, bits_per_byte=bits)

    model = train_transformer(train_ids, _BYTES, chosen, report)
    cpu_seconds = time.process_time() - start
    bits = bits_per_token(model, held_out, chosen)
    log.append(json.dumps({"held_out_bits_per_byte": bits}))
    described = {name: str(value) for name, value in dataclasses.asdict(chosen).items()}
    metadata = {**described, "format": _FORMAT, "cpu_seconds": str(round(cpu_seconds))}
    content = save(model.state_dict(), metadata)
    for path, written in (
        (output, content),
        (output.with_name(output.name + ".log"), ("\n".join(log) + "\n").encode()),
    ):
        with AtomicFile(path, overwrite=True) as file:
            file.write(written)
            file.commit()
    parameters = sum(item.numel() for item in model.parameters())
    return {
        "parameters": parameters,
        "model_bytes": len(content),
        "cpu_seconds": cpu_seconds,
        "held_out_bits_per_byte": bits,
    }


def load_transformer(path: Path) -> tuple[Any, TransformerSettings, Mapping[str, str]]:
    """The network in a file that :func:`train` wrote, its settings, and all that the file says of itself.

    Raises:
        ExternalFailure: the file cannot be read.
        CorruptFile: it is not a byte transformer.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise CorruptFile(f"{path}: not a byte transformer of this version")
            names = {field.name for field in dataclasses.fields(TransformerSettings)}
            settings = make_parameters(
                TransformerSettings, {"": {}}, "", {name: value for name, value in metadata.items() if name in names}
            )
            model = transformer(_BYTES, settings)
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except OSError as error:
        raise ExternalFailure(f"cannot read {path}: {error}") from error
    except (SafetensorError, RuntimeError, InvalidParameter) as error:
        raise CorruptFile(f"{path}: not a byte transformer ({error})") from error
    return model, settings, metadata
