"""A series in a repository of a model hub: its revisions, its files' hashes, and parts of its files."""

from __future__ import annotations

import errno
import fnmatch
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from joma.errors import BadInput, RunFailed, Unreachable, cause_of
from joma.files import replacing
from joma.saved.ranges import Meter
from joma.saved.stores import StoredFile, numbered, step_in

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a request is made again, as long as nothing comes."""

_LONGEST_WAIT_S = 300.0
_TIMEOUT_S = 30.0
_TRANSIENT = (408, 429, 500, 502, 503, 504)


class HubStore:
    """A series whose steps are revisions (branches or tags) of a repository; pinned to the commits of now.

    Args:
        repository: ``owner/name``.
        revisions: a pattern such as ``stage1-*``, or names; ``None`` for all that tell a step.
        cache: a folder that keeps what was fetched.
        meter: counts what comes over the network.
    """

    def __init__(
        self, repository: str, revisions: str | Sequence[str] | None, cache: Path | None, meter: Meter
    ) -> None:
        from huggingface_hub import HfApi

        self.source, self._cache, self._meter = repository, cache, meter
        self._api = HfApi()
        refs = patiently(lambda: self._api.list_repo_refs(repository), repository)
        self._commits = {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}
        chosen = _chosen(repository, list(self._commits), revisions)
        remedy = f"choose some with revisions, such as {_pattern(chosen)!r}"
        self.names = numbered(repository, chosen, remedy)
        self.numbered = bool(self.names)
        if not self.numbered:
            self.names = {0: _single(repository, chosen)}
        self._listings: dict[int, dict[str, StoredFile]] = {}

    def listing(self, step: int) -> dict[str, StoredFile]:
        """The files of a step by name, with the hashes that the hub knows."""
        if step not in self._listings:
            commit = self._commits[self.names[step]]
            # Unlike a listing of the tree this asks once: the client adds no patience of its own to ours.
            info = patiently(
                lambda: self._api.model_info(self.source, revision=commit, files_metadata=True, timeout=_TIMEOUT_S),
                f"{self.source} at {self.names[step]}",
            )
            files = [file for file in info.siblings or () if "/" not in file.rfilename]
            self._listings[step] = {
                file.rfilename: StoredFile(file.rfilename, file.size or 0, _digest(file)) for file in files
            }
        return self._listings[step]

    def open(self, step: int, name: str) -> RemoteFile:
        """One of them."""
        from huggingface_hub import hf_hub_url

        stored = self.listing(step)[name]
        url = hf_hub_url(self.source, name, revision=self._commits[self.names[step]], endpoint=self._api.endpoint)
        kept = self._cache / (stored.digest or "").replace(":", "-") if self._cache and stored.digest else None
        return RemoteFile(f"{self.source}@{self.names[step]}/{name}", stored.size, url, kept, self._meter)


class RemoteFile:
    """A file of a hub; what a dying server did not send is asked for again from where it stopped."""

    def __init__(self, name: str, size: int, url: str, cache: Path | None, meter: Meter) -> None:
        self.name, self.size = name, size
        self._url, self._cache, self._meter = url, cache, meter

    def read(self, start: int, stop: int) -> bytearray:
        """The bytes ``start <= place < stop``."""
        if start == stop:
            return bytearray()
        kept = None if self._cache is None else self._cache / f"{start}-{stop}"
        if kept is not None and kept.is_file() and kept.stat().st_size == stop - start:
            return bytearray(kept.read_bytes())
        content = self._fetched(start, stop)
        if kept is not None:
            _keep(kept, content)
        return content

    def _fetched(self, start: int, stop: int) -> bytearray:
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        content = bytearray()

        def go_on() -> None:
            asked = {"Range": f"bytes={start + len(content)}-{stop - 1}", "Accept-Encoding": "identity"}
            headers = {**build_hf_headers(), **asked}
            with get_session().stream("GET", self._url, headers=headers, timeout=_TIMEOUT_S) as response:
                if response.status_code >= 400:
                    response.read()
                hf_raise_for_status(response)
                if response.status_code != 206:
                    raise BadInput(
                        f"{self.name} comes only whole from this hub",
                        expected="a server that sends parts of files",
                        remedy="download the repository and name its folder",
                    )
                for part in response.iter_raw():
                    content.extend(part)
                    self._meter.bytes_read += len(part)

        while len(content) < stop - start:
            patiently(go_on, self.name, lambda: len(content))
        return content


def patiently(call: Callable[[], Any], name: str, progress: Callable[[], int] = lambda: 0) -> Any:
    """What ``call`` returns, tried again while a hub is overloaded, restarting or out of reach.

    Args:
        call: makes one request.
        name: what it asks for, for messages.
        progress: grows when a failed try was not in vain; then patience begins anew.

    Raises:
        BadInput: the hub says no.
        Unreachable: it may not be asked, or did not answer, try after try.
    """
    from huggingface_hub import errors

    done, waits = progress(), list(WAITS_S)
    while True:
        try:
            return call()
        except errors.OfflineModeIsEnabled as error:
            raise Unreachable(
                f"{name} cannot be fetched: HF_HUB_OFFLINE forbids asking the hub",
                kept="what was read before is kept",
                remedy="unset HF_HUB_OFFLINE, or name a folder that holds the saved steps",
            ) from error
        except _transport_errors() as error:
            if (refusal := _refusal(error, name)) is not None:
                raise refusal from error
            if progress() > done:
                done, waits = progress(), list(WAITS_S)
            if not waits:
                raise Unreachable(
                    f"{name} could not be fetched: the hub did not answer {len(WAITS_S) + 1} times ({cause_of(error)})",
                    kept="what was read before is kept",
                    remedy="check the network and the name, and run the same again",
                ) from error
            time.sleep(min(max(waits.pop(0), _asked_for(error)), _LONGEST_WAIT_S))


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the client's HTTP library raises, whichever of its libraries the client was built on."""
    from huggingface_hub.errors import HfHubHTTPError

    kinds: tuple[Any, ...] = HfHubHTTPError.__mro__
    return tuple(kind for kind in kinds if kind.__name__ == "HTTPError")


def _refusal(error: Exception, name: str) -> BadInput | None:
    """What a person has to change, or ``None`` where it may only have been bad luck."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return BadInput(f"{name} is gated", expected="access", remedy="ask for it on the model's page and set HF_TOKEN")
    if isinstance(error, errors.RepositoryNotFoundError):
        return BadInput(
            f"{name} is neither a folder here nor a repository on the hub",
            expected="owner/name of a public repository, or one that HF_TOKEN opens",
            remedy="check the name",
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None or status in _TRANSIENT:
        return None
    return BadInput(f"the hub refuses {name} ({cause_of(error)})", expected="something it has", remedy="check the name")


def _asked_for(error: Exception) -> float:
    """Seconds that an overloaded hub asks to be left alone."""
    response = getattr(error, "response", None)
    asked = "" if response is None else response.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else 0.0


def _chosen(repository: str, names: list[str], revisions: str | Sequence[str] | None) -> list[str]:
    if revisions is None:
        return names
    if isinstance(revisions, str):
        found = fnmatch.filter(names, revisions)
        missing = [] if found else [revisions]
    else:
        found, missing = list(revisions), [name for name in revisions if name not in names]
    if missing:
        near = get_close_matches(missing[0], names, n=3, cutoff=0.3) or names[:3]
        raise BadInput(
            f"{repository} has no revision {missing[0]!r}",
            expected=f"one of its {len(names)} (nearest: {', '.join(near)})",
            remedy="name one of these",
        )
    return found


def _single(repository: str, chosen: list[str]) -> str:
    """The one revision of a repository that is no series."""
    if len(chosen) == 1:
        return chosen[0]
    if "main" in chosen:
        return "main"
    raise BadInput(
        f"no revision of {repository} tells a step ({', '.join(chosen[:3]) or 'there is none'})",
        expected="revisions such as step1000, or one model",
        remedy="name one revision",
    )


def _pattern(names: list[str]) -> str:
    first = next(name for name in [*names, "step*"] if step_in(name) is not None or name == "step*")
    return f"{first.split('step')[0]}step*"


def _digest(file: Any) -> str | None:
    if file.lfs is not None:
        return f"sha256:{file.lfs.sha256}"
    return f"git:{file.blob_id}" if file.blob_id else None


def _keep(path: Path, content: bytearray) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RunFailed(
            f"{path.parent} cannot keep what was fetched ({'no room on disk' if full else cause_of(error)})",
            kept="what was measured before is kept",
            remedy="free some room, choose another cache, or keep nothing",
        ) from error
