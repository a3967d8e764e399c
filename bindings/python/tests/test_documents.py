"""Every code block of the documentation is run, or says why not: blocks.py has how."""

import re

import pytest
from blocks import ROOT, Missing, Runner, blocks_of, not_run_by

READMES = [ROOT / "README.md", ROOT / "bindings" / "python" / "README.md"]
PAGES = [*READMES, *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    block
    for page in PAGES
    for block in blocks_of(page.relative_to(ROOT).as_posix(), page.read_text())
]


@pytest.fixture(scope="module")
def mock_of_blocks():
    from llmpool.mock import MockServer

    with MockServer(tls=False, tokens=5) as server:
        yield server


@pytest.fixture
def runner(tmp_path, mock_of_blocks):
    return Runner(tmp_path, mock_of_blocks)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(block, runner):
    if block.not_run:
        pytest.skip(f"not run: {block.not_run}")
    if block.run_by:
        assert not_run_by(block, (ROOT / block.run_by).read_text()) == []
        return
    try:
        runner.run(block)
    except Missing as missing:
        pytest.skip(f"needs {missing}")


@pytest.mark.parametrize(
    "language, text, said",
    [
        ("python", "import llmpool\nllmpool.Clientele()", "Clientele"),
        ("python", "import llmpool\nllmpool.get('https://pypi.org/')", "it may call ['pypi.org']"),
        ("c", "llmpool_t *pool = 1;", "block.c"),
        ("c", "int main(void) { return 3; }", "exit status 3"),
        ("sh", "python -m llmpool prove", "prove"),
        ("sh", "python -m llmpool --help\nrm -r x", "commands that nothing here runs: ['rm -r x']"),
        ("sh", "python -m llmpool.mock --porter 8080 &", "porter"),
        ("json", '{"a": 1,}', "line 1"),
        ("cobol", "STOP RUN.", "nothing here runs cobol"),
    ],
)
def test_a_block_that_is_wrong_fails(language, text, said, runner):
    (block,) = blocks_of("page.md", f"A page.\n\n```{language}\n{text}\n```\n")
    with pytest.raises((AssertionError, ValueError), match=re.escape(said)):
        runner.run(block)


def test_what_runs_a_block_has_its_commands():
    (block,) = blocks_of(
        "docs/a.md", "```sh\nA=1 python -m llmpool top --dir x && scripts/y z\n```\n"
    )
    assert not_run_by(block, "top scripts/y z") == []
    assert not_run_by(block, "top x") == [["scripts/y", "z"]]
    assert not_run_by(block, "blocks of a.md") == []


def test_the_same_commands_install_it_on_every_page():
    """scripts/test-packages runs those of the first."""
    pages = [*READMES, ROOT / "docs" / "installing.md"]
    begin = "```sh\napt-get update && apt-get install -y libcurl4 "
    first, *others = [page.read_text().partition(begin)[2].splitlines()[:3] for page in pages]
    assert len(first) == 3 and others == [first] * 2


def test_the_readmes_picture_adds_up():
    """A letter is a round trip of 50 ms; test_demo.py has it measured."""
    text = READMES[0].read_text()
    rows = re.findall(r"^(?:a client each|one pool) +([ntsA]+)  (\d+), ([\d.]+) s$", text, re.M)
    assert [row[0] for row in rows] == ["ntsA" * 20, "nts" + "A" * 20]
    for letters, trips, seconds in rows:
        assert int(trips) == len(letters) and float(seconds) == round(len(letters) * 0.05, 1)


def test_comments():
    page = """# A page

```python
a = 1
```

```
text
```

<!-- after: above -->
  ```python
  b = a
  ```

<!-- after: above -->
<!-- after:
c = b
d = c
-->

```python
e = d
```

<!-- not run: it costs money -->
```sh
buy
```
"""
    first, second, third, last = blocks_of("page.md", page)
    assert (first.whole, first.line) == ("a = 1\n", 3)
    assert second.whole == "a = 1\nb = a\n"
    assert third.whole.endswith("c = b\nd = c\ne = d\n")
    assert (last.language, last.not_run) == ("sh", "it costs money")
    with pytest.raises(AssertionError, match="not understood"):
        blocks_of("page.md", "<!-- not ran: why -->\n```python\n```\n")
