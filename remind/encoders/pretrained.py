"""Sources of pretrained weights: the caches of libraries, their hubs, or a file of the user.

Cached weights are used without any request. Otherwise the hub is contacted once, with a short timeout, because a
hospital's firewall may block the request. Random weights are used only if the user chooses them.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from torch import Tensor, nn

from remind.data.cohort.problems import counted, listed
from remind.errors import UserError, several

TIMEOUT = 5.0  # seconds until a hub's first answer
SECTION = "model.encoders."


def named_file(key: str, value: str) -> Path | None:
    """Return the file that ``image-weights`` or ``volume-weights`` names; None for ``pretrained`` and ``random``.

    Raises
    ------
    UserError
        The value is neither of the two words nor a file.
    """
    if value in {"pretrained", "random"}:
        return None
    path = Path(value).expanduser()
    if path.is_file():
        return path
    what = "is a folder, not a file" if path.is_dir() else "no such file"
    raise UserError(f"{SECTION}{key} = {value!r}: {what}; give pretrained, random or a file of weights")


def read_file(key: str, path: Path) -> dict[str, Tensor]:
    """Read the tensors of a state dict (.safetensors, .pth, .pt or .bin) to the CPU, without running code in the file.

    Raises
    ------
    UserError
        The file cannot be read, or contains something else.
    """
    from timm.models import load_state_dict

    about, remedy = f"{SECTION}{key} = '{path}'", "give a state dict saved as .safetensors, or by torch.save"
    try:
        state = load_state_dict(str(path))
    except Exception as error:  # unpickling untrusted bytes can raise anything
        raise UserError(f"{about}: cannot be read as weights ({first_line(error)}); {remedy}") from None
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{about}: holds no tensors by name; {remedy}")
    return tensors


def load_file(key: str, path: Path, backbone: str, net: nn.Module) -> None:
    """Load a file into a network; tensors that only the file has (a classifier) are ignored.

    Raises
    ------
    UserError
        The file cannot be read, or a tensor of the network is missing in it or has another shape.
    """
    found, wanted = read_file(key, path), net.state_dict()
    if absent := [name for name in wanted if name not in found]:
        raise misfit(key, path, backbone, absent, len(wanted), found)
    if other := [n for n, tensor in wanted.items() if tensor.shape != found[n].shape]:
        shapes = (f"{n}: {tuple(found[n].shape)}, wanted {tuple(wanted[n].shape)}" for n in other)
        raise several(f"{SECTION}{key} = '{path}': tensors have other shapes than those of {backbone}", shapes)
    net.load_state_dict({name: found[name] for name in wanted})


def misfit(
    key: str, path: Path, backbone: str, absent: Sequence[str], total: int, found: Mapping[str, Tensor]
) -> UserError:
    """Return the error for a file that belongs to another network."""
    return several(
        f"{SECTION}{key} = '{path}': not the weights of {backbone}",
        [
            f"{len(absent)} of its {counted(total, 'tensor')} are not in the file: {listed(absent, 4)}",
            f"the file has {listed(found, 4)}",
            f"give a file of {backbone}, or name the backbone that the file is of",
        ],
    )


def hub_file(about: str, repo: str, names: Sequence[str], ways_out: Iterable[str] = ()) -> Path:
    """Return the first available of these files of a Hugging Face repository, from the cache or else from the hub.

    Parameters
    ----------
    about
        The user's setting, with which the error message begins.
    repo
        ``owner/name`` or ``owner/name@revision``.
    names
        Acceptable files, best first.
    ways_out
        Alternatives for the user.

    Raises
    ------
    UserError
        No file is in the cache, and the hub cannot be reached or has none of them.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    repo, _, revision = repo.partition("@")
    try:
        cached = [try_to_load_from_cache(repo, name, revision=revision or None) for name in names]
    except ValueError as error:  # not a valid repository name
        raise UserError(f"{about}: {first_line(error)}") from None
    if (file := next((file for file in cached if isinstance(file, str)), None)) is not None:
        return Path(file)
    there, why = ask_hub(repo, names, revision)
    if there is not None:
        try:
            return Path(hf_hub_download(repo, there, revision=revision or None, etag_timeout=TIMEOUT))
        except Exception as error:  # a hub's client may raise anything
            why = f"the download failed: {first_line(error)}"
    folder, command = f"models--{repo.replace('/', '--')}", f"hf download {repo}"
    if revision:
        command += f" --revision {revision}"
    raise several(
        f"{about}: {repo}, file {names[0]}, is not in {constants.HF_HUB_CACHE}, and {why}. Either",
        [
            f"on a machine with internet run `{command}`, and copy {folder} from its cache to the one here",
            *ways_out,
        ],
    )


def ask_hub(repo: str, names: Sequence[str], revision: str = "") -> tuple[str | None, str]:
    """Return the first of these files on the hub, or None and the reason; one attempt each, limited to `TIMEOUT`."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return None, "HF_HUB_OFFLINE is set"
    for name in names:
        try:
            get_hf_file_metadata(hf_hub_url(repo, name, revision=revision or None), timeout=TIMEOUT)
        except EntryNotFoundError:
            continue
        except RepositoryNotFoundError:
            return None, "the hub knows no such model, or shows it only to those it has given a token"
        except Exception as error:  # a hub's client may raise anything
            return None, f"the hub cannot be reached ({first_line(error)})"
        return name, ""
    return None, "the hub does not have it"


def torch_hub_file(about: str, url: str, ways_out: Iterable[str] = ()) -> Path:
    """Return a file by its URL, from the cache of torch's hub (TORCH_HOME), otherwise downloaded into it.

    Raises
    ------
    UserError
        The file is not in the cache and cannot be downloaded.
    """
    from huggingface_hub import constants
    from torch import hub

    name = os.path.basename(urlparse(url).path)
    file = Path(hub.get_dir()) / "checkpoints" / name
    if file.is_file():
        return file
    why = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            urlopen(Request(url, method="HEAD"), timeout=TIMEOUT).close()
            file.parent.mkdir(parents=True, exist_ok=True)
            digits = hub.HASH_REGEX.search(name)
            hub.download_url_to_file(url, str(file), digits.group(1) if digits else None, progress=False)
            return file
        except (OSError, RuntimeError) as error:  # RuntimeError: the hash of the download is wrong
            why = f"it cannot be downloaded ({first_line(error)})"
    raise several(
        f"{about}: {file} is not there, and {why}. Either",
        [f"on a machine with internet download {url}, and copy it to that place", *ways_out],
    )


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error's cause, or of the error; a network error is often a cause."""
    cause = error.__cause__ or error
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)
