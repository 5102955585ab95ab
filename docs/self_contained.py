"""A hook of the site's build: refuses a site that would load anything from another host.

Knows how HTML and CSS name what a browser loads by itself. Must not mind links, which a reader chooses to follow.
"""

import re
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

LOADED_BY = {"audio": "src", "embed": "src", "iframe": "src", "img": "src", "input": "src", "link": "href",
             "object": "data", "script": "src", "source": "src", "video": "src"}  # fmt: skip
NAMES_ITS_PAGE = {"alternate", "canonical", "next", "prev"}  # kinds of <link> that load nothing
OUTSIDE = re.compile(r"\s*(https?:)?//", re.IGNORECASE)
OUTSIDE_IN_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)


class Assets(HTMLParser):
    """Collects the outside addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element."""
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and given.get("rel") in NAMES_ITS_PAGE:
            return
        addresses = [given.get(LOADED_BY.get(tag, ""), ""), *given.get("srcset", "").split(",")]
        self.outside += [address for address in addresses if OUTSIDE.match(address)]
        self.outside += OUTSIDE_IN_CSS.findall(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Look at what a <style> element imports; elsewhere text is only text."""
        if self.cdata_elem == "style":
            self.outside += OUTSIDE_IN_CSS.findall(data)


def outside_assets(file: Path) -> list[str]:
    """Tell which addresses on other hosts a built page or style sheet loads."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".css":
        return OUTSIDE_IN_CSS.findall(text)
    assets = Assets()
    assets.feed(text)
    return assets.outside


def on_post_build(config: MkDocsConfig) -> None:
    """Check the whole site once it is built."""
    site = Path(config.site_dir)
    files = sorted(file for file in site.rglob("*") if file.suffix in {".html", ".css"})
    found = [f"{file.relative_to(site)}: {address}" for file in files for address in outside_assets(file)]
    if found:
        raise PluginError("the site loads from other hosts:\n" + "\n".join(found))
