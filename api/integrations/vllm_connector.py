"""A vLLM connector that keeps the caches of prompts as codeckit files in any object store.

vLLM loads it from its configuration::

    vllm serve MODEL --kv-transfer-config '{
        "kv_connector": "CodeckitConnector", "kv_role": "kv_both",
        "kv_connector_module_path": "codeckit.integrations.vllm_connector",
        "kv_connector_extra_config": {"url": "s3://bucket/caches", "head_dim": 128, "rope_theta": 500000.0}}'

``url`` is for fsspec or Redis; ``codec`` (``kv``), ``latent_width`` (for latent attention), ``rope_theta``,
``rope_style`` are as in :mod:`codeckit.integrations.engine_tensors`; ``settings`` go to the codec.

The cache of a prompt, cut to whole blocks, is one file of all layers in order. While it arrives each layer is put into
vLLM's pages as soon as it is decoded, and the forward pass waits for one layer at a time. Layers are copied out of the
pages during the forward pass and encoded in a thread afterwards. Blocks whose load failed are reported to vLLM, which
computes them. Written against ``KVConnectorBase_V1`` and the page layout [blocks, heads, block size, channels] of vLLM
0.33.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata

from ..encoding import encode
from ..formats.errors import CodecError, CorruptFile
from ..formats.object_store import open_store
from ..kv_stream import stream
from .engine_tensors import EngineLayout, cache_from_groups
from .paged_layers import gather, scatter

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CodeckitConnector", "PromptMetadata", "PromptTransfer"]

_LOGGER = logging.getLogger(__name__)
_WHOLE = 1 << 20
_MAX_WAITING_SAVES = 2


@dataclass(frozen=True)
class PromptTransfer:
    """One prompt to load or to save: the stem of its objects, its blocks, its tokens from ``first`` to ``stop``."""

    name: str
    block_ids: tuple[int, ...]
    first: int
    stop: int
    is_save: bool


@dataclass
class _Growing:
    """A prompt that is being computed, perhaps in several steps; saved once all of ``tokens`` are there."""

    name: str
    tokens: int
    block_ids: list[int]


@dataclass
class PromptMetadata(KVConnectorMetadata):  # type: ignore[misc]
    """What the scheduler tells the workers for one step."""

    transfers: list[PromptTransfer] = field(default_factory=list)


class CodeckitConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """See the module's text; one object in the scheduler and one in every worker."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        extra = vllm_config.kv_transfer_config.kv_connector_extra_config
        self._layout = EngineLayout.from_settings(extra)
        self._codec = str(extra.get("codec", "kv"))
        self._settings = {"chunk_tokens": _WHOLE, **extra.get("settings", {})}
        self._store = open_store(str(extra["url"]))
        self._block_size = int(vllm_config.cache_config.block_size)
        self._rank = int(vllm_config.parallel_config.rank)
        self._ranks = int(vllm_config.parallel_config.world_size)
        self._model = str(vllm_config.model_config.model)
        self._layers: dict[str, Any] = {}
        self._loads: list[_Load] = []
        self._failed_blocks: set[int] = set()
        self._saving: dict[str, list[Any]] = {}
        self._encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="codeckit-save")
        self._saves: list[Future[None]] = []
        self._to_load: dict[str, int] = {}
        self._growing: dict[str, _Growing] = {}

    # workers

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        """The pages of every layer, in the order of the layers."""
        self._layers = dict(kv_caches)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Begin to fetch and decode every prompt of this step that is to be loaded."""
        self._loads = [
            _Load(self, transfer) for transfer in self._get_connector_metadata().transfers if not transfer.is_save
        ]

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Wait until ``layer_name`` is in the pages of every prompt being loaded, or its load has failed."""
        number = list(self._layers).index(layer_name)
        for load in self._loads:
            load.wait(number)

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        """Copy the tokens of every prompt to be saved out of the pages of one layer."""
        for transfer in self._get_connector_metadata().transfers:
            if transfer.is_save:
                rows = gather(
                    kv_layer, transfer.block_ids, 0, transfer.stop, latent=self._layout.latent_width is not None
                )
                self._saving.setdefault(transfer.name, []).append(rows.cpu())

    def wait_for_save(self) -> None:
        """The pages may be overwritten: everything was copied. Encoding goes on in a thread."""
        for name, rows in self._saving.items():
            self._saves.append(self._encoder.submit(self._save, name, rows))
        self._saving = {}
        while len(self._saves) > _MAX_WAITING_SAVES:
            self._saves.pop(0).result()  # or ever more copies would wait in memory

    def get_block_ids_with_load_errors(self) -> set[int]:
        """The blocks of prompts that could not be loaded; vLLM computes them."""
        for load in self._loads:
            load.finish()
            if load.failure is not None:
                self._failed_blocks.update(load.transfer.block_ids)
        self._loads = []
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    def shutdown(self) -> None:
        """Finish what is being saved and give connections back."""
        self._encoder.shutdown(wait=True)
        self._store.close()

    # the scheduler

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        """How many tokens beyond the computed ones can be loaded."""
        tokens = self._whole_blocks(request.prompt_token_ids)
        if tokens <= num_computed_tokens:
            return 0, False
        names = [self._name(request, tokens, rank) for rank in range(self._ranks)]
        if not all(self._store.exists(name) for name in names):
            return 0, False
        return tokens - num_computed_tokens, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Blocks are there for ``num_external_tokens`` that were promised."""
        if num_external_tokens > 0:
            tokens = self._whole_blocks(request.prompt_token_ids)
            self._to_load[request.request_id] = tokens - num_external_tokens

    def build_connector_meta(self, scheduler_output: Any) -> PromptMetadata:
        """What the workers shall load and save in this step."""
        metadata = PromptMetadata()
        for request in scheduler_output.scheduled_new_reqs:
            tokens = self._whole_blocks(request.prompt_token_ids)
            if tokens == 0:
                continue
            prompt = _Growing(self._name(request, tokens, None), tokens, list(request.block_ids[0]))
            if request.req_id not in self._to_load and self._store.exists(self._name(request, tokens, 0)):
                continue
            self._growing[request.req_id] = prompt
            self._step(request.req_id, request.num_computed_tokens, scheduler_output, metadata)
        cached = scheduler_output.scheduled_cached_reqs
        for place, request_id in enumerate(cached.req_ids):
            growing = self._growing.get(request_id)
            if growing is None:
                continue
            blocks = cached.new_block_ids[place]
            if request_id in cached.resumed_req_ids:
                growing.block_ids.clear()  # after a preemption all blocks are new
            growing.block_ids.extend(blocks[0] if blocks else ())
            self._step(request_id, cached.num_computed_tokens[place], scheduler_output, metadata)
        return metadata

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Forget the request; its blocks need not be kept."""
        self._growing.pop(request.request_id, None)
        self._to_load.pop(request.request_id, None)
        return False, None

    def _step(self, request_id: str, computed: int, scheduler_output: Any, metadata: PromptMetadata) -> None:
        """Load the prompt in this step, or save it if this step completes it."""
        prompt = self._growing[request_id]
        blocks = tuple(prompt.block_ids[: prompt.tokens // self._block_size])
        first = self._to_load.pop(request_id, None)
        complete = computed + scheduler_output.num_scheduled_tokens[request_id] >= prompt.tokens
        if first is None and not complete:
            return
        del self._growing[request_id]
        metadata.transfers.append(
            PromptTransfer(
                name=prompt.name, block_ids=blocks, first=first or 0, stop=prompt.tokens, is_save=first is None
            )
        )

    def _whole_blocks(self, token_ids: Sequence[int] | None) -> int:
        """Tokens in whole blocks, leaving at least one to compute."""
        return max(len(token_ids or []) - 1, 0) // self._block_size * self._block_size

    def _name(self, request: Any, tokens: int, rank: int | None) -> str:
        """The object of one rank; without a rank, the stem of all of them."""
        text = [self._model, str(self._ranks), *(str(token) for token in request.prompt_token_ids[:tokens])]
        text += [str(feature.identifier) for feature in getattr(request, "mm_features", None) or []]
        stem = hashlib.sha256("\n".join(text).encode()).hexdigest()
        return stem if rank is None else f"{stem}.{rank}.ck"

    def _save(self, name: str, rows: list[Any]) -> None:
        groups = [row[:, None] for row in rows]  # [planes, 1 layer, tokens, width]
        try:
            cache = cache_from_groups(groups, self._layout)
            self._store.put(f"{name}.{self._rank}.ck", encode(cache, codec=self._codec, settings=self._settings))
        except CodecError as error:
            # a cache that is not stored costs a computation later, not the request
            _LOGGER.warning("the cache of a prompt was not stored: %s", error)


class _Load:
    """One prompt arriving: a thread that decodes into the pages."""

    def __init__(self, connector: CodeckitConnector, transfer: PromptTransfer) -> None:
        self.transfer = transfer
        self.failure: BaseException | None = None
        self._connector = connector
        self._ready = [threading.Event() for _ in connector._layers]
        self._thread = threading.Thread(target=self._run, name="codeckit-load", daemon=True)
        self._thread.start()

    def wait(self, layer: int) -> None:
        self._ready[layer].wait()

    def finish(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            self._fill()
        except Exception as error:
            self.failure = error
        finally:
            for event in self._ready:
                event.set()

    def _fill(self) -> None:
        connector, transfer = self._connector, self.transfer
        pages = list(connector._layers.values())
        opened = connector._store.open(f"{transfer.name}.{connector._rank}.ck")
        with stream(opened) as layers:
            layers.cache.require_all_tokens(transfer.name)
            table = layers.cache.table
            if len(table.layers) != len(pages) or table.tokens != transfer.stop:
                raise CorruptFile(f"{transfer.name} holds another cache than the one to load")
            for piece in layers:
                scatter(pages[piece.layer], transfer.block_ids, piece, transfer.first)
                if piece.stop == transfer.stop:
                    self._ready[piece.layer].set()
