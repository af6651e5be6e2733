"""Datasets of the Hugging Face Hub, named `hub:owner/name`: downloaded when a user names one, and only then."""

import re
import shutil
from pathlib import Path

from robot_wm import console
from robot_wm.contracts.errors import UserError

PREFIX = "hub:"
_NAMED = re.compile(r"hub:(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?")

_COMMIT = re.compile(r"[0-9a-f]{40}")


def local(data: str, cache: Path) -> Path:
    """The folder of a dataset: `hub:owner/name` or `hub:owner/name@revision` is downloaded, all else is a path.

    The folder is named by the commit, `<cache>/hub/owner--name/<commit>`, and appears when it is whole; an interrupted
    download is resumed. A commit that is there is used again without asking the network.

    Raises:
        UserError: no such repository or revision, no access, or no network.
        ImportError: huggingface_hub is not installed.
    """
    if not data.startswith(PREFIX):
        return Path(data)
    named = _NAMED.fullmatch(data)
    if not named:
        raise UserError(f"data is {data!r}", "Name a dataset of the Hub as hub:owner/name or hub:owner/name@revision")
    repository, revision = named["repository"], named["revision"]
    place = Path(cache) / "hub" / repository.replace("/", "--")
    if revision and _COMMIT.fullmatch(revision) and (place / revision).is_dir():
        return place / revision
    import huggingface_hub as hub  # of the extra `hub`; nothing else of the product asks the network

    try:
        info = hub.HfApi().dataset_info(repository, revision=revision, files_metadata=True)
        target = place / str(info.sha)
        if not target.is_dir():
            sizes = [entry.size or 0 for entry in info.siblings or ()]
            console.say(f"downloading {repository} at {info.sha}: {len(sizes)} files, {sum(sizes) / 1e6:,.0f} MB")
            partial = target.with_suffix(".partial")
            hub.snapshot_download(repository, repo_type="dataset", revision=info.sha, local_dir=partial)
            shutil.rmtree(partial / ".cache", ignore_errors=True)  # times of download, no part of the data
            partial.rename(target)
    except Exception as error:  # of the network, the Hub, or whichever HTTP library it uses today
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{data} cannot be downloaded ({reason})",
            "Check name, network and access (hf auth login), or give a folder",
        ) from error
    return target
