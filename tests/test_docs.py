"""Every example of the README and the other pages runs, and what they point to exists.

Python blocks are doctests, and a page is one session. In console blocks each `$ hubel …` runs
through the command line, in a folder of its own that holds `marks/`, two class folders of PNGs.
"""

from __future__ import annotations

import html
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from doctest import ELLIPSIS
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sybil import Example
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from hubel import _native
from hubel.cli import main
from hubel.data import load as load_data

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
ADDING = ROOT / "docs" / "adding-a-layer.md"
COLUMNS = 100
PROMPT = "$ "

# A run's figures depend on the machine. Its percentages must come near the printed ones; of other
# numbers only the form must agree, and which epoch was the best is the machine's too.
MEASURED = ("train", "evaluate", "predict", "info", "diagnose", "search")
POINTS = 4.0
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?: [kMG]\b)?")
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
BEST = re.compile(r" +best$")
PERCENTAGE = re.compile(r"(\d+\.\d+) %")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a page's examples run in."""
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("TERM", "dumb")
    digits = load_data("digits")
    for label, name in ((3, "three"), (8, "eight")):
        Path("marks", name).mkdir(parents=True)
        for number, image in enumerate(digits.train.images[digits.train.labels == label]):
            Image.fromarray(np.ascontiguousarray(image[..., 0])).save(f"marks/{name}/{number}.png")
    return tmp_path / "run"


def hubel(arguments: list[str]) -> tuple[int, str]:
    """The exit status of a command, and all that it prints."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        status = main(arguments)
    return status, output.getvalue()


def session() -> Callable[[Example], str | None]:
    """What evaluates the console blocks of a page: it remembers the last exit status."""
    status = 0

    def evaluate(example: Example) -> str | None:
        nonlocal status
        for command, expected in commands(example.parsed.splitlines()):
            if command == "echo $?":
                made, kept = f"{status}", "echo"
            else:
                program, *arguments = shlex.split(command)
                if program != "hubel":
                    return f"{command}: only hubel can be run in a console block"
                status, made = hubel(arguments)
                kept = arguments[0]
            problem = difference(expected, made.splitlines(), measured=kept in MEASURED)
            if problem:
                return f"{command}\n{problem}\nIt printed:\n{made}"
        return None

    return evaluate


def commands(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block, over several lines where they end in a backslash, and its output."""
    command, output = "", list[str]()
    for line in lines:
        if line.startswith(PROMPT) or command.endswith("\\"):
            if not command.endswith("\\"):
                if command:
                    yield command, output
                command, output = "", []
            command = command.removesuffix("\\") + line.removeprefix(PROMPT).strip()
        else:
            output.append(line)
    yield command, output


def difference(expected: list[str], made: list[str], *, measured: bool) -> str:
    """What differs between a page's lines and those printed; "..." alone stands for any lines."""
    wanted = [line.rstrip() for line in expected]
    while wanted and not wanted[-1]:
        wanted.pop()
    pattern = r"\n".join(
        "(?:.*\n)*?.*" if line == "..." else line_pattern(line, measured) for line in wanted
    )
    text = "\n".join(line.rstrip() for line in made).rstrip()
    if not re.fullmatch(pattern, text):
        for count in range(len(wanted), 0, -1):
            lines = wanted[:count]
            if re.match(r"\n".join(line_pattern(line, measured) for line in lines), text):
                return f"It stops agreeing after: {lines[-1]}"
        return "The first line differs."
    if not measured:
        return ""
    pairs = zip(percentages(wanted), percentages(text.splitlines()), strict=True)
    off = [pair for pair in pairs if abs(pair[0] - pair[1]) > POINTS]
    return f"Percentages differ by more than {POINTS} points: {off}" if off else ""


def line_pattern(line: str, measured: bool) -> str:
    if not measured:
        return ".*".join(re.escape(part) for part in line.split("..."))
    line = BEST.sub("", line)
    parts = []
    for part in line.split("..."):
        words = [re.escape(text) for text in NUMBER.split(part)]
        form = NUMBER.pattern.join(words)
        parts.append(re.sub(r"(\\ )+", " +", form))
    return ".*".join(parts) + "(?: +best)?"


def percentages(lines: list[str]) -> list[float]:
    return [float(number) for line in lines for number in PERCENTAGE.findall(line)]


@pytest.mark.parametrize("page", [page for page in PAGES if page != ADDING], ids=page_id)
def test_examples(page: Path, place: Path) -> None:
    parsers = (
        PythonCodeBlockParser(doctest_optionflags=ELLIPSIS),
        CodeBlockParser("console", session()),
    )
    for example in Document.parse(str(page), *parsers):
        example.evaluate()


class TestTheComparison:
    def test_what_is_exact_must_be_equal(self) -> None:
        assert not difference(["a 1", "b 2", ""], ["a 1", "b 2"], measured=False)
        assert "after: a 1" in difference(["a 1", "b 2"], ["a 1", "b 3"], measured=False)
        assert difference(["a 1"], ["a 1", "b"], measured=False)
        assert difference(["x"], ["y"], measured=False) == "The first line differs."

    def test_dots_stand_for_what_varies(self) -> None:
        assert not difference(["a", "...", "z"], ["a", "b", "c", "z"], measured=False)
        assert not difference(["Run: .../digits"], ["Run: /x/digits"], measured=False)
        assert difference(["a", "..."], ["b"], measured=False)

    def test_measured_numbers_agree_in_form_and_percentages_in_size(self) -> None:
        page = ["epoch  1/10  loss 0.72  accuracy 80.44 %  8,870 images/s  best"]
        assert not difference(
            page, ["epoch  1/10  loss 1.2e-05  accuracy 81.00 %  950 images/s"], measured=True
        )
        said = difference(
            page, ["epoch  1/10  loss 1  accuracy 70.00 %  9 images/s"], measured=True
        )
        assert said == "Percentages differ by more than 4.0 points: [(80.44, 70.0)]"
        assert difference(page, ["epoch  1/10  loss nan  accuracy 80.44 %"], measured=True)

    def test_commands_may_be_longer_than_a_line(self) -> None:
        block = ["$ hubel a \\", "    b", "one", "$ hubel c"]
        assert list(commands(block)) == [("hubel a b", ["one"]), ("hubel c", [])]

    def test_a_console_block_that_is_wrong_fails(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("```console\n$ hubel --version\nhubel 0.0.0\n```\n", encoding="utf-8")
        (example,) = Document.parse(str(page), CodeBlockParser("console", session()))
        with pytest.raises(Exception, match=r"hubel --version(.|\n)*It printed:\nhubel 0\.1\.0"):
            example.evaluate()


def texts() -> Iterator[tuple[str, str]]:
    """Each page's name, and what it says outside of its blocks."""
    for page in PAGES:
        yield page_id(page), BLOCK.sub("", page.read_text(encoding="utf-8"))


def test_fact_by_fact_the_tour_shows_the_lectures() -> None:
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (\d+)\. ", tour, re.MULTILINE)
    assert [int(number) for number in headings][:20] == list(range(1, 21))
    sections = re.split(r"^### .*$", tour, flags=re.MULTILINE)[1:]
    for heading, section in zip(headings, sections, strict=True):
        assert "```python" in section or "```console" in section, f"fact {heading} is not shown"


def test_links_lead_somewhere() -> None:
    for name, text in texts():
        for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"`[^`\n]*`", "", text)):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            file = (ROOT / name).parent / path if path else ROOT / name
            assert file.exists(), f"{name} points to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings]
                assert anchor in slugs, f"{name} points to {target}"


def test_the_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:`|^)make ([a-z]+)\b", text, re.MULTILINE):
            assert f"\n{target}:" in makefile, f"{page_id(page)} speaks of make {target}"


def edit(root: Path, patch: str) -> None:
    """Make the edits of a patch whose context says where, without line numbers."""
    for path, body in re.findall(r"^--- (\S+)\n((?:(?!--- ).*\n)*)", patch, re.MULTILINE):
        lines = body.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        text = (root / path).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{path} holds this {text.count(before)} times:\n{before}"
        (root / path).write_text(text.replace(before, after), encoding="utf-8")


# An editable installation finds its own source before PYTHONPATH is looked at.
NOT_THE_INSTALLED = """
import sys
sys.meta_path[:] = [
    finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")
]
"""


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the page's edits made."""
    root = tmp_path_factory.mktemp("edited")
    leave = shutil.ignore_patterns("__pycache__", ".*")
    for folder in ("src", "native", "tests", "docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copy(_native.__file__, root / "src" / "hubel")
    (root / "site").mkdir()
    (root / "site" / "sitecustomize.py").write_text(NOT_THE_INSTALLED, encoding="utf-8")
    for patch in re.findall(
        r"^```diff\n(.*?)^```$", ADDING.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        edit(root, patch)
    return root


def run(root: Path, *command: str) -> str:
    """What Python prints in the edited copy, which must go well."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(root / "site"), str(root / "src"))),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
class TestAddingALayer:
    TEXT = ADDING.read_text(encoding="utf-8")
    FILES = sorted(set(re.findall(r"`((?:src|native|tests|docs)/\S+)`", TEXT)))
    SYMBOLS = sorted(set(re.findall(r"`(\w+)` in\s`([^`]+)`", TEXT)))

    def test_its_examples_run_with_its_edits(self, edited: Path) -> None:
        blocks = re.findall(r"^```python\n(.*?)^```$", self.TEXT, re.MULTILINE | re.DOTALL)
        assert blocks
        (edited / "page.txt").write_text("\n".join(blocks), encoding="utf-8")
        run(edited, "-m", "doctest", "page.txt")

    def test_the_tables_of_tests_then_cover_the_layer(self, edited: Path) -> None:
        ran = run(
            edited,
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "softplus or every"),
            *("tests/engine/test_reference.py", "tests/notation/test_docs.py"),
        )
        count = re.search(r"(\d+) passed", ran)
        assert count is not None
        assert int(count[1]) >= 5

    def test_the_kernel_compiles(self, edited: Path) -> None:
        compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
        if compiler is None:
            pytest.skip("needs a C++ compiler")
        target = ("-DHUBEL_TARGET=generic", '-DHUBEL_VECTOR="vector_generic.h"')
        for source in ("native/isa/target.cpp", "native/selftest/pointwise.cpp"):
            command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", *target, source]
            done = subprocess.run(
                command, cwd=edited, capture_output=True, encoding="utf-8", check=False
            )
            assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("path", FILES)
    def test_the_files_it_names_exist(self, path: str) -> None:
        assert (ROOT / path).exists()

    @pytest.mark.parametrize(("symbol", "path"), SYMBOLS)
    def test_the_names_it_gives_are_there(self, symbol: str, path: str) -> None:
        if path.startswith("src/"):
            module = path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
            assert hasattr(import_module(module.replace("/", ".")), symbol)
        else:
            assert re.search(rf"\b{symbol}\b", (ROOT / path).read_text(encoding="utf-8"))


def test_the_pictures_need_nothing_from_elsewhere() -> None:
    for name, page in (
        ("check.svg", "README.md"),
        ("train.svg", "README.md"),
        ("search.svg", "docs/search.md"),
    ):
        picture = (ROOT / "docs" / name).read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"')]+", picture))
        assert addresses <= {"http://www.w3.org/2000/svg"}
        assert "@font-face" not in picture
        assert name in (ROOT / page).read_text(encoding="utf-8")
        assert len(picture) < 100_000


@pytest.mark.parametrize("name", ["check", "train"])
def test_the_pictures_show_what_is_printed(name: str, place: Path) -> None:
    picture = (ROOT / "docs" / f"{name}.svg").read_text(encoding="utf-8")
    drawn: dict[str, list[str]] = {}
    for y, text in re.findall(
        r'<text class="\S+-r\d+"[^>]* y="([\d.]+)"[^>]*>(.*?)</text>', picture
    ):
        drawn.setdefault(y, []).append(html.unescape(text).replace("/home/you", "..."))
    command, *shown = squeezed(" ".join(parts) for parts in drawn.values())
    # The instruction set is the machine's.
    shown = [re.sub(r"native \(\w+", "native (...", line) for line in shown]
    _, made = hubel(shlex.split(command.removeprefix(PROMPT))[1:])
    problem = difference(shown, squeezed(made.splitlines()), measured=name in MEASURED)
    assert not problem, f"{problem}\nDraw it again: python docs/pictures.py"


def squeezed(lines: Iterable[str]) -> list[str]:
    """Lines that are not empty, with single spaces."""
    return [" ".join(line.split()) for line in lines if line.strip()]
