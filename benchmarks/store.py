"""Results of sweeps in one SQLite file (write-ahead log), with the compressed files in a folder beside it.

Every coded item is a row named by its cell's hash, every score a row named by cell, scorer and version, so a result is
never computed twice and never mistaken for another. Sizes are stored in bytes; rates are derived when rows are read.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..formats.errors import CorruptFile, InvalidParameter, OutputFailure, UnsupportedVersion
from .cells import Cell, Plan
from .worker import CellResult

__all__ = ["FORMAT", "Store"]

FORMAT = 1
_SCHEMA = """
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, sweep TEXT NOT NULL, definition TEXT NOT NULL, provenance TEXT NOT NULL,
    started TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, summary TEXT
);
CREATE TABLE cells (
    cell TEXT PRIMARY KEY, run INTEGER NOT NULL, data_set TEXT NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL,
    label TEXT, input_path TEXT NOT NULL, input_hash TEXT NOT NULL, codec TEXT NOT NULL, version TEXT NOT NULL,
    params TEXT NOT NULL, status TEXT NOT NULL, reason TEXT, file TEXT, file_bytes INTEGER, divisor REAL,
    encode_seconds REAL, decode_seconds REAL, peak_memory_bytes INTEGER
);
CREATE TABLE scores (
    cell TEXT NOT NULL, scorer TEXT NOT NULL, version TEXT NOT NULL, value REAL, detail TEXT NOT NULL,
    seconds REAL NOT NULL, reason TEXT, PRIMARY KEY (cell, scorer, version)
) WITHOUT ROWID;
CREATE TABLE members (
    sweep TEXT NOT NULL, cell TEXT NOT NULL, curve TEXT NOT NULL, settings TEXT NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (sweep, cell, curve)
) WITHOUT ROWID;
CREATE TABLE scorers (
    sweep TEXT NOT NULL, scorer TEXT NOT NULL, version TEXT NOT NULL, title TEXT NOT NULL, unit TEXT NOT NULL,
    higher_is_better INTEGER NOT NULL, is_task INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (sweep, scorer)
) WITHOUT ROWID;
CREATE TABLE skips (sweep TEXT NOT NULL, what TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL);
"""


class Store:
    """An opened results file; a context manager. Only one process may write at a time, any number may read."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if not create and not path.is_file():
            raise InvalidParameter(f"{path} does not exist")
        self.path = path
        self.files = path.with_name(path.name + ".files")
        self._folders: set[Path] = set()
        try:
            self.connection = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._prepare(create)
        except sqlite3.DatabaseError as error:
            raise CorruptFile(f"{path} is not a results file: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store for writing; raises :class:`OutputFailure` when another sweep holds it or the disk is full."""
        with Path(f"{self.path}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputFailure(
                    f"another sweep is writing to {self.path}; wait for it or give another file with -o"
                ) from None
            try:
                yield
            except sqlite3.Error as error:
                raise OutputFailure(f"{self.path} cannot be written: {error}; what is done is kept") from error
            except OSError as error:
                raise OutputFailure(
                    f"{self.files} cannot be written: {error.strerror}; what is done is kept"
                ) from error

    def begin(self, sweep: str, definition: str, plan: Plan, provenance: Mapping[str, Any]) -> int:
        """Write down what ``sweep`` now consists of; returns the number of the run."""
        with self._transaction():
            for table in ("members", "scorers", "skips"):
                self.connection.execute(f"DELETE FROM {table} WHERE sweep = ?", (sweep,))
            self.connection.executemany(
                "INSERT OR IGNORE INTO members VALUES (?, ?, ?, ?, ?)",
                [
                    (sweep, cell.key, cell.point.curve, json.dumps(dict(cell.point.settings)), position)
                    for position, cell in enumerate(plan.cells)
                ],
            )
            self.connection.executemany(
                "INSERT INTO scorers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (sweep, name, plan.versions[name], one.title, one.unit, one.higher_is_better, one.is_task, position)
                    for position, (name, one) in enumerate(plan.scorers.items())
                ],
            )
            self.connection.executemany(
                "INSERT INTO skips VALUES (?, ?, ?, ?)",
                [(sweep, skip.what, skip.name, skip.reason) for skip in plan.skips],
            )
            cursor = self.connection.execute(
                "INSERT INTO runs (sweep, definition, provenance) VALUES (?, ?, ?)",
                (sweep, definition, json.dumps(dict(provenance))),
            )
            return int(cursor.lastrowid or 0)

    def finish(self, run: int, summary: Mapping[str, Any]) -> None:
        self.connection.execute("UPDATE runs SET summary = ? WHERE run = ?", (json.dumps(dict(summary)), run))

    def coded_files(self) -> dict[str, Path]:
        """The stored file of every cell that was coded and whose file is whole."""
        rows = self.connection.execute("SELECT cell, file, file_bytes FROM cells WHERE status = 'ok'")
        found = {}
        for cell, name, size in rows:
            path = self.files / name
            if path.is_file() and path.stat().st_size == size:
                found[cell] = path
        return found

    def scored(self) -> set[tuple[str, str, str]]:
        """Cell, scorer and version of every score there is, or that was found impossible."""
        return set(self.connection.execute("SELECT cell, scorer, version FROM scores"))

    def save(self, run: int, outcomes: Sequence[tuple[Cell, CellResult]], versions: Mapping[str, str]) -> None:
        """Keep outcomes in one transaction, their files first."""
        with self._transaction():
            for cell, result in outcomes:
                if result.error is not None or result.data is not None:
                    self._save_cell(run, cell, result)
            self.connection.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        cell.key,
                        score.scorer,
                        versions[score.scorer],
                        score.value,
                        json.dumps(dict(score.detail)),
                        score.seconds,
                        score.error,
                    )
                    for cell, result in outcomes
                    for score in result.scores
                ],
            )

    def _save_cell(self, run: int, cell: Cell, result: CellResult) -> None:
        name = f"{cell.key[0]}/{cell.key}{cell.point.suffix or cell.item.path.suffix}"
        if result.data is not None:
            self._write_file(self.files / name, result.data)
        values = (
            cell.key,
            run,
            cell.item.data_set,
            cell.item.name,
            cell.item.kind,
            cell.item.label,
            _resolved(cell.item.path),
            cell.input_hash,
            cell.point.codec,
            cell.point.version,
            json.dumps(dict(cell.point.params), sort_keys=True),
            "ok" if result.data is not None else "error",
            result.error,
            name if result.data is not None else None,
            len(result.data) if result.data is not None else None,
            result.divisor,
            result.encode_seconds,
            result.decode_seconds,
            result.peak_memory_bytes,
        )
        marks = ", ".join("?" * len(values))
        self.connection.execute(f"INSERT OR REPLACE INTO cells VALUES ({marks})", values)

    def _write_file(self, path: Path, data: bytes) -> None:
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(data)
        os.replace(partial, path)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            # a full disk may have ended the transaction already
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _prepare(self, create: bool) -> None:
        found = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise UnsupportedVersion(f"{self.path} has format {found}, this codeckit reads up to {FORMAT}; update it")
        tables = self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found == FORMAT:
            return
        if tables or not create:
            raise CorruptFile(f"{self.path} is not a results file")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    self.connection.execute(statement)
            self.connection.execute(f"PRAGMA user_version = {FORMAT}")


@lru_cache(maxsize=64)
def _resolved(path: Path) -> str:
    """All cells of an item follow one another."""
    return str(path.resolve())
