"""What holds for every file of the package: who imports whom, what is never called, and that importing does nothing."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "graphcl"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the top; a layer imports those below it. What stands in one layer may import each other, except among SIBLINGS.
LAYERS = [
    {"cli"},
    {"bench", "compare", "forest", "tune", "task", "study", "integrations"},
    {"runs", "run", "pretrain", "sequence_run", "phase", "claims", "rundir", "export", "geometry", "testing", "planted", "cycle"},
    {"recipes"},
    {"encoders", "perturb", "views", "objectives", "train", "rank", "sequence_rank", "probe", "data"},
    {"contracts", "graph", "hetero", "sequence", "interactions", "streams", "cluster", "communities", "metrics", "versions"},
    {"ops"},
]
SIBLINGS = LAYERS[4]
# Records that modules of graphcl.data hand each other; the readers' and the registry's tests go through them.
RECORDS = {"DataFile", "DatasetConfig", "Columns", "Layout", "Lines"}
# Imported where they are used, for each takes longer than everything else together, or need not be installed.
HEAVY = {"torch_geometric", "sklearn", "matplotlib", "recbole", "torch_scatter", "faiss", "optuna", "tensorboard", "mlflow"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def part_of(module: str) -> str:
    """``graphcl.recipes.sgl`` belongs to ``recipes``; the package itself to ""."""
    return [*module.split("."), ""][1]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST, module: str = "") -> Iterator[tuple[str, int]]:
    """Modules that are imported anywhere under ``tree``, functions and type checking included, and the lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute"
            if node.module == "graphcl":  # from graphcl import metrics
                for alias in node.names:
                    yield f"graphcl.{alias.name}", node.lineno
            else:
                yield str(node.module), node.lineno


def upward_and_sideways(module: str, tree: ast.AST) -> list[str]:
    level = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    here, wrong = part_of(module), []
    for name, line in imports(tree, module):
        there = part_of(name)
        if name.split(".")[0] != "graphcl" or there in ("", here) or there.startswith("__"):
            continue
        if there not in level:
            wrong.append(f"{module}:{line}: {name} stands in no layer")
        elif level[there] < level[here]:
            wrong.append(f"{module}:{line}: upward to {name}")
        elif here in SIBLINGS and there in SIBLINGS:
            wrong.append(f"{module}:{line}: sideways to {name}")
    return wrong


def test_every_part_stands_in_a_layer():
    parts = {part_of(module_of(path)) for path in FILES} - {""}
    assert parts <= set().union(*LAYERS), f"in no layer: {sorted(parts - set().union(*LAYERS))}"


def test_imports_run_one_way():
    wrong = [w for path in FILES if part_of(module_of(path)) for w in upward_and_sideways(module_of(path), tree_of(path))]
    assert not wrong, "\n".join(wrong)


def test_a_wrong_edge_would_be_found():
    def found(module, text):
        return [w.split(": ")[1] for w in upward_and_sideways(module, ast.parse(text))]

    assert found("graphcl.ops.svd", "import graphcl.graph") == ["upward to graphcl.graph"]
    assert found("graphcl.views.x", "def f():\n  from graphcl.encoders import LightGCN") == ["sideways to graphcl.encoders"]
    assert found("graphcl.train", "from graphcl import rank") == ["sideways to graphcl.rank"]
    assert found("graphcl.runs", "from graphcl import train, utils") == ["graphcl.utils stands in no layer"]
    assert found("graphcl.views.x", "from graphcl.views.y import Y\nimport graphcl.ops, torch") == []


def at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported; not the bodies of functions, nor what is there for type checkers."""
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            todo += [child for child in getattr(node, field, []) if isinstance(child, ast.stmt)]
        for handler in getattr(node, "handlers", []):
            todo += handler.body


def test_heavy_packages_are_imported_where_they_are_used():
    wrong = []
    for path in FILES:
        for node in at_import(tree_of(path)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [str(node.module)]
                heavy = HEAVY - {toolkit_of(path)}
                wrong += [f"{module_of(path)}:{node.lineno}: {n}" for n in names if n.split(".")[0] in heavy]
    assert not wrong, "\n".join(wrong)


def toolkit_of(path: Path) -> str:
    """``graphcl.integrations.recbole`` is for those who have RecBole and ask for it."""
    return path.stem if path.parent.name == "integrations" else ""


def test_recbole_is_imported_in_one_module():
    found = {module_of(path) for path in FILES for name, _ in imports(tree_of(path)) if name.split(".")[0] == "recbole"}
    assert found == {"graphcl.integrations.recbole"}


# Reads pickles by an Unpickler that admits nothing but numbers, and calls nothing else of that module: tests/data/test_planetoid.py.
NUMBERS_ONLY = "graphcl.data.planetoid"


def forbidden(module: str, tree: ast.AST) -> list[str]:
    wrong = []
    for name, line in imports(tree, module):
        if name.split(".")[0] in ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal") and (
            module != NUMBERS_ONLY or name != "pickle"
        ):
            wrong.append(f"{module}:{line}: imports {name}")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        last = call.rpartition(".")[2]
        if call in ("eval", "exec", "compile", "__import__", "hasattr", "input") or (
            call == "print" and part_of(module) != "cli"
        ):
            wrong.append(f"{module}:{node.lineno}: calls {call}")
        if call in ("torch.load", "torch.save", "torch.manual_seed", "torch.seed", "np.random.seed", "random.seed"):
            wrong.append(f"{module}:{node.lineno}: calls {call}")
        if last in ("cuda", "read_pickle", "to_pickle") and "." in call:
            wrong.append(f"{module}:{node.lineno}: calls {call}")
        for keyword in node.keywords:
            if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                wrong.append(f"{module}:{node.lineno}: {ast.unparse(keyword)}")
    return wrong


def test_nothing_is_called_that_is_never_called():
    """No pickle in or out, no code from text, no device of its own choosing, no global seed; only the command line prints."""
    wrong = [w for path in FILES for w in forbidden(module_of(path), tree_of(path))]
    assert not wrong, "\n".join(wrong)


def test_the_one_module_with_pickle_uses_its_unpickler_alone():
    tree = tree_of(PACKAGE / "data" / "planetoid.py")
    used = {
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    }
    assert used == {"pickle.Unpickler", "pickle.UnpicklingError"}
    readers = [
        node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and "pickle.Unpickler" in map(ast.unparse, node.bases)
    ]
    assert [[part.name for part in each.body if isinstance(part, ast.FunctionDef)] for each in readers] == [["find_class"]]


@pytest.mark.parametrize(
    "line",
    [
        "x.cuda()", "torch.load(f)", "import pickle", "def f():\n  from pickle import loads", "np.load(f, allow_pickle=True)",
        "eval('1')", "exec('x = 1')", "print(1)", "torch.manual_seed(0)", "frame.to_pickle(f)", "hasattr(x, 'y')",
    ],
)  # fmt: skip
def test_a_forbidden_line_would_be_found(line):
    assert len(forbidden("graphcl.train", ast.parse(line))) == 1
    assert not forbidden("graphcl.train", ast.parse("model.eval(); torch.cuda.is_available(); np.load(f, allow_pickle=False)"))


def test_modules_fit_in_the_head():
    long = {module_of(path): lines for path in FILES if (lines := path.read_text(encoding="utf-8").count("\n")) > 400}
    assert not long, f"more than 400 lines: {long}"


def test_every_public_class_has_a_test_file():
    """Some test names it, or imports its module. Protocols do nothing themselves."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    imported = set()
    for path in files:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    missing = []
    for path in FILES:
        for node in tree_of(path).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_") or node.name in RECORDS:
                continue
            if (
                "Protocol" not in map(ast.unparse, node.bases)
                and module_of(path) not in imported
                and not re.search(rf"\b{node.name}\b", text)
            ):
                missing.append(f"{module_of(path)}.{node.name}")
    assert not missing, f"no test for {', '.join(missing)}"


def test_every_file_says_what_it_is():
    files = [path for path in FILES if path.name != "__main__.py"]
    wrong = [
        module_of(path) for path in files if path.read_text(encoding="utf-8").strip() and not ast.get_docstring(tree_of(path))
    ]
    assert not wrong, f"no docstring: {', '.join(wrong)}"


PROBE = """
import json, os, random, sys, warnings
before = dict(os.environ), os.getcwd()
import graphcl
light = "torch" not in sys.modules
import numpy, torch
def states():
    return [torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), str(random.getstate()), torch.get_default_dtype(),
            torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), str(numpy.geterr())]
were = states()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import importlib
    for name in json.loads(sys.argv[1]):
        importlib.import_module(name)
import logging
print(json.dumps({
    "light": light,
    "same": [a == b for a, b in zip(were, states())],
    "environment": (dict(os.environ), os.getcwd()) == before,
    "warnings": [str(w.message) for w in told if "graphcl" in w.filename],
    "heavy": sorted(set(json.loads(sys.argv[2])) & set(sys.modules)),
    "handlers": len(logging.getLogger("graphcl").handlers) + len(logging.getLogger().handlers),
    "cuda": torch.cuda.is_initialized(),
}))
"""


def test_importing_has_no_side_effect(tmp_path):
    """``import graphcl`` loads nothing; all its modules together move no generator, write no file and print nothing."""
    names = [module_of(path) for path in FILES if toolkit_of(path) not in HEAVY and path.name != "__main__.py"]
    home, place = tmp_path / "home", tmp_path / "place"
    home.mkdir()
    place.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(names), json.dumps(sorted(HEAVY))],
        cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found.pop("light"), "import graphcl loads torch"
    assert all(found.pop("same")), "a global generator or setting was moved"
    assert found.pop("environment")
    assert found == {"warnings": [], "heavy": [], "handlers": 0, "cuda": False}
    assert list(place.iterdir()) == []
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_no_registry_host_is_named():
    """Where packages come from is the installer's setting, not the project's."""
    hosts = [
        ".".join(parts)
        for parts in (("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org"), ("npmjs", "com"), ("crates", "io"))
    ]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    wrong = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace").lower()
            wrong += [f"{name}: {host}" for host in hosts if host in text]
    assert not wrong, "\n".join(wrong)
