"""The documentation as a site: built without a warning, whole, and fetching nothing."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]


class Reader(HTMLParser):
    """What a page links to, what it fetches, and its anchors."""

    def __init__(self):
        super().__init__()
        self.links, self.fetched, self.anchors = [], [], set()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values.get("id"), values.get("name")}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in ("img", "script", "iframe") and "src" in values:
            self.fetched.append(values["src"])
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # of the theme, about another program
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    read = {}
    for path in sorted(site.rglob("*.html")):
        read[path] = Reader()
        read[path].feed(path.read_text("utf-8"))
    return read


def test_links_and_pictures_are_there(pages):
    assert len(pages) > 12
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of a server
            continue
        for link in page.links + page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), (path, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, (path, link)


def test_nothing_is_fetched_from_elsewhere(pages):
    for path, page in pages.items():
        assert not [link for link in page.fetched if urlsplit(link).netloc], path


@pytest.mark.parametrize(
    "page, names",
    [
        ("python", ["Accm", "Result", "UserError"]),
        ("model", ["load_pretrained_model", "LlavaAccm", "Sample", "Answer", "LanguageModel"]),
        ("method", ["select_tokens", "resolve_budget", "Compensator", "beam_search"]),
        ("benchmarks", ["BENCHMARKS", "main_number", "Question"]),
        (
            "weights",
            ["download", "verify", "convert", "fetch_benchmark", "verify_benchmark", "fetch"],
        ),
    ],
)
def test_the_reference_documents_the_public_doors(site, pages, page, names):
    anchors = {
        anchor.rsplit(".", 1)[-1]
        for anchor in filter(None, pages[site / f"api/{page}.html"].anchors)
    }
    assert set(names) <= anchors


def test_comments_have_become_documentation(site):
    """And no link to a source is left, which a site does not have."""
    assert "patch_post_layernorm" in (site / "api" / "model.html").read_text("utf-8")
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        assert not any(f"<!-- {kind}: " in text for kind in ("api", "fields", "flags")), path
        assert not re.search(r'href="[^"]*\.(py|sh)[#"]', text), path
