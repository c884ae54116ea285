"""Check the built documentation: every link within it leads to a page and a heading, and nothing is loaded from other sites.

``check_site.py FOLDER`` prints the problems; if there are any, its exit status is 1.
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The anchors and the links of a page, and the files that a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        members = dict(attrs)
        self.anchors |= {members[name] or "" for name in ("id", "name") if name in members}
        if tag == "a" and members.get("href"):
            self.links.append(members["href"] or "")
        if tag in {"img", "script"} and members.get("src"):
            self.loaded.append(members["src"] or "")
        if tag == "link" and members.get("rel") == "stylesheet":
            self.loaded.append(members["href"] or "")


def problems(folder: Path) -> Iterator[str]:
    """Yield a line for each problem of the site in ``folder``."""
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        if path.name == "404.html":  # its links are absolute, since it is shown for any path
            continue
        name = path.relative_to(folder)
        yield from (f"{name} loads {url}" for url in page.loaded if urlsplit(url).netloc)
        for link in [*page.links, *page.loaded]:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name} links to {link}, which does not exist"
            elif url.fragment and unquote(url.fragment) not in pages[target].anchors:
                yield f"{name} links to {link}, but that page has no such heading"


def main() -> int:
    found = list(problems(Path(sys.argv[1]).resolve()))
    print("\n".join(found) or "All links of the documentation are good: build/site/index.html")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
