"""What MkDocs needs beside its own for this documentation: its pages are also read where the repository is.

Links from a page to a file that is no page lose their target on the site, where that file is not. Chinese pages link to
English pages and pictures in the folder above theirs.
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
    """The anchor of a heading, as it is made where the repository is read."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def on_files(files: Files, config: Any) -> Files:
    """Let the Chinese pages have the pictures and the style of the English ones."""
    docs = Path(config.docs_dir)
    if docs.name == "zh":
        for shared in [*docs.parent.glob("*.svg"), *docs.parent.glob("*.png"), docs.parent / "site.css"]:
            files.append(File(shared.name, str(docs.parent), config.site_dir, config.use_directory_urls))
    return files


def _to_page(page: Any, up: str, target: str) -> str:
    """The address of a page of the other language, from ``page``; ``up`` leads to where ``target`` is counted from."""
    folder = target.removesuffix(".md").removesuffix("index")
    return ("" if page.file.src_uri == "index.md" else "../") + up + (folder and folder.rstrip("/") + "/")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite the links that lead out of the folder of pages."""
    is_chinese = Path(config.docs_dir).name == "zh"

    def rewritten(match: "re.Match[str]") -> str:
        picture, text, target, anchor = match.groups()
        if target.startswith(("https://", "http://")):
            return match[0]
        inside = os.path.normpath(PurePosixPath(page.file.src_uri).parent / target)
        if is_chinese and picture and inside.startswith("../"):
            return f"![{text}]({inside[3:]})"
        if inside.startswith("zh/"):  # the two languages are two sites, built one after the other
            return f'<a href="{_to_page(page, "", inside)}">{text}</a>'
        if not inside.startswith("../"):
            return match[0] if files.get_file_from_path(inside) else text
        if is_chinese and inside.count("../") == 1 and inside.endswith(".md"):
            return f'<a href="{_to_page(page, "../", inside[3:])}{anchor or ""}">{text}</a>'
        return text

    return _link.sub(rewritten, markdown)
