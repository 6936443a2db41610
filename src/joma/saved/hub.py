"""Series in a repository of a model hub: its revisions, the hashes of its files, and parts of its files."""

from __future__ import annotations

import fnmatch
import re
import time
import zlib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from joma.errors import DISK_FULL, BadInput, RunFailed, Unreachable, cause_of
from joma.files import replacing
from joma.saved.ranges import Meter, require_within
from joma.saved.stores import StoredFile, left_out, numbered, step_in

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before the retries of a request; they start again when bytes were received."""

_LONGEST_WAIT_S = 300.0
_TIMEOUT_S = 30.0
_MOST_ANSWERS, _BYTES_PER_ANSWER = 64, 1 << 20
"""Bound of the answers to requests for one range: so many, and one for each of so many bytes."""

_PATIENCE_S, _SLOWEST = 60.0, 10_000.0
"""Bound of the time for one range: so many seconds, and one for each of so many bytes."""

_HEXADECIMAL = re.compile(r"[0-9a-f]{8,128}")
_CHECKSUM_BYTES = 4
_TRANSIENT = (408, 429, 500, 502, 503, 504)


class HubStore:
    """A series whose steps are revisions (branches or tags) of a repository, pinned to their current commits.

    Args:
        repository: ``owner/name``.
        revisions: a pattern such as ``stage1-*``, or names; ``None`` for all with a step in their names.
        cache: a folder that keeps downloaded bytes.
        meter: counts the bytes received.
    """

    def __init__(
        self, repository: str, revisions: str | Sequence[str] | None, cache: Path | None, meter: Meter
    ) -> None:
        from huggingface_hub import HfApi

        self.source, self._cache, self._meter = repository, cache, meter
        self._api = HfApi()
        self._commits = with_retries(lambda: _commits(self._api.list_repo_refs(repository)), repository)
        chosen = _chosen(repository, list(self._commits), revisions)
        example = next((name for name in chosen if step_in(name) is not None), "").split("step")[0]
        self.names = numbered(repository, chosen, f"choose some with revisions, such as '{example}step*'")
        self.numbered = bool(self.names)
        self.left_out = left_out(chosen) if self.numbered else ()
        if not self.numbered:
            self.names = {0: _single(repository, chosen)}
        self._listings: dict[int, dict[str, StoredFile]] = {}

    def listing(self, step: int) -> dict[str, StoredFile]:
        """The files of a step by name, with their hashes."""
        if step not in self._listings:
            commit = self._commits[self.names[step]]
            # Unlike a listing of the tree, this makes one request, without retries of the client's own.
            self._listings[step] = with_retries(
                lambda: _files(
                    self._api.model_info(self.source, revision=commit, files_metadata=True, timeout=_TIMEOUT_S), commit
                ),
                f"{self.source} at {self.names[step]}",
            )
        return self._listings[step]

    def open(self, step: int, name: str) -> RemoteFile:
        """One file of a step."""
        from huggingface_hub import hf_hub_url

        stored = self.listing(step)[name]
        url = hf_hub_url(self.source, name, revision=self._commits[self.names[step]], endpoint=self._api.endpoint)
        kept = self._cache / (stored.digest or "").replace(":", "-") if self._cache and stored.digest else None
        return RemoteFile(f"{self.source}@{self.names[step]}/{name}", stored.size, url, kept, self._meter)


class RemoteFile:
    """A file on a hub; interrupted downloads continue where they stopped."""

    def __init__(self, name: str, size: int, url: str, cache: Path | None, meter: Meter) -> None:
        self.name, self.size = name, size
        self._url, self._cache, self._meter = url, cache, meter

    def read(self, start: int, stop: int) -> bytearray:
        """Read all bytes from ``start`` up to but not including ``stop``."""
        require_within(self, start, stop)
        if start == stop:
            return bytearray()
        kept = None if self._cache is None else self._cache / f"{start}-{stop}"
        if kept is not None and (found := _kept(kept, stop - start)) is not None:
            return found
        content = self._fetched(start, stop)
        if kept is not None:
            _keep(kept, content)
        return content

    def _fetched(self, start: int, stop: int) -> bytearray:
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        content = bytearray()
        num_answers, most_answers = 0, _MOST_ANSWERS + (stop - start) // _BYTES_PER_ANSWER
        seconds_left = _PATIENCE_S + (stop - start) / _SLOWEST

        def download_rest() -> None:
            nonlocal num_answers, seconds_left
            if num_answers == most_answers or seconds_left < 0:
                raise Unreachable(
                    f"{self.name} could not be fetched: {len(content):,} of {stop - start:,} bytes came in "
                    f"{num_answers} answers",
                    kept="what was read before is kept",
                    remedy="run the same command again, or download the repository and name its folder",
                )
            num_answers += 1
            at = start + len(content)
            headers = {**build_hf_headers(), "Range": f"bytes={at}-{stop - 1}", "Accept-Encoding": "identity"}
            with get_session().stream("GET", self._url, headers=headers, timeout=_TIMEOUT_S) as response:
                if response.status_code >= 400:
                    response.read()
                hf_raise_for_status(response)
                self._require_part(response, at, stop)
                started = time.monotonic()
                for part in response.iter_raw():
                    content.extend(part)
                    self._meter.bytes_read += len(part)
                    if len(content) > stop - start:
                        raise self._without_parts(f"more than bytes {at} to {stop - 1}")
                    if time.monotonic() - started > seconds_left:
                        break
                seconds_left -= time.monotonic() - started

        while len(content) < stop - start:
            with_retries(download_rest, self.name, lambda: len(content))
        return content

    def _require_part(self, response: Any, start: int, stop: int) -> None:
        """Raise ``BadInput`` unless an answer is a part of the file that begins at ``start``, as it is stored."""
        if response.status_code != 206:
            raise self._without_parts(f"an answer with the status {response.status_code}")
        if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise self._without_parts(f"an answer in the encoding {encoding}")
        stated = response.headers.get("Content-Range", "none")
        match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", stated.strip())
        if match is None or int(match[1]) != start or int(match[2]) >= stop:
            raise self._without_parts(f"the range {stated[:60]!r} instead of bytes {start} to {stop - 1}")

    def _without_parts(self, received: str) -> BadInput:
        return BadInput(
            f"this hub does not send parts of {self.name}: it sent {received}",
            expected="a server that supports range requests",
            remedy="download the repository and name its folder",
        )


def with_retries(call: Callable[[], Any], name: str, progress: Callable[[], int] = lambda: 0) -> Any:
    """Return what ``call`` returns; repeat it while a hub is overloaded, restarting or unreachable.

    Args:
        call: makes one request.
        name: of the file or repository, for messages.
        progress: a count that grows when a failed attempt received something; the pauses then start again.

    Raises:
        BadInput: the hub refuses the request, or its answer is not understood.
        Unreachable: requests are switched off, or the hub did not answer any attempt.
    """
    from huggingface_hub import errors

    done, waits = progress(), list(WAITS_S)
    while True:
        try:
            return call()
        except errors.OfflineModeIsEnabled as error:
            raise Unreachable(
                f"{name} cannot be downloaded: HF_HUB_OFFLINE forbids requests to the hub",
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
                    remedy="check the network and the name, and run the same command again",
                ) from error
            time.sleep(min(max(waits.pop(0), _retry_after(error)), _LONGEST_WAIT_S))
        except BadInput:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise BadInput(
                f"what the hub says of {name} is not understood ({cause_of(error)})",
                expected="the answers of a hub of Hugging Face",
                remedy="check the name and HF_ENDPOINT, or download the repository and name its folder",
            ) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """The errors of the client's HTTP library, whichever library the client uses."""
    from huggingface_hub.errors import HfHubHTTPError

    kinds: tuple[Any, ...] = HfHubHTTPError.__mro__
    return tuple(kind for kind in kinds if kind.__name__ == "HTTPError")


def _refusal(error: Exception, name: str) -> BadInput | None:
    """Return the error that the user has to correct, or ``None`` if a retry may succeed."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        remedy = "request access on the model's page and set HF_TOKEN"
        return BadInput(f"{name} is gated", expected="a token with access", remedy=remedy)
    if isinstance(error, errors.RepositoryNotFoundError):
        return BadInput(
            f"{name} is neither a folder here nor a repository on the hub",
            expected="owner/name of a public repository, or of one that HF_TOKEN has access to",
            remedy="check the name",
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None or status in _TRANSIENT:
        return None
    return BadInput(f"the hub refuses {name} ({cause_of(error)})", expected="an existing file", remedy="check the name")


def _retry_after(error: Exception) -> float:
    """Return the pause in seconds that an overloaded hub requests."""
    response = getattr(error, "response", None)
    seconds = "" if response is None else response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else 0.0


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
    """Return the revision of a repository that holds one model and no series."""
    if len(chosen) == 1 or "main" in chosen:
        return chosen[0] if len(chosen) == 1 else "main"
    raise BadInput(
        f"no revision of {repository} has a step in its name ({', '.join(chosen[:3]) or 'there are no revisions'})",
        expected="revisions such as step1000, or one model",
        remedy="name one revision",
    )


def _commits(refs: Any) -> dict[str, str]:
    return {str(ref.name): str(ref.target_commit) for ref in (*refs.tags, *refs.branches)}


def _files(info: Any, commit: str) -> dict[str, StoredFile]:
    files = info.siblings or ()
    found = (StoredFile(str(file.rfilename), int(file.size or 0), _digest(file), commit) for file in files)
    return {file.name: file for file in found}


def _digest(file: Any) -> str | None:
    """Return the hash of a file; ``None`` for anything but hexadecimal digits, since a cache has it as a name."""
    kind, digest = ("sha256", file.lfs.sha256) if file.lfs is not None else ("git", file.blob_id)
    return f"{kind}:{digest}" if isinstance(digest, str) and _HEXADECIMAL.fullmatch(digest) else None


def _kept(path: Path, num_bytes: int) -> bytearray | None:
    """The bytes that ``_keep`` wrote; ``None`` if they are missing or damaged."""
    if not path.is_file() or path.stat().st_size != num_bytes + _CHECKSUM_BYTES:
        return None
    whole = path.read_bytes()
    content = bytearray(whole[:num_bytes])
    return content if whole[num_bytes:] == _checksum(content) else None


def _keep(path: Path, content: bytearray) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content + _checksum(content))
    except OSError as error:
        reason = "the disk is full" if error.errno in DISK_FULL else cause_of(error)
        raise RunFailed(
            f"downloads cannot be kept in {path.parent} ({reason})",
            kept="what was measured before is kept",
            remedy="free some disk space, choose another cache, or keep nothing",
        ) from error


def _checksum(content: bytearray) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")
