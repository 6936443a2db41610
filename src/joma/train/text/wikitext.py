"""WikiText (Merity et al. 2016) as published, from a folder or from the hub."""

from __future__ import annotations

import os

from joma.errors import BadInput, cause_of
from joma.extras import extra
from joma.files import expanded
from joma.train.text.files import published_split, read_file

FOLDER_VARIABLE = "JOMA_DATA"
"""Environment variable for the folder of ``wikitext-2/train.txt.xz`` and ``wikitext-2/valid.txt.xz``."""

NAMES = {"wikitext2": "wikitext-2", "wikitext103": "wikitext-103"}
"""The names of texts for users, and the names of the folder and the release."""

_REPOSITORY = "Salesforce/wikitext"


def wikitext(name: str) -> tuple[str, str, str]:
    """Return training part, validation part and origin of ``wikitext2`` or ``wikitext103``, at word level.

    The text is downloaded from the hub only if it is not in the folder ``JOMA_DATA``.

    Raises:
        BadInput: ``JOMA_DATA`` is no folder, the hub cannot be reached, or ``datasets`` is not installed.
    """
    release, searched = NAMES[name], ""
    if given := os.environ.get(FOLDER_VARIABLE):
        folder = expanded(given)
        if not folder.is_dir():
            raise BadInput(
                f"{FOLDER_VARIABLE} is {given!r}, which is no folder",
                expected=f"a folder with {release}/train.txt.xz and {release}/valid.txt.xz",
                remedy=f"correct {FOLDER_VARIABLE}, or unset it to download the text from the hub",
            )
        if split := published_split(folder / release):
            return read_file(split[0]), read_file(split[1]), f"the folder that {FOLDER_VARIABLE} names"
        searched = f"; {FOLDER_VARIABLE} is {given}, which does not contain it"
    return *_from_hub(release, searched), f"the hub ({_REPOSITORY})"


def _from_hub(release: str, searched: str) -> tuple[str, str]:
    folder_remedy = f"set {FOLDER_VARIABLE} to a folder with {release}/train.txt.xz and {release}/valid.txt.xz"
    needed_for = f"{release} is downloaded from the hub with it{searched}"
    datasets = extra("datasets", needed_for, name="hub", otherwise=folder_remedy)
    try:
        parts = datasets.load_dataset(_REPOSITORY, f"{release}-v1", split=["train", "validation"])
    except Exception as error:
        # datasets, huggingface_hub and the HTTP client below them share no base class for "could not fetch".
        raise BadInput(
            f"{release} cannot be downloaded from the hub ({cause_of(error)}){searched}",
            expected="a network connection to the hub, or the text in a folder",
            remedy=folder_remedy,
        ) from error
    train, held_out = ("".join(line.rstrip("\n") + "\n" for line in part["text"]) for part in parts)
    return train, held_out
