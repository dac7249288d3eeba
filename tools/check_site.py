"""What the rendered pages keep to, read from their files; no browser needed.

    python tools/check_site.py

No resource from another host, every internal link and anchor there, every picture with
a description and inside a numbered figure, every public name in the API reference with
its types and errors.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "html"
RESOURCES = {
    "img": "src",
    "script": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
    "link": "href",
}
# Files without names to reuse: the figures' style, and the command line, whose own
# --help is its reference.
NO_REFERENCE = ("bookstyle", "cli", "flags", "trainflags", "adaptflags")
# Link elements that make a browser load something, or hint that it may.
LOADING = {
    "stylesheet",
    "preload",
    "icon",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
}


def pages(site: Path) -> list[Path]:
    """Every page of the site."""
    return sorted(site.rglob("*.html"))


def our_pages(site: Path) -> list[Path]:
    """The pages that have prose of ours: no search, no index of names, no redirect."""
    return [p for p in pages(site) if p.parent.name in ("book", "notebooks")]


@cache
def soup(path: Path) -> BeautifulSoup:
    """A parsed page."""
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def attribute(tag: Tag, name: str) -> str:
    """An attribute's text; empty where it is absent."""
    value = tag.get(name, "")
    return " ".join(value) if isinstance(value, list) else str(value or "")


def foreign_resources(path: Path) -> Iterator[str]:
    """Scripts, styles, pictures and frames that another host would have to send."""
    if path.suffix == ".css":
        for found in re.findall(
            r"url\(\s*[\"']?((?:https?:)?//[^)]+)", path.read_text()
        ):
            yield f"{path.name}: style from {found[:60]}"
        return
    for name, where in RESOURCES.items():
        for tag in soup(path).find_all(name):
            address = attribute(tag, where)
            if name == "link" and not LOADING & set(attribute(tag, "rel").split()):
                continue
            if re.match(r"(https?:)?//", address):
                yield f"{path.name}: <{name}> from {address[:60]}"


@cache
def anchors(path: Path) -> frozenset[str]:
    """Every place of a page that a link can point to."""
    page = soup(path)
    ids = {attribute(tag, "id") for tag in page.find_all(id=True)}
    return frozenset(ids | {attribute(tag, "name") for tag in page.find_all("a")})


def broken_links(path: Path) -> Iterator[str]:
    """Links to a file or an anchor of the site that is not there."""
    for tag in soup(path).find_all("a", href=True):
        link = urlsplit(attribute(tag, "href"))
        if link.scheme or link.netloc or (not link.path and not link.fragment):
            continue
        target = path if not link.path else path.parent / unquote(link.path)
        if not target.exists():
            yield f"{path.name}: no file for the link {link.path}"
        elif link.fragment and target.suffix == ".html":
            if unquote(link.fragment) not in anchors(target.resolve()):
                yield f"{path.name}: no anchor for the link {link.path}#{link.fragment}"


def picture_complaints(path: Path) -> Iterator[str]:
    """Pictures without description or outside a numbered figure."""
    article = soup(path).find("article")
    for image in article.find_all("img") if isinstance(article, Tag) else []:
        name = attribute(image, "src").rsplit("/", 1)[-1]
        if len(attribute(image, "alt").split()) < 3:
            yield f"{path.name}: {name} has no description"
        figure = image.find_parent("figure")
        if figure is None or figure.find(class_="caption-number") is None:
            yield f"{path.name}: {name} is in no numbered figure"
        elif not any(figure.find(class_="caption-text") or []):
            yield f"{path.name}: {name} has no caption"


def markup_complaints(path: Path) -> Iterator[str]:
    """Marks that the renderer left where it did not understand the source."""
    for tag in soup(path).find_all(class_=["problematic", "system-message"]):
        yield f"{path.name}: not understood: {tag.get_text()[:60]!r}"


Definition = ast.FunctionDef | ast.ClassDef


def public(
    tree: ast.Module | ast.ClassDef, prefix: str
) -> Iterator[tuple[str, Definition]]:
    """Public functions and classes, and the public methods of those classes."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if node.name.startswith("_"):
                continue
            yield f"{prefix}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}.{node.name}")


def errors(node: Definition) -> set[str]:
    """Names of the exceptions that a function, or making an object, raises itself."""
    if isinstance(node, ast.ClassDef):
        making = ("__init__", "__post_init__")
        bodies: list[ast.AST] = [
            n for n in node.body if isinstance(n, ast.FunctionDef) and n.name in making
        ]
    else:
        bodies = [node]
    raised = set()
    for body in bodies:
        for child in ast.walk(body):
            if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
                raised.add(ast.unparse(child.exc.func).split(".")[-1])
    return raised


def entry_complaints(
    reference: list[BeautifulSoup], name: str, node: Definition
) -> Iterator[str]:
    """What is missing in the rendered entry of one public name."""
    found = (page.find("dt", id=name) for page in reference)
    entry = next((entry for entry in found if entry is not None), None)
    if entry is None:
        yield f"{name}: not in the API reference"
        return
    signature = entry.get_text(" ", strip=True)
    value = any(ast.unparse(d).endswith("property") for d in node.decorator_list)
    if isinstance(node, ast.FunctionDef) and not value:
        arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        for argument in arguments:
            if argument.arg in ("self", "cls"):
                continue
            if not re.search(rf"\b{argument.arg}\b\s*:", signature):
                yield f"{name}: no type for {argument.arg} in the API reference"
        if "→" not in signature and ast.unparse(node.returns or node) != "None":
            yield f"{name}: no return type in the API reference"
    body = entry.find_next_sibling("dd")
    text = body.get_text(" ") if body is not None else ""
    for error in errors(node):
        if error not in text:
            yield f"{name}: raises {error}, the API reference does not say so"


def api_complaints(folder: Path, package: Path) -> Iterator[str]:
    """Public names without a complete entry in the API reference, folder/api*.html."""
    reference = [soup(page) for page in sorted(folder.glob("api*.html"))]
    for path in sorted(package.rglob("*.py")):
        if path.stem.startswith("__") or path.stem in NO_REFERENCE:
            continue
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        tree = ast.parse(path.read_text("utf-8"))
        for name, node in public(tree, module):
            yield from entry_complaints(reference, name, node)


def complaints(site: Path = SITE) -> list[str]:
    """Everything this file can say about the built book."""
    found = [c for page in pages(site) for c in foreign_resources(page)]
    found += [c for css in site.rglob("*.css") for c in foreign_resources(css)]
    found += [c for page in pages(site) for c in broken_links(page.resolve())]
    for page in our_pages(site):
        found += [*picture_complaints(page), *markup_complaints(page)]
    found += api_complaints(site / "book", ROOT / "minigpt")
    return found


def main() -> int:
    if not SITE.is_dir():
        print("expected the rendered book in _build/html: run `make book` first")
        return 2
    found = complaints()
    print("\n".join(found) or f"{len(pages(SITE))} pages keep to everything")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
