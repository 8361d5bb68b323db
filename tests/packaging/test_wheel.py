"""The wheel holds exactly what the tree holds, and everything imported is declared."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = {
    "api": "codeckit",
    "benchmarks": "codeckit/benchmarks",
    "cli": "codeckit/cli",
    "codecs": "codeckit/codecs",
    "entropy": "codeckit/entropy",
    "formats": "codeckit/formats",
}
NOT_SHIPPED = {"results"}  # measured rows are part of the repository, not of the package
IMPORT_NAMES = {"faiss-cpu": "faiss", "pillow": "PIL"}


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", *FOLDERS], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [Path(line) for line in done.stdout.splitlines()]


def package_name(path: Path) -> str:
    return str(Path(FOLDERS[path.parts[0]], *path.parts[1:]))


@pytest.mark.slow
def test_the_wheel_holds_what_the_tree_holds(tmp_path: Path):
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout, so the tree cannot be listed")
    sys.path.insert(0, str(Path(__file__).parent))
    from wheel_building import build_wheel

    with zipfile.ZipFile(build_wheel(tmp_path)) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    tree = {package_name(path) for path in tracked_files() if not NOT_SHIPPED & set(path.parts)}
    assert sorted(tree - shipped) == []
    untracked = {name for name in shipped - tree if (REPOSITORY / name).exists()}
    assert sorted(untracked) == []


def declared(*, with_extras: bool) -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    rows = list(project["dependencies"])
    if with_extras:
        rows += [row for extra in project["optional-dependencies"].values() for row in extra]
    names = {row.split(">")[0].split("<")[0].split("=")[0].split("[")[0].strip() for row in rows}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


# engines that the package plugs into: whoever uses one has it
HOSTS = {"lmcache", "vllm"}


def test_every_import_of_the_package_is_a_declared_dependency():
    known = (
        declared(with_extras=True) | set(sys.stdlib_module_names) | {"codeckit", "triton", "llvmlite"} | HOSTS
    )  # of torch and numba
    unknown = []
    for path in tracked_files():
        if path.suffix != ".py" or not (REPOSITORY / path).exists():
            continue
        for node in ast.walk(ast.parse((REPOSITORY / path).read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            unknown += [f"{path}: {name}" for name in names if name.split(".")[0] not in known]
    assert unknown == []


def test_layers_import_downwards_only():
    """cli and benchmarks above api above codecs above entropy and formats; codecs do not import one another."""
    allowed = {
        "formats": {"formats"},
        "entropy": {"entropy", "formats"},
        "codecs": {"codecs", "entropy", "formats"},
        "api": {"api", "codecs", "entropy", "formats"},
        "cli": {"cli", "api", "codecs", "entropy", "formats"},
        "benchmarks": {"benchmarks", "api", "codecs", "entropy", "formats"},
    }
    wrong = []
    for path in tracked_files():
        if path.suffix != ".py" or not (REPOSITORY / path).exists():
            continue
        for target in relative_imports(path):
            layer, own_layer = target[0], path.parts[0]
            if layer not in allowed[own_layer]:
                wrong.append(f"{path} imports {'.'.join(target)}")
            families = {"video", "image", "text", "kv", "vectors"}
            same_layer = own_layer == layer == "codecs" and len(target) > 1
            if same_layer and path.parts[1] in families and target[1] in families - {path.parts[1]}:
                wrong.append(f"{path} imports another codec, {'.'.join(target)}")
            if own_layer == "entropy" and layer == "formats" and target[1:] != ("errors",):
                wrong.append(f"{path} imports more of formats than its errors")
    assert wrong == []


def relative_imports(path: Path) -> list[tuple[str, ...]]:
    """The modules a file imports from the package, as paths from the repository root."""
    found = []
    package = ("api",) if path.parts[0] == "api" else path.parent.parts
    for node in ast.walk(ast.parse((REPOSITORY / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            base = package[: len(package) - node.level + 1] if path.parts[0] != "api" else ("api",)
            names = tuple((node.module or "").split(".")) if node.module else (node.names[0].name,)
            full = (*base, *names)
            if full[0] == "api" and full[1] in FOLDERS:
                full = full[1:]  # a sub-package of codeckit, seen from its face
            found.append(full if full[0] in FOLDERS else ("api", *full))
    return found
