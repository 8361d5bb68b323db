"""The LMCache serde inside the real LMCache package, without a GPU: its processor, its file-system tier."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codeckit

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow  # importing LMCache takes seconds

LAYERS, TOKENS, HEADS, WIDTH = 4, 256, 2, 32


@pytest.fixture(autouse=True)
def lmcache() -> None:
    """The real package; imported here and not above, so that collecting the tests stays fast."""
    pytest.importorskip(
        "lmcache.v1.distributed.serde",
        reason="LMCache is not installed: pip install --no-deps -r tests/kv_serving/lmcache-requirements.txt",
        exc_type=ImportError,
    )


def memory_object(tensor: Any) -> Any:
    """An LMCache object around ``tensor``."""
    from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj

    flat = tensor.contiguous().view(torch.uint8).flatten()
    metadata = MemoryObjMetadata(
        shape=tensor.shape,
        dtype=tensor.dtype,
        address=0,
        phy_size=flat.numel(),
        ref_count=1,
        fmt=MemoryFormat.KV_2LTD,
        shapes=[tensor.shape],
        dtypes=[tensor.dtype],
    )
    return TensorMemoryObj(flat, metadata, None)


def key(number: int = 0) -> Any:
    from lmcache.v1.distributed.api import ObjectKey

    return ObjectKey(chunk_hash=bytes([number] * 16), model_name="test/model", kv_rank=0)


@pytest.fixture
def chunk() -> Any:
    """A chunk of 256 tokens as LMCache has it, bf16 [2, layers, tokens, heads * width]."""
    random = np.random.default_rng(3)
    steps = np.cumsum(random.normal(size=(2, LAYERS, TOKENS, HEADS * WIDTH)) * 0.1, axis=2)
    return torch.from_numpy(steps + random.normal(size=(2, LAYERS, 1, HEADS * WIDTH))).to(torch.bfloat16)


@pytest.fixture
def processor(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = create(**getattr(request, "param", {}))
    yield made
    made.close()


def create(**settings: object) -> Any:
    from lmcache.v1.distributed.serde import SerdeConfig, create_serde_processor

    from codeckit.integrations import lmcache_serde

    lmcache_serde.register()
    lmcache_serde.register()  # does no harm
    return create_serde_processor(SerdeConfig(type="codeckit", kwargs={"head_dim": WIDTH, "threads": 1, **settings}))


def finished(query: Any, descriptor: int, task: int) -> bool:
    """Wait on the event descriptor, as LMCache's controllers do."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        select.select([descriptor], [], [], 0.2)
        result = query(task)
        if result is not None:
            return bool(result)
    pytest.fail("no result within 60 s")


def round_trip(processor: Any, chunk: Any) -> tuple[Any, Any]:
    """The stored object and the chunk that comes back."""
    from lmcache.v1.distributed.api import MemoryLayoutDesc
    from lmcache.v1.distributed.serde import serialized_layout_desc

    layout = serialized_layout_desc(MemoryLayoutDesc(shapes=[chunk.shape], dtypes=[chunk.dtype]), processor)
    stored = memory_object(torch.full(layout.shapes[0], 255, dtype=torch.uint8))
    task = processor.submit_serialize([memory_object(chunk)], [stored], [key()])
    assert finished(processor.query_serialize_result, processor.get_serialize_event_fd(), task)
    back = memory_object(torch.zeros_like(chunk))
    task = processor.submit_deserialize([stored], [back], [key()])
    assert finished(processor.query_deserialize_result, processor.get_deserialize_event_fd(), task)
    return stored, back.tensor


def relative_error(found: Any, wanted: Any) -> float:
    difference = (found.float() - wanted.float()).square().mean() / wanted.float().square().mean()
    return float(difference.sqrt())


@pytest.mark.parametrize("processor", [{"codec": "kv-lossless"}], indirect=True)
def test_exact_coding_gives_the_same_bits(processor: Any, chunk: Any) -> None:
    stored, back = round_trip(processor, chunk)
    assert torch.equal(back.view(torch.int16), chunk.view(torch.int16))
    assert stored.get_size() < 0.85 * chunk.nbytes + 20_000


@pytest.mark.parametrize(
    "processor", [{}, {"rope_theta": 10_000.0}, {"quality": 54}], indirect=True, ids=["plain", "rope", "coarser"]
)
def test_lossy_coding_is_close_and_fills_its_budget_exactly(processor: Any, chunk: Any) -> None:
    stored, back = round_trip(processor, chunk)
    assert relative_error(back, chunk) < 0.1
    assert stored.get_size() < 0.4 * chunk.nbytes + 20_000


@pytest.mark.parametrize("processor", [{"pad": False, "quality": 40}], indirect=True)
def test_without_padding_an_object_has_the_size_of_its_file(processor: Any, chunk: Any) -> None:
    stored, back = round_trip(processor, chunk)
    size = int.from_bytes(bytes(stored.byte_array[:8]), "little")
    assert stored.get_size() == 8 + size
    assert stored.get_size() < 0.2 * chunk.nbytes + 20_000
    assert relative_error(back, chunk) < 0.5


@pytest.mark.parametrize("processor", [{"budget": 0.12, "quality": 100}], indirect=True)
def test_a_chunk_that_exceeds_its_budget_is_coded_more_coarsely(processor: Any, chunk: Any) -> None:
    stored, back = round_trip(processor, chunk)
    assert stored.get_size() <= 0.12 * chunk.nbytes + 10_000
    assert relative_error(back, chunk) < 0.5


def test_a_chunk_that_fits_at_no_quality_fails_and_is_not_stored_wrongly() -> None:
    random = torch.from_numpy(np.random.default_rng(0).integers(0, 1 << 15, (2, 2, 64, 64), np.int16))
    noise = random.view(torch.bfloat16)
    made = create(codec="kv-lossless", budget=0.3)
    stored = memory_object(torch.zeros(20_000, dtype=torch.uint8))
    task = made.submit_serialize([memory_object(noise)], [stored], [key()])
    assert not finished(made.query_serialize_result, made.get_serialize_event_fd(), task)
    made.close()


@pytest.mark.parametrize("place", [0, 9, 500, 4000])
@pytest.mark.parametrize("processor", [{"codec": "kv-lossless"}], indirect=True)
def test_a_damaged_object_fails_and_never_gives_a_wrong_chunk(processor: Any, chunk: Any, place: int) -> None:
    stored, _ = round_trip(processor, chunk)
    stored.raw_data[place] ^= 0x55
    task = processor.submit_deserialize([stored], [memory_object(torch.zeros_like(chunk))], [key()])
    assert not finished(processor.query_deserialize_result, processor.get_deserialize_event_fd(), task)


@pytest.mark.parametrize("processor", [{"codec": "kv-lossless"}], indirect=True)
def test_an_object_of_another_shape_or_type_is_refused(processor: Any, chunk: Any) -> None:
    stored, _ = round_trip(processor, chunk)
    for other in (chunk[:, :3].contiguous(), chunk[:, :, :100].contiguous(), chunk.to(torch.float16)):
        task = processor.submit_deserialize([stored], [memory_object(torch.zeros_like(other))], [key()])
        assert not finished(processor.query_deserialize_result, processor.get_deserialize_event_fd(), task)


@pytest.mark.parametrize("processor", [{"head_dim": None, "latent_width": 48, "codec": "kv-lossless"}], indirect=True)
def test_latent_attention_is_split_into_latent_and_rotary_key(processor: Any, chunk: Any) -> None:
    latents = chunk[:1].contiguous()
    _, back = round_trip(processor, latents)
    assert torch.equal(back.view(torch.int16), latents.view(torch.int16))


@pytest.mark.parametrize(
    "settings",
    [{"qualty": 60}, {"quality": 1000}, {"head_dim": 0}, {"budget": 9}, {"max_workers": "two"}, {"codec": "nosuch"}],
)
def test_unknown_or_impossible_settings_are_refused_when_the_serde_is_made(settings: dict[str, object]) -> None:
    with pytest.raises(codeckit.CodecError):
        create(**settings)


def test_chunks_go_through_the_file_system_tier_and_back(chunk: Any, tmp_path: Path) -> None:
    """LMCache's own wrapper and adapter: serialise, write files, read them, deserialise."""
    from lmcache.v1.distributed.config import L1ManagerConfig, L1MemoryManagerConfig
    from lmcache.v1.distributed.l1_manager import L1Manager
    from lmcache.v1.distributed.l2_adapters.fs_l2_adapter import FSL2Adapter, FSL2AdapterConfig
    from lmcache.v1.distributed.l2_adapters.serde_wrapper import SerdeL2AdapterWrapper

    memory = L1MemoryManagerConfig(size_in_bytes=64 << 20, use_lazy=False)
    manager = L1Manager(L1ManagerConfig(memory_config=memory))
    inner = FSL2Adapter(FSL2AdapterConfig.from_dict({"type": "fs", "base_path": str(tmp_path)}))
    wrapper = SerdeL2AdapterWrapper(inner, create(codec="kv-lossless"), manager)
    try:
        keys = [key(1), key(2)]
        chunks = [chunk, chunk.flip(2).contiguous()]
        task = wrapper.submit_store_task(keys, [memory_object(item) for item in chunks])
        assert wait_for(lambda: wrapper.pop_completed_store_tasks().get(task)).is_successful()
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) == 2
        assert all(path.stat().st_size < 0.85 * chunk.nbytes + 20_000 for path in files)
        back = [memory_object(torch.zeros_like(chunk)) for _ in keys]
        task = wrapper.submit_load_task(keys, back)
        loaded = wait_for(lambda: wrapper.query_load_result(task))
        assert loaded.get_indices_list() == [0, 1]
        for found, wanted in zip(back, chunks, strict=True):
            assert torch.equal(found.tensor.view(torch.int16), wanted.view(torch.int16))
    finally:
        wrapper.close()


def wait_for(query: Any) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        result = query()
        if result is not None:
            return result
        time.sleep(0.01)
    return pytest.fail("no result within 60 s")
