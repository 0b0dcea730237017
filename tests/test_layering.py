"""The one-way street envs_data ← aem_envs ← aem_agent ← trainer, and what importing a room may load."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("envs_data", "aem_envs", "aem_agent", "trainer")
HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "textworld",
    "alfworld",
    "docker",
    "swebench",
    "selenium",
    "vllm",
    "ray",
)
TORCH_IN = ("aem_agent/model/", "aem_agent/engines/", "trainer/")


def _imported(path: Path, only_top: bool = False) -> set[str]:
    """Names of the modules that a file imports; `only_top` leaves out imports inside functions and `TYPE_CHECKING`."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not (only_top and (inner or for_types)):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(ast.parse(path.read_text("utf-8")))
    return found


def _files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def test_an_error_is_defined_once():
    """Two errors of one name are caught by mistake for each other: a room imports its neighbour's instead."""
    names = [
        node.name
        for room in ROOMS
        for path in _files(room)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    ]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_to_their_left(room):
    forbidden = ROOMS[ROOMS.index(room) + 1 :]
    for path in _files(room):
        wrong = sorted(name for name in _imported(path) if name.partition(".")[0] in forbidden)
        assert not wrong, (
            f"{path.relative_to(ROOT)} imports {wrong}: {room} may import only {ROOMS[: ROOMS.index(room)]}"
        )


@pytest.mark.parametrize("room", ROOMS)
def test_torch_stays_in_its_rooms(room):
    for path in _files(room):
        relative = path.relative_to(ROOT).as_posix()
        heavy = sorted(name for name in _imported(path, only_top=True) if name.partition(".")[0] in HEAVY)
        assert not heavy or relative.startswith(TORCH_IN), f"{relative} imports {heavy} at its top"


def _loaded_by(*modules: str) -> set[str]:
    program = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    return set(done.stdout.split())


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_importing_the_left_rooms_loads_nothing_heavy():
    modules = [_module(path) for room in ROOMS[:2] for path in _files(room) if path.stem != "real_worker"]
    assert {"aem_envs", "gymnasium"} <= _loaded_by("aem_envs")
    assert not _loaded_by(*modules) & set(HEAVY)


def test_the_agent_room_is_free_of_torch_outside_model_and_engines():
    left_out = (*TORCH_IN, "aem_agent/adapters/openenv.py")  # the latter needs a package that is not installed here
    modules = [
        _module(path) for path in _files("aem_agent") if not path.relative_to(ROOT).as_posix().startswith(left_out)
    ]
    assert not _loaded_by(*modules) & set(HEAVY)
