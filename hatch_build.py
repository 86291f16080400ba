"""The README as the package index shows it: its links and its picture lead to the repository."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: A link to a file of the repository, and not to an address or a heading.
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Makes links absolute: to the tag of the version that is built."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the field `readme`."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        source = metadata["urls"]["Source"]
        kinds = {"": "blob", "!": "raw"}

        def absolute(link: re.Match[str]) -> str:
            image, name, path = link.groups()
            return f"{image}[{name}]({source}/{kinds[image]}/v{metadata['version']}/{path})"

        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": LINK.sub(absolute, text),
        }
