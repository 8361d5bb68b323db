"""``codeckit.text``: text as token ids for training language models, exactly reversible.

::

    tokenizer = codeckit.text.WindowTokenizer(bits=16)
    ids = tokenizer.encode("Call me Ishmael.")
    tokenizer.decode(ids)

    tokenizer.write_bin("train.bin", documents)           # uint16, read through a memory map
    ids = tokenizer.open_bin("train.bin")
    dataset.map(tokenizer.column(), batched=True)          # a column ``input_ids``

Importing this module compiles nothing; the first tokens do, once per installation.
"""

from __future__ import annotations

from .codecs.text.windows.tokenizer import TokenColumn, WindowTokenizer

__all__ = ["TokenColumn", "WindowTokenizer"]
