"""What the site has beside the pages of docs/: README.md as its front page, the Python reference, and
each file of the repository that a page links to, so that the links are right on a code host as well."""

import json
import logging
import posixpath
import re
from pathlib import Path

from lunr import lunr
from properdocs.structure.files import File, InclusionLevel
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parent.parent
ALWAYS = ("README.md", "CHANGELOG.md", "include/llmpool.h")  # of the repository, linked to or not
MODULES = ("httpx2", "httpx", "requests", "transport", "otel", "fleet", "mock")
MADE = {
    "pygments.css": HtmlFormatter().get_style_defs(".highlight"),
    "reference/python.md": "# Python reference\n\n::: llmpool\n",
    "reference/python-modules.md": "# Python, adapters and more\n\n"
    + "\n".join(f"## llmpool.{name}\n\n::: llmpool.{name}\n    options: {{heading_level: 3}}\n" for name in MODULES),
}
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
SECTION = re.compile(r"^/\* -{4} (.+?) -+ \*/$", re.M)
LANGUAGES = {".h": "c", ".py": "python", ".yml": "yaml"}  # else the suffix
log = logging.getLogger("properdocs.hooks.site")
origins = {}  # of pages that are not from docs/: what they are in the repository


def place(path):
    """Where a file of the repository is in the site, or would be."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.endswith(".md"):
        return f"repository/{path}"
    return f"repository/{path}/index.md" if (ROOT / path).is_dir() else f"repository/{path}.md"


def links(path, text):
    """(target, what it is in the repository) of each link of a page to a file that is there."""
    for target in LINK.findall(text):
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if (ROOT / file).exists() and not file.startswith(".."):
            yield target, file


def page_of(path):
    """A file of the repository as a page: Markdown as it is, anything else as a listing."""
    file = ROOT / path
    if file.is_dir():
        inside = sorted(each for each in file.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
        names = [each.relative_to(file).as_posix() for each in inside]
        return f"# {path}\n\n" + "\n".join(f"- [{name}]({posixpath.basename(path)}/{name})" for name in names)
    text = file.read_text()
    if path.endswith(".md"):
        return text
    language = LANGUAGES.get(file.suffix, file.suffix.lstrip("."))
    # A header's sections, "/* ---- options ---- */", are the page's.
    titles = [f"# {path}", *(f"## {title}" for title in SECTION.findall(text))]
    parts = SECTION.split(text)[::2]
    return "\n".join(f"{title}\n\n````{language}\n{part.strip()}\n````\n" for title, part in zip(titles, parts))


def outside(pages):
    """Every file outside docs/ that pages link to, and what those link to: where it is, and its page."""
    found, waiting = {}, [*ALWAYS, *(f"docs/{page}" for page in pages)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = page_of(path) if path.endswith(".md") or not path.startswith("docs/") else ""
            waiting += [file for _, file in links(path, found[path])]
    return {path: text for path, text in found.items() if not path.startswith("docs/")}


def on_files(files, config):
    origins.clear()
    for path, text in outside([file.src_uri for file in files.documentation_pages()]).items():
        origins[place(path)] = path
        files.append(File.generated(config, place(path), content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    for path, text in MADE.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Without comments, which say how its blocks are tested; links lead to where files are in the site."""
    path = origins.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    markdown = re.sub(r"^<!--.*?-->\n", "", markdown, flags=re.M | re.S)
    here = posixpath.dirname(page.file.src_uri) or "."
    moved = {target: posixpath.relpath(place(file), here) for target, file in links(path, markdown)}
    return LINK.sub(lambda match: moved.get(match[0], match[0]), markdown)


def on_page_content(html, page, config, files):
    """A code host begins a list without an empty line before it. Here that would be text."""
    if re.search(r"<p>[^<]*\n(?:[-*]|1\.) ", html):
        log.warning("%s: a list without an empty line before it", page.file.src_uri)


def on_post_build(config):
    """The index for the search is made here, of pages, not of the listings of files. What is typed in is trimmed, or
    "proxy?" would not be found; a title says more than a text."""
    path = Path(config.site_dir, "search/search_index.json")
    found = json.loads(path.read_text())
    found["docs"] = [each for each in found["docs"] if not re.match("repository/", each["location"])]
    index = lunr("location", [{"field_name": "title", "boost": 4}, "text"], found["docs"]).serialize()
    found["index"] = {**index, "pipeline": ["trimmer", "stemmer"]}
    path.write_text(json.dumps(found, separators=(",", ":")))
