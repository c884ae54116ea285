"""Hooks of MkDocs: they change the links of pages that are also read in the repository.

On the site, a link to a file that is not a page becomes plain text, since the site does not have that file. Chinese pages link
to English pages and pictures in the folder above theirs.
"""

import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import jieba
from mkdocs.structure.files import File, Files

_link = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


jieba.setLogLevel(logging.WARNING)


def github_anchor(title: str, _separator: str) -> str:
    """Make the anchor of a heading as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def on_files(files: Files, config: Any) -> Files:
    """Add the pictures and the style of the English pages to the Chinese ones."""
    docs = Path(config.docs_dir)
    if docs.name == "zh":
        for shared in [*docs.parent.glob("*.svg"), *docs.parent.glob("*.png"), docs.parent / "site.css"]:
            files.append(File(shared.name, str(docs.parent), config.site_dir, config.use_directory_urls))
    return files


def _to_page(page: Any, up: str, target: str) -> str:
    """Return the relative address of a page of the other language; ``up`` leads from ``page`` to the folder of ``target``."""
    folder = target.removesuffix(".md").removesuffix("index")
    return ("" if page.file.src_uri == "index.md" else "../") + up + (folder and folder.rstrip("/") + "/")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Change the links that lead out of the folder of pages."""
    is_chinese = Path(config.docs_dir).name == "zh"

    def rewritten(match: "re.Match[str]") -> str:
        picture, text, target, anchor = match.groups()
        if target.startswith(("https://", "http://")):
            return match[0]
        inside = os.path.normpath(PurePosixPath(page.file.src_uri).parent / target)
        if is_chinese and picture and inside.startswith("../"):
            return f"![{text}]({inside[3:]})"
        if inside.startswith("zh/"):  # each language is a site that is built separately
            return f'<a href="{_to_page(page, "", inside)}">{text}</a>'
        if not inside.startswith("../"):
            return match[0] if files.get_file_from_path(inside) else text
        if is_chinese and inside.count("../") == 1 and inside.endswith(".md"):
            return f'<a href="{_to_page(page, "../", inside[3:])}{anchor or ""}">{text}</a>'
        return text

    return _link.sub(rewritten, markdown)
