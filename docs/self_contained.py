"""A build hook that rejects a site which loads anything from another host; links are allowed."""

import re
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

LOADED_BY = {"audio": "src", "embed": "src", "iframe": "src", "img": "src", "input": "src", "link": "href",
             "object": "data", "script": "src", "source": "src", "video": "src"}  # fmt: skip
LOADS_NOTHING = {"alternate", "canonical", "next", "prev"}  # values of `rel`
OUTSIDE = re.compile(r"\s*(https?:)?//", re.IGNORECASE)
OUTSIDE_IN_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)


class Assets(HTMLParser):
    """Collect the addresses on other hosts that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the addresses that one element loads."""
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and given.get("rel") in LOADS_NOTHING:
            return
        addresses = [given.get(LOADED_BY.get(tag, ""), ""), *given.get("srcset", "").split(",")]
        self.outside += [address for address in addresses if OUTSIDE.match(address)]
        self.outside += OUTSIDE_IN_CSS.findall(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Collect the addresses that a <style> element imports."""
        if self.cdata_elem == "style":
            self.outside += OUTSIDE_IN_CSS.findall(data)


def outside_assets(file: Path) -> list[str]:
    """Return the addresses on other hosts that a built page or style sheet loads."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".css":
        return OUTSIDE_IN_CSS.findall(text)
    assets = Assets()
    assets.feed(text)
    return assets.outside


def on_post_build(config: MkDocsConfig) -> None:
    """Check the whole site after it is built."""
    site = Path(config.site_dir)
    files = sorted(file for file in site.rglob("*") if file.suffix in {".html", ".css"})
    found = [f"{file.relative_to(site)}: {address}" for file in files for address in outside_assets(file)]
    if found:
        raise PluginError("the site loads from other hosts:\n" + "\n".join(found))
