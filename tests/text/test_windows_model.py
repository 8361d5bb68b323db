"""The byte model, the division of intervals and the dictionaries agree with their definitions and with one another."""

from __future__ import annotations

import hashlib
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codeckit
from codeckit.codecs.run_context import RunContext
from codeckit.codecs.text.windows.context_model import ContextModel, frequencies
from codeckit.codecs.text.windows.documents import held_out_titles, read_documents
from codeckit.codecs.text.windows.interval import allocate
from codeckit.codecs.text.windows.model_file import load_model
from codeckit.codecs.text.windows.shipped_files import (
    dictionary_path,
    model_path,
    read_file,
    window_strings_path,
)
from codeckit.codecs.text.windows.string_file import dictionary_bytes, load_dictionary, parse_dictionary
from codeckit.codecs.text.windows.string_trie import parse_fewest, parse_longest
from codeckit.codecs.text.windows.training import train
from codeckit.codecs.text.windows.window_coding import WindowRule, cut_into_windows, decode_windows, encode_windows
from codeckit.codecs.text.windows.window_dictionary import window_dictionary
from codeckit.formats.errors import CorruptFile, ExternalFailure, InvalidParameter

GOLDEN = Path(__file__).parent / "golden"
TEXT = (GOLDEN / "windows.txt").read_bytes()


@pytest.fixture(scope="module")
def model() -> ContextModel:
    content, digest = read_file(model_path())
    return load_model(content, digest, "model").contexts


def frequency_tables(seed: int) -> np.ndarray:
    weights = np.random.default_rng(seed).pareto(0.7, 256)
    table = 1 + (weights / weights.sum() * (65536 - 256)).astype(np.int64)
    table[int(table.argmax())] += 65536 - table.sum()
    return table


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30), units=st.integers(1, 1 << 18), everyone=st.booleans())
def test_points_are_divided_as_the_page_says(seed: int, units: int, everyone: bool) -> None:
    frequency = frequency_tables(seed)
    units += 256 if everyone else 0
    points = np.empty(256, np.int64)
    allocate(frequency, units, everyone, points)
    if units >= 1 << 16:
        edges = units * np.concatenate([[0], np.cumsum(frequency)]) >> 16
        assert (points == np.diff(edges)).all()
        return
    floor = int(everyone)

    def quotas(multiplier: int) -> list[int]:
        return [floor + ((int(f) * multiplier + (1 << 22)) >> 24) for f in frequency]

    multiplier = 0
    for bit in reversed(range(44)):
        if sum(quotas(multiplier | 1 << bit)) <= units:
            multiplier |= 1 << bit
    expected, following = quotas(multiplier), quotas(multiplier + 1)
    left = units - sum(expected)
    for y in range(256):
        if left and following[y] > expected[y]:
            expected[y] += 1
            left -= 1
    assert points.tolist() == expected


def plain_prediction(model: ContextModel, window: bytes) -> list[int]:
    """The prediction after a reset and ``window``, by the definition in docs/windows.md, in Python's integers."""
    node, path = 0, []
    for symbol in [*reversed(window), 256]:
        children = range(int(model.first_child[node]), int(model.first_child[node + 1]))
        node = next((child for child in children if int(model.symbol[child]) == symbol), 0)
        if not node:
            break
        path.append(node)
    shares, rest = [0] * 256, 1 << 32
    for node in reversed(path):
        for entry in range(int(model.entry_start[node]), int(model.entry_start[node + 1])):
            shares[int(model.entry_byte[entry])] += rest * int(model.entry_weight[entry]) >> 16
        rest = rest * int(model.escape[node]) >> 16
    shares = [share + (rest * int(root) >> 16) for share, root in zip(shares, model.root, strict=True)]
    result = [1 + (share * 65280 >> 32) for share in shares]
    result[result.index(max(result))] += 65536 - sum(result)
    return result


@pytest.mark.parametrize("window", [b"", b"t", b"th", b"the ", b"ing to ", b"\x00\xff", b"said the captain, wh"])
def test_predictions_follow_the_definition(model: ContextModel, window: bytes) -> None:
    found = frequencies(model, window)
    assert found.tolist() == plain_prediction(model, window)
    assert found.sum() == 65536
    assert found.min() >= 1


def test_the_shipped_window_strings_are_those_of_the_shipped_model(model: ContextModel) -> None:
    dictionary = load_dictionary(window_strings_path())
    assert dictionary.source == read_file(model_path())[1]
    assert window_dictionary(model).strings() == dictionary.table.strings()


def test_sixteen_bit_windows_are_the_numbers_of_the_dictionary(model: ContextModel) -> None:
    data = np.frombuffer(TEXT + bytes(range(256)), np.uint8)
    rule = WindowRule(bits=16)
    windows = encode_windows(data, model, rule)
    ids = windows.view(">u2").reshape(-1)
    assert np.array_equal(ids, parse_longest(data, load_dictionary(window_strings_path()).trie))
    assert np.array_equal(decode_windows(windows, len(data), model, rule), data)


def test_fewest_tokens_is_the_fewest() -> None:
    strings = [*(bytes([value]) for value in range(256)), b"ab", b"abc", b"cd", b"bcd", b"abcda", b"dab"]
    content = dictionary_bytes(strings)
    trie = parse_dictionary(content, "", "dictionary").trie
    random = np.random.default_rng(3)
    for _ in range(40):
        data = random.choice(np.frombuffer(b"abcd", np.uint8), 30)
        text = data.tobytes()
        best = [0] * (len(text) + 1)
        for i in reversed(range(len(text))):
            best[i] = 1 + min(best[i + len(s)] for s in strings if text.startswith(s, i))
        assert len(parse_fewest(data, trie)) == best[0] <= len(parse_longest(data, trie))


@pytest.mark.parametrize("bits", [16, 24, 64])
def test_fewest_windows_is_the_fewest(model: ContextModel, bits: int) -> None:
    data = np.frombuffer(TEXT[:3000], np.uint8)
    size = len(data)
    reach = [i + int(cut_into_windows(data[i : i + 100], model, WindowRule(bits=bits))[1][0]) for i in range(size)]
    best = [0] * (size + 1)
    for i in reversed(range(size)):
        best[i] = 1 + min(best[i + 1 : reach[i] + 1])
    windows = encode_windows(data, model, WindowRule(bits=bits, fewest=True))
    assert len(windows) == best[0] < len(encode_windows(data, model, WindowRule(bits=bits)))
    assert np.array_equal(decode_windows(windows, size, model, WindowRule(bits=bits)), data)


def test_the_dictionary_needs_fewer_tokens_than_its_longest_match() -> None:
    trie = load_dictionary(dictionary_path()).trie
    data = np.frombuffer(TEXT, np.uint8)
    assert len(parse_fewest(data, trie)) < len(parse_longest(data, trie)) < len(TEXT) / 4


@pytest.mark.parametrize("path", [model_path(), window_strings_path(), dictionary_path()], ids=lambda path: path.name)
def test_damaged_model_files_are_refused(path: Path) -> None:
    content = path.read_bytes()
    random = np.random.default_rng(5)
    forms = [content[:20], content[: len(content) // 2], content + b"x", b"", random.bytes(400)]
    for _ in range(4):
        place = int(random.integers(40, len(content)))
        forms.append(content[:place] + bytes([content[place] ^ 1 << int(random.integers(8))]) + content[place + 1 :])
    for form in forms:
        digest = hashlib.sha256(form).hexdigest()
        try:
            if path == model_path():
                load_model(form, digest, "damaged")
            else:
                parse_dictionary(form, digest, "damaged")
        except CorruptFile:
            continue
        assert path == model_path()  # its columns carry no checksum; files name its SHA-256


def test_a_missing_model_is_an_external_failure(tmp_path: Path) -> None:
    settings_ = {"bits": 32, "model": str(tmp_path / "missing.safetensors")}
    with pytest.raises(ExternalFailure, match="missing"):
        codeckit.encode(b"text", codec="windows", settings=settings_)


def test_training_is_reproducible_and_its_model_codes_text(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt.xz"
    corpus.write_bytes(lzma.compress(b"".join(b"# Title: Part %d\n" % k + TEXT[k::1] for k in range(4))))
    small = {"longest": "6", "least": "4", "table_bits": "18", "least_bits": "2", "first_least": "8"}
    outputs = []
    for name in ("one", "two"):
        output = tmp_path / f"{name}.safetensors"
        train([corpus], output, {"profile": "model", **small}, RunContext())
        outputs.append(output.read_bytes())
        assert "contexts" in (tmp_path / f"{name}.safetensors.log").read_text()
    assert outputs[0] == outputs[1]
    for bits in (16, 64):
        settings_ = {"bits": bits, "model": str(tmp_path / "one.safetensors")}
        coded = codeckit.encode(TEXT, codec="windows", settings=settings_)
        with pytest.raises(codeckit.NumericProfileMismatch):
            codeckit.decode(coded)
        selection = codeckit.Selection(settings={"model": str(tmp_path / "two.safetensors")})
        assert codeckit.decode(coded, selection=selection) == TEXT
        assert len(coded) < len(TEXT) / 2


def test_a_trained_dictionary_codes_text(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(TEXT * 2)
    small = {"size": "600", "grown_size": "900", "growth_rounds": "3", "pruning_rounds": "3"}
    train([corpus], tmp_path / "small.xz", {"profile": "dictionary", **small}, RunContext())
    assert len(load_dictionary(tmp_path / "small.xz").table) == 601
    with pytest.raises(InvalidParameter, match="profile"):
        train([corpus], tmp_path / "small.xz", {"profile": "other"}, RunContext())


def test_held_out_books_are_those_of_the_smallest_hashes(data_folder: Path) -> None:
    books = {book.title for book in read_documents([data_folder / "text" / "train" / "english-books.txt.xz"])}
    smallest = sorted(books, key=lambda title: hashlib.sha256(title.encode()).digest())[:8]
    assert held_out_titles() == set(smallest)


GOLDEN_SETTINGS: dict[str, dict[str, object]] = {
    "windows-16": {"bits": 16},
    "windows-32": {"bits": 32},
    "windows-64-fewest": {"bits": 64, "parse": "fewest"},
    "windows-128": {"bits": 128},
    "windows-dictionary": {"mode": "dictionary"},
    "windows-ac": {"mode": "ac"},
}


@pytest.mark.parametrize("name", GOLDEN_SETTINGS)
def test_golden_files_decode_and_are_written_again_byte_for_byte(name: str) -> None:
    golden = (GOLDEN / f"{name}.ck").read_bytes()
    assert codeckit.decode(golden) == TEXT
    assert codeckit.encode(TEXT, codec="windows", settings=GOLDEN_SETTINGS[name]) == golden
