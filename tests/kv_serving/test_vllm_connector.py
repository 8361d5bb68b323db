"""The vLLM connector against the published interface: its base class is stood in for, pages and requests are real."""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

BLOCK, BLOCKS, HEADS, WIDTH, LAYERS = 16, 12, 2, 32, 3
NAMES = [f"model.layers.{number}.self_attn.attn" for number in range(LAYERS)]


class ConnectorBase(ABC):
    """As ``KVConnectorBase_V1`` of vLLM 0.33 declares itself: what is abstract, and the metadata it keeps."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any) -> None:
        self._connector_metadata: Any = None

    def bind_connector_metadata(self, connector_metadata: Any) -> None:
        self._connector_metadata = connector_metadata

    def _get_connector_metadata(self) -> Any:
        assert self._connector_metadata is not None
        return self._connector_metadata

    @abstractmethod
    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None: ...
    @abstractmethod
    def wait_for_layer_load(self, layer_name: str) -> None: ...
    @abstractmethod
    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None: ...
    @abstractmethod
    def wait_for_save(self) -> None: ...
    @abstractmethod
    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]: ...
    @abstractmethod
    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None: ...
    @abstractmethod
    def build_connector_meta(self, scheduler_output: Any) -> Any: ...


@pytest.fixture
def connector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes connectors over one folder."""
    path = "vllm.distributed.kv_transfer.kv_connector.v1.base"
    steps = path.split(".")
    for count in range(1, len(steps) + 1):
        name = ".".join(steps[:count])
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[path].__dict__.update(KVConnectorBase_V1=ConnectorBase, KVConnectorMetadata=type("Metadata", (), {}))
    monkeypatch.delitem(sys.modules, "codeckit.integrations.vllm_connector", raising=False)
    module = importlib.import_module("codeckit.integrations.vllm_connector")
    made = []

    def make(**extra: object) -> Any:
        settings = {"url": str(tmp_path), "head_dim": WIDTH, "codec": "kv-lossless", **extra}
        config = SimpleNamespace(
            kv_transfer_config=SimpleNamespace(kv_connector_extra_config=settings),
            cache_config=SimpleNamespace(block_size=BLOCK),
            parallel_config=SimpleNamespace(rank=0, world_size=1),
            model_config=SimpleNamespace(model="test/model"),
        )
        made.append(module.CodeckitConnector(config, "both", None))
        return made[-1]

    yield make
    for item in made:
        item.shutdown()
    monkeypatch.delitem(sys.modules, "codeckit.integrations.vllm_connector", raising=False)


def pages(fill: bool, *, channels: int = 2 * WIDTH, heads: int = HEADS) -> dict[str, Any]:
    """bf16 [blocks, heads, block size, channels] for every layer."""
    generator = torch.Generator().manual_seed(3)
    shape = (BLOCKS, heads, BLOCK, channels)
    return {
        name: (torch.randn(shape, generator=generator) if fill else torch.zeros(shape)).to(torch.bfloat16)
        for name in NAMES
    }


def scheduled(token_ids: list[int], block_ids: list[int], *, computed: int = 0, now: int | None = None) -> Any:
    """One new request as the scheduler reports it."""
    request = SimpleNamespace(
        req_id="r", prompt_token_ids=token_ids, block_ids=(block_ids,), num_computed_tokens=computed, mm_features=[]
    )
    return SimpleNamespace(
        scheduled_new_reqs=[request],
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=[], new_block_ids=[], num_computed_tokens=[], resumed_req_ids=set()
        ),
        num_scheduled_tokens={"r": len(token_ids) - computed if now is None else now},
    )


def continued(block_ids: list[int], *, computed: int, now: int) -> Any:
    return SimpleNamespace(
        scheduled_new_reqs=[],
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=["r"], new_block_ids=[(block_ids,)], num_computed_tokens=[computed], resumed_req_ids=set()
        ),
        num_scheduled_tokens={"r": now},
    )


def save(connector: Any, layers: dict[str, Any], *steps: Any) -> None:
    connector.register_kv_caches(layers)
    for step in steps:
        connector.bind_connector_metadata(connector.build_connector_meta(step))
        for name, layer in layers.items():
            connector.save_kv_layer(name, layer, None)
        connector.wait_for_save()
    connector._encoder.submit(lambda: None).result()


def load(connector: Any, layers: dict[str, Any], token_ids: list[int], block_ids: list[int], computed: int = 0) -> int:
    """Load as vLLM does; how many tokens came from outside."""
    request = SimpleNamespace(request_id="r", prompt_token_ids=token_ids, mm_features=[])
    connector.register_kv_caches(layers)
    found, _ = connector.get_num_new_matched_tokens(request, computed)
    connector.update_state_after_alloc(request, None, found)
    step = scheduled(token_ids, block_ids, computed=computed + found)
    connector.bind_connector_metadata(connector.build_connector_meta(step))
    connector.start_load_kv(SimpleNamespace())
    for name in layers:
        connector.wait_for_layer_load(name)
    return int(found)


def by_token(layer: Any, block_ids: list[int], tokens: int) -> Any:
    return layer[block_ids].movedim(1, 2).flatten(0, 1)[:tokens]


PROMPT = list(range(100, 160))  # 60 tokens: 3 whole blocks


def test_a_prompt_saved_from_some_blocks_is_loaded_into_others(connector: Callable[..., Any]) -> None:
    source, target = pages(fill=True), pages(fill=False)
    save(connector(), source, scheduled(PROMPT, [7, 2, 9, 4]))
    reader = connector()
    assert load(reader, target, PROMPT, [0, 5, 1, 3]) == 48
    assert reader.get_block_ids_with_load_errors() == set()
    for name in NAMES:
        assert torch.equal(by_token(target[name], [0, 5, 1], 48), by_token(source[name], [7, 2, 9], 48))
        assert not target[name][[3, 6, 8]].any()


def test_tokens_that_are_computed_already_are_left_alone(connector: Callable[..., Any]) -> None:
    save(connector(), pages(fill=True), scheduled(PROMPT, [7, 2, 9, 4]))
    target = pages(fill=False)
    assert load(connector(), target, PROMPT, [0, 5, 1, 3], computed=16) == 32
    assert not target[NAMES[0]][0].any()
    assert target[NAMES[0]][5].any()


def test_a_prompt_computed_in_several_steps_is_saved_when_it_is_complete(
    connector: Callable[..., Any], tmp_path: Path
) -> None:
    source, target = pages(fill=True), pages(fill=False)
    writer = connector()
    save(writer, source, scheduled(PROMPT, [7, 2], now=32))
    assert not list(tmp_path.glob("*.ck"))
    save(writer, source, continued([9, 4], computed=32, now=28))
    assert load(connector(), target, PROMPT, [0, 5, 1, 3]) == 48
    for name in NAMES:
        assert torch.equal(by_token(target[name], [0, 5, 1], 48), by_token(source[name], [7, 2, 9], 48))


def test_other_prompts_and_short_ones_are_not_found(connector: Callable[..., Any]) -> None:
    save(connector(), pages(fill=True), scheduled(PROMPT, [7, 2, 9, 4]))
    reader = connector()
    for token_ids in ([*PROMPT[:20], 1, *PROMPT[21:]], PROMPT[:16], PROMPT[:1], PROMPT[:40]):
        request = SimpleNamespace(request_id="r", prompt_token_ids=token_ids, mm_features=[])
        assert reader.get_num_new_matched_tokens(request, 0) == (0, False)


def test_a_lossy_codec_brings_back_nearly_the_same(connector: Callable[..., Any]) -> None:
    source, target = pages(fill=True), pages(fill=False)
    extra = {"codec": "kv", "settings": {"quality": 80, "profile": "none"}, "rope_theta": 10_000.0}
    save(connector(**extra), source, scheduled(PROMPT, [7, 2, 9, 4]))
    assert load(connector(**extra), target, PROMPT, [0, 5, 1, 3]) == 48
    for name in NAMES:
        want, found = by_token(source[name], [7, 2, 9], 48).float(), by_token(target[name], [0, 5, 1], 48).float()
        assert ((found - want).norm() / want.norm()) < 0.1


def test_latent_attention_has_one_head_of_latent_and_rotary_key(connector: Callable[..., Any]) -> None:
    source = pages(fill=True, channels=48, heads=1)
    target = pages(fill=False, channels=48, heads=1)
    extra = {"head_dim": None, "latent_width": 32}
    save(connector(**extra), source, scheduled(PROMPT, [7, 2, 9, 4]))
    assert load(connector(**extra), target, PROMPT, [0, 5, 1, 3]) == 48
    assert torch.equal(by_token(target[NAMES[2]], [0, 5, 1], 48), by_token(source[NAMES[2]], [7, 2, 9], 48))


def test_a_damaged_object_is_reported_by_its_blocks(connector: Callable[..., Any], tmp_path: Path) -> None:
    save(connector(), pages(fill=True), scheduled(PROMPT, [7, 2, 9, 4]))
    (path,) = tmp_path.glob("*.ck")
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[len(data) // 2] ^= 1
    path.write_bytes(data.tobytes())
    reader = connector()
    load(reader, pages(fill=False), PROMPT, [0, 5, 1, 3])
    assert reader.get_block_ids_with_load_errors() == {0, 5, 1}
    assert reader.get_block_ids_with_load_errors() == set()


def test_pages_of_another_shape_are_reported_and_not_filled(connector: Callable[..., Any]) -> None:
    save(connector(), pages(fill=True), scheduled(PROMPT, [7, 2, 9, 4]))
    reader, target = connector(), pages(fill=False, heads=4)
    load(reader, target, PROMPT, [0, 5, 1, 3])
    assert reader.get_block_ids_with_load_errors() == {0, 5, 1}
    assert not target[NAMES[0]].any()


def test_a_cache_with_infinities_is_not_stored_and_does_no_harm(
    connector: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = pages(fill=True)
    source[NAMES[1]][2, 0, 3, 4] = float("inf")
    save(connector(codec="kv", settings={"profile": "none"}), source, scheduled(PROMPT, [7, 2, 9, 4]))
    assert not list(tmp_path.glob("*.ck"))
    assert "not stored" in caplog.text
