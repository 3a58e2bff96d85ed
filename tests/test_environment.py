"""pyproject.toml, environment.yml, constraints.txt, the Makefile and the documents say the same."""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import lstm_numba

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def requirements(*groups: list[str]) -> dict[str, SpecifierSet]:
    """Name -> range, over lists of requirements."""
    parsed = [Requirement(line) for group in groups for line in group]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in parsed}


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def makefile_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, flags=re.MULTILINE))


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` in a folder, apart from a make that may be running these tests and from the shell's settings."""
    leaks = ("MAKE", "MFLAGS", "PYTHON", "VENV", "COMPARE")
    env = {name: value for name, value in os.environ.items() if not name.startswith(leaks)}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def project_files(untracked: bool = True) -> list[Path]:
    """Every file of the project: those git knows or would take, without git all but caches, builds and the set-up."""
    others = ["--others", "--exclude-standard"] if untracked else []
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        listing = subprocess.run(
            [git, "-C", str(ROOT), "ls-files", "-z", "--cached", *others],
            capture_output=True,
        )
        if listing.returncode == 0:
            names = listing.stdout.decode().split("\0")
            return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    hidden = r"\.(venv|git|hypothesis|ipynb_checkpoints|\w+_cache)"
    left_out = re.compile(hidden + r"|__pycache__|.*\.egg-info|build|dist|demo")
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not left_out.fullmatch(name)]
        found += [Path(folder, name) for name in names]
    return found


# --- pyproject.toml -------------------------------------------------------------------------------


def test_version_is_said_in_one_place_and_in_the_changelog():
    assert "version" in PROJECT["dynamic"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "lstm_numba.__version__"}
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[([\d.]+)\]", changelog, flags=re.MULTILINE)[0] == lstm_numba.__version__


def test_workflows_call_what_there_is():
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    commands = []
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        commands += [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    called = {target for command in commands for target in re.findall(r"^make (\S+)", command, re.MULTILINE)}
    assert {"site", "package"} <= called <= makefile_targets()
    assert ".ci/run" in commands and (ROOT / ".ci" / "run").is_file()
    for extras in re.findall(r"\.\[([\w,]+)\]", "\n".join(commands)):
        assert set(extras.split(",")) <= set(EXTRAS)


def test_hooks_before_a_commit_are_the_pinned_tools():
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    pins = {requirement.name: str(requirement.specifier) for requirement in constraints()}
    hooks = {repo["repo"].rsplit("/", 1)[1].removesuffix("-pre-commit"): repo["rev"] for repo in config["repos"]}
    assert hooks == {name: pins[name].replace("==", "v") for name in ("ruff", "codespell")}


def test_supported_pythons_are_those_of_the_classifiers():
    allowed = SpecifierSet(PROJECT["requires-python"])
    for version in PYTHONS:
        assert version in allowed
        assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    assert "3.10" not in allowed


def test_every_requirement_has_a_lower_bound():
    for name, specifier in requirements(PROJECT["dependencies"], *EXTRAS.values()).items():
        assert any(part.operator in (">=", "==") for part in specifier), name


def test_what_the_package_imports_is_required():
    """A missing requirement would go unseen where a test's package brings it along."""
    allowed = {"lstm_numba", "llvmlite", *requirements(PROJECT["dependencies"])}  # numba brings its llvmlite
    for path in (ROOT / "lstm_numba").rglob("*.py"):
        # Only the top level: an import within a function is for something that may be missing.
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in (name.partition(".")[0] for name in names):
                assert name in sys.stdlib_module_names or name in allowed, f"{path.name} imports {name}"


# --- environment.yml ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment() -> dict:
    yaml = pytest.importorskip("yaml", reason="pyyaml, which reads environment.yml, is not installed")
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def conda_packages(environment) -> dict[str, str]:
    """Name -> conda's version range ('' for any), each line read as conda reads it."""
    rattler = pytest.importorskip("rattler", reason="py-rattler, which reads conda's specs, is not installed")
    packages = {}
    for line in environment["dependencies"]:
        if isinstance(line, str):
            name, _, version = str(rattler.MatchSpec(line, strict=True)).partition(" ")
            assert name not in packages, f"{name} is listed twice"
            packages[name] = version
    return packages


def test_environment_comes_from_conda_forge(environment):
    assert environment["channels"] == ["conda-forge"]
    assert environment["name"] == PROJECT["name"]


def test_environment_has_an_exact_python(environment, conda_packages):
    # Binder's reader takes the version from this form only.
    lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    (line,) = [line for line in lines if line.startswith("python")]
    match = re.fullmatch(r"python=(3\.\d+)", line)
    assert match, line
    assert match[1] in SpecifierSet(PROJECT["requires-python"])
    assert match[1] in PYTHONS


def test_environment_and_pyproject_name_the_same_packages_and_ranges(conda_packages):
    ours = requirements(PROJECT["dependencies"], EXTRAS["notebooks"], EXTRAS["test"])
    theirs = {name: version for name, version in conda_packages.items() if name not in ("python", "pip")}
    assert {name: SpecifierSet(version) for name, version in theirs.items()} == ours


def test_environment_installs_the_package_itself_with_pip(environment, conda_packages):
    assert "pip" in conda_packages
    assert [line for line in environment["dependencies"] if not isinstance(line, str)] == [{"pip": ["-e ."]}]


# --- constraints.txt ------------------------------------------------------------------------------


def test_constraints_are_exact_versions_and_nothing_else():
    for requirement in constraints():
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, requirement
        assert requirement.url is None and not requirement.extras, requirement
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|--hash|--index|--extra-index|--find-links", text)


def test_constraints_leave_torch_out():
    names = {canonicalize_name(requirement.name) for requirement in constraints()}
    assert not {name for name in names if re.fullmatch(r"torch|triton|nvidia.*|cuda.*", name)}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_constraints_hold_one_allowed_version_of_each_requirement(python, system):
    where = {
        "python_version": python,
        "python_full_version": f"{python}.7",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": system,
        "platform_system": system.capitalize(),
        "extra": "",
    }
    pins: dict[str, str] = {}
    for requirement in constraints():
        if requirement.marker is None or requirement.marker.evaluate(where):
            name = canonicalize_name(requirement.name)
            (specifier,) = requirement.specifier
            assert name not in pins, f"{name} has two versions on Python {python}"
            pins[name] = specifier.version
    for name, allowed in requirements(PROJECT["dependencies"], *EXTRAS.values()).items():
        if name != "torch":
            assert pins[name] in allowed, name


# --- Makefile and documents -----------------------------------------------------------------------


def test_makefile_has_the_promised_targets():
    assert {"demo", "test", "lab", "figures", "bench", "lint", "types", "clean", "help"} <= makefile_targets()


@needs_make
def test_make_help_lists_every_target():
    run = make(ROOT, "--no-print-directory", "help")
    assert run.returncode == 0
    assert set(re.findall(r"^  make ([a-z-]+) ", run.stdout, flags=re.MULTILINE)) == makefile_targets()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/how-fast.md", ".ci/run"])
def test_every_make_target_that_a_document_names_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    code = text if name == ".ci/run" else "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL))
    named = set(re.findall(r"\bmake(?: [A-Z_]+=\S+)* ([a-z][a-z-]*)", code))
    assert named, f"{name} names no target"
    assert named <= makefile_targets()


@pytest.fixture
def fresh_copy(tmp_path) -> Path:
    """A folder with what the set-up needs, and no .venv."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def stand_in_python(folder: Path, version: str) -> str:
    """A program that says it is this version of Python, and fails with its arguments when asked for more."""
    program = folder / "stand-in-python"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = -c ]; then echo {version}; else echo "stand-in called: $*"; exit 1; fi\n'
    )
    program.chmod(0o755)
    return str(program)


@needs_make
@pytest.mark.parametrize("version", ["2.7", "3.6", "3.10"])
def test_make_says_which_python_it_needs(fresh_copy, version):
    run = make(fresh_copy, f"PYTHON={stand_in_python(fresh_copy, version)}", "test")
    assert run.returncode != 0
    assert f"is Python {version}, and Python 3.11 to 3.14 is needed" in run.stderr
    assert "stand-in called" not in run.stdout
    assert not (fresh_copy / ".venv").exists()


@needs_make
def test_make_says_that_there_is_no_python(fresh_copy):
    run = make(fresh_copy, "PYTHON=no-such-python", "demo")
    assert run.returncode != 0
    assert "no Python found as 'no-such-python'" in run.stderr


@needs_make
@pytest.mark.parametrize("version", PYTHONS)
def test_make_takes_a_supported_python(fresh_copy, version):
    run = make(fresh_copy, f"PYTHON={stand_in_python(fresh_copy, version)}", "demo")
    assert "stand-in called: -m venv .venv" in run.stdout
    assert "newer" not in run.stdout


@needs_make
def test_make_warns_of_a_python_newer_than_tested(fresh_copy):
    run = make(fresh_copy, f"PYTHON={stand_in_python(fresh_copy, '3.15')}", "demo")
    assert "Python 3.15 is newer" in run.stdout
    assert "stand-in called: -m venv .venv" in run.stdout


@needs_make
def test_make_test_says_how_long_all_tests_take(fresh_copy):
    says = "about fifteen minutes"
    assert says in make(fresh_copy, "-n", "test").stdout
    assert says not in make(fresh_copy, "-n", "test", "PYTEST_ARGS=-x").stdout
    assert says not in make(fresh_copy, "-n", "demo").stdout


# --- the whole repository -------------------------------------------------------------------------


def test_no_file_holds_a_path_of_one_machine():
    pattern = re.compile(r"(?<![\w.$}~*-])/(?:work|root|tmp|(?:home|Users|opt)/\w+|private/var|var/folders)/")
    found = []
    for path in project_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_no_cache_or_set_up_is_part_of_the_project():
    unwanted = re.compile(r"(^|/)(\.venv|__pycache__|\.\w+_cache|\.ipynb_checkpoints)/|\.(pyc|nbi|nbc)$")
    names = [path.relative_to(ROOT).as_posix() for path in project_files()]
    assert "pyproject.toml" in names
    assert not [name for name in names if unwanted.search(name)]


def test_the_sdist_holds_the_whole_project(tmp_path):
    """Its tests can be collected only beside their helpers, the notebooks, the figures and the benchmarks."""
    copy = tmp_path / "copy"
    names = {path.relative_to(ROOT).as_posix() for path in project_files(untracked=False)}
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    run = subprocess.run(
        [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('dist')"],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    (archive,) = (copy / "dist").iterdir()
    with tarfile.open(archive) as tar:
        members = {member.name.partition("/")[2] for member in tar if member.isfile()}
    assert {"tests/conftest.py", "tests/cases.py", "tests/models/files/said.json", "MANIFEST.in"} <= members
    if not (ROOT / ".git").exists():  # then nothing tells the project's files from a reader's own
        expected = {name for name in names if "/" in name and name.endswith(".py")}
    else:
        expected = names
    assert not expected - members
    added = {name for name in members - names if not re.match(r"lstm_numba\.egg-info/", name)}
    assert added <= {"PKG-INFO", "setup.cfg"}


def test_the_type_marker_is_shipped():
    assert (Path(lstm_numba.__file__).parent / "py.typed").exists()


# --- the tests' own frame (conftest.py) -----------------------------------------------------------


def test_a_test_can_not_reach_the_network():
    # A datagram socket's connect sends nothing, so nothing is sent even if the guard fails. The address
    # is one that is kept for documents and no machine has.
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside,
        pytest.raises(RuntimeError, match="may not use the network"),
    ):
        outside.connect(("192.0.2.1", 9))


def test_a_test_can_reach_its_own_machine():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=5) as client:
            assert client.getpeername() == server.getsockname()


SKIPPING_TEST = """
import pytest

@pytest.mark.skip(reason="no such test here")
def test_skipped(): ...

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_to_fail():
    assert False

def test_passes(): ...
"""

SKIPPING_MODULE = """
import pytest

pytest.skip("no such module here", allow_module_level=True)
"""


@pytest.mark.parametrize("no_skips", ["", "1"])
def test_a_skip_fails_the_run_where_none_is_allowed(tmp_path, no_skips):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_one.py").write_text(SKIPPING_TEST)
    (tmp_path / "test_module.py").write_text(SKIPPING_MODULE)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "LSTM_NUMBA_NO_SKIPS": no_skips, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 passed, 2 skipped, 1 xfailed" in run.stdout
    assert run.returncode == (1 if no_skips else 0)
    assert ("the run fails" in run.stdout) == bool(no_skips)
    for line in (r"test_one\.py::test_skipped: no such test here", r"test_module\.py: no such module here"):
        assert bool(re.search(line, run.stdout)) == bool(no_skips)
