"""The house keeps its order: sizes, directions, and what may stand where. Read from the source, nothing is run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import headway

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "src" / "headway"
MODULES = sorted(HOUSE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

MOST_LINES, MOST_BODY, MOST_PARAMETERS = 400, 60, 7
# A bundle predicts with these and nothing else of the house.
SERVING = (
    "headway.deployment",
    "headway.errors",
    "headway.files",
    "headway.data.images",
    "headway.machine",
    "headway.backbones.preprocess",
    "headway.backbones.openvino_graph",
)
# What data.images itself stands on.
DECODING = ("headway.data.headers", "headway.data.tiff", "headway.data.walk", "headway.data.wording")
HEAVY = {"torch", "torchvision", "timm", "sklearn", "pyarrow", "pydantic", "onnx", "jinja2", "scipy", "pandas"}
TORCH_FREE = ("data", "evaluation", "reporting", "deployment", "serving", "quality", "terminal")
_NOT_FOR_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "manager", "managers", "tools"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def where(path: Path, node: ast.AST | None = None) -> str:
    line = f":{node.lineno}" if isinstance(node, (ast.stmt, ast.expr)) else ""
    return f"{path.relative_to(ROOT)}{line}"


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def imports(nodes: list[ast.stmt] | ast.Module, *, lazy: bool) -> Iterator[str]:
    """Dotted names that are imported; without `lazy`, those on import of the module alone."""
    body = nodes.body if isinstance(nodes, ast.Module) else nodes
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, (ast.stmt, ast.excepthandler))]
            yield from imports(inner, lazy=lazy)  # type: ignore[arg-type]  # an except clause holds statements too


def test_files__small() -> None:
    lengths = {where(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}

    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_functions__small() -> None:
    long = [
        f"{where(path, node)} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in MODULES
        for node in functions(path)
        if node.end_lineno and node.end_lineno - node.lineno + 1 > MOST_BODY
    ]

    assert long == []


def test_functions__few_parameters() -> None:
    many = []
    for path in MODULES:
        for node in functions(path):
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if len(set(names) - {"self", "cls"}) > MOST_PARAMETERS:
                many.append(f"{where(path, node)} {node.name}")

    assert many == []


def test_rooms__empty_inits() -> None:
    full = [where(path) for path in HOUSE.glob("*/**/__init__.py") if path.read_text().strip()]

    assert full == []


def test_rooms__named_by_what_they_are() -> None:
    names = {path.stem for path in MODULES} | {path.parent.name for path in MODULES}

    assert names & _NOT_FOR_NAMES == set()


def test_rooms__no_top_name_is_a_public_verb() -> None:
    tops = {path.name.removesuffix(".py") for path in HOUSE.iterdir()}

    assert tops & set(headway.__all__) == set()


def test_print__only_at_the_door() -> None:
    doors = ("cli", "commands", "terminal")
    printing = [
        where(path, call)
        for path in MODULES
        for call in calls(path)
        if ast.unparse(call.func) in ("print", "sys.stdout.write", "sys.stderr.write")
        and path.relative_to(HOUSE).parts[0].removesuffix(".py") not in doors
    ]

    assert printing == []


def _mode(call: ast.Call) -> str:
    """The mode of an open(path, mode) or path.open(mode); "r" where none is given."""
    position = 0 if isinstance(call.func, ast.Attribute) else 1
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[position : position + 1]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else "r"


def _writes(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return ast.unparse(call.func) == "open" and bool(set(_mode(call)) & set("wx"))
    name, owner = call.func.attr, ast.unparse(call.func.value)
    return owner != "files" and (name in ("write_text", "write_bytes") or (name == "open" and "w" in _mode(call)))


def test_writing__only_whole_files() -> None:
    # Inside a folder that appears by rename (files.new_folder) plain writing is whole, too.
    writing = [
        where(path, call)
        for path in MODULES
        if path.name != "files.py"
        for function in functions(path)
        if "files.new_folder(" not in ast.unparse(function)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and _writes(call)
    ]

    assert writing == []


def test_state__none_that_is_global() -> None:
    found = [where(path, node) for path in MODULES for node in ast.walk(tree(path)) if isinstance(node, ast.Global)]
    seeding = [
        where(path, function)
        for path in MODULES
        for function in functions(path)
        if "torch.manual_seed(" in ast.unparse(function) and "fork_rng(" not in ast.unparse(function)
    ]

    assert found + seeding == []


def test_exceptions__none_is_swallowed() -> None:
    swallowed = [
        where(path, node.body[0])
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
    ]

    assert swallowed == []


def test_serving__reaches_only_what_a_bundle_needs() -> None:
    modules = [path for room in ("deployment", "serving") for path in (HOUSE / room).rglob("*.py")]
    reached = {name for path in modules for name in imports(tree(path), lazy=True)}
    allowed = (*SERVING, "headway.serving", "headway.explanation", "headway.data.wording", "headway.__version__")
    # `from headway import files` reads as headway.files
    strangers = {n for n in reached if n.split(".")[0] == "headway" and not n.startswith(allowed)}

    assert strangers == set()


def test_serving__decodes_and_prepares_with_numpy_and_pillow_alone() -> None:
    outside = set()
    for name in ("data/images.py", "backbones/preprocess.py"):
        for imported in imports(tree(HOUSE / name), lazy=True):
            top = imported.split(".")[0]
            house = imported.startswith((*SERVING, *DECODING))
            if not (house or top in ("numpy", "PIL") or top in sys.stdlib_module_names):
                outside.add(f"{name}: {imported}")

    assert outside == set()


@pytest.mark.parametrize("room", TORCH_FREE)
def test_imports__no_room_but_training_brings_torch(room: str) -> None:
    eager = {
        f"{where(path)}: {name}"
        for path in (HOUSE / room).rglob("*.py")
        for name in imports(tree(path), lazy=False)
        if name.split(".")[0] in {"torch", "torchvision", "timm"}
    }

    assert eager == set()


def test_imports__the_top_of_the_house_is_light() -> None:
    light = ("cli.py", "workflow.py", "events.py", "errors.py", "files.py", "__init__.py", "__main__.py")
    eager = {f"{name}: {found}" for name in light for found in imports(tree(HOUSE / name), lazy=False)}

    assert {
        one for one in eager if one.split(": ")[1].split(".")[0] in HEAVY | {"numpy", "PIL", "yaml", "rich"}
    } == set()


def test_fit__decoding_is_under_way_before_torch_is_imported() -> None:
    fit = next(node for node in functions(HOUSE / "workflow.py") if node.name == "_fit")
    pass_begins = min(
        call.lineno for call in ast.walk(fit) if isinstance(call, ast.Call) and ast.unparse(call.func) == "steps.see"
    )
    nodes = [node for node in ast.walk(fit) if isinstance(node, ast.ImportFrom) and node.lineno < pass_begins]
    found = {name for node in nodes for name in imports([node], lazy=True)}
    modules = {
        name if (HOUSE / f"{name[8:].replace('.', '/')}.py").exists() else name.rpartition(".")[0] for name in found
    }
    code = f"import sys, {', '.join(sorted(modules))}; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"headway.steps", "headway.data.sources"} <= modules
    assert done.stdout == "False\n"


def test_exports__two_lists_agree() -> None:
    module = tree(HOUSE / "__init__.py")
    block = next(node for node in module.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert sorted(typed) == headway.__all__ == sorted(headway.__all__)
    assert {name: headway._HOMES.get(name, "headway.verbs") for name in headway.__all__} == typed


def test_exports__an_unknown_name() -> None:
    with pytest.raises(AttributeError) as caught:
        _ = headway.xyzzy

    assert str(caught.value) == "module 'headway' has no attribute 'xyzzy'"


def test_exports__importing_the_package_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import headway; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert [name for name in done.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names] == ["headway"]


@pytest.mark.slow
def test_exports__verbs_stay_callable_whatever_was_imported() -> None:
    code = (
        "import importlib, sys, headway\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print([verb for verb in headway.__all__ if not callable(getattr(headway, verb))])"
    )
    names = [dotted(path) for path in MODULES if path.name != "__main__.py"]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_versions__project_and_changelog_agree() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)

    assert newest is not None
    assert newest.group(1) == headway.__version__
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/headway/__init__.py"


def test_version__is_that_of_the_tag() -> None:
    words = ["git", "tag", "--points-at", "HEAD", "--list", "v[0-9]*"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    tags = done.stdout.split() if done.returncode == 0 else []  # an archive without git has none

    assert set(tags) <= {f"v{headway.__version__}"}


def test_layers__every_part_of_the_house_stands_in_the_law() -> None:
    house = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["id"] == "house")
    listed = {name.strip("() ") for layer in house["layers"] for name in layer.split("|")}
    parts = {path.name.removesuffix(".py") for path in HOUSE.iterdir() if path.suffix == ".py" or path.is_dir()}

    assert parts - {"__init__", "__pycache__"} == listed


def test_tests__every_folder_can_be_imported() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}

    assert [where(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def _checks(function: ast.FunctionDef) -> bool:
    """Something in it can fail: an assert, or a call that asserts."""
    words = ("raises", "warns", "fail", "assert", "check", "expect", "refused", "said")
    called = (ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call))
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(function))
    return asserts or any(word in name for name in called for word in words)


def test_tests__every_test_can_fail() -> None:
    idle = [
        f"{where(path, node)} {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not _checks(node)
    ]

    assert idle == []
