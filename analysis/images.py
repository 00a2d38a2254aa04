"""Names of container images."""

from __future__ import annotations


def image_tag(image: str) -> str:
    """The tag of an image's name, "" when it has none."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def image_digest(image: str) -> str:
    """The digest that pins an image ("sha256:..."), "" when there is none."""
    return image.partition("@")[2]
