"""The networks that are known by name: where they are published, and what the files are.

The digits in the names of segment-anything's files are the start of the file's MD5. Their
publishers give no SHA-256; those written here are the ones that several projects, each for
itself, have pinned for the same address and size.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

EMBEDDED = "embedded"
"""The name of the network that ships with the package."""

_SAM_PAGE = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
_SAM_FILES = "https://dl.fbaipublicfiles.com/segment_anything"
_SLIDE_SAM_PAGE = "https://github.com/Curli-quan/Slide-SAM"
_SLIDE_SAM_LICENCE = "Apache-2.0 (code), none stated for the weights"


class ModelKind(StrEnum):
    """What made a weights file; the file's keys, not this, decide how it is read."""

    LITE = "slide-sam-lite"
    SAM = "sam"
    MEDSAM = "medsam"
    SLIDE_SAM = "slide-sam"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A published network.

    Parameters
    ----------
    name : str
        What `load_model` takes.
    title : str
    kind : ModelKind
    file_name : str
        In the models folder.
    licence : str
        Of the weights, and of what they come with where that says more.
    page : str
        Where its authors publish it; empty for the one that ships with the package.
    url : str, optional
        Gives the file itself; None where it has to be fetched by hand.
    size_bytes : int, optional
        None where it is not known.
    sha256 : str, optional
        None where none is published: then it is recorded the first time the file is here, and
        checked after.
    by_hand : str
        How to get the file where ``url`` is None.
    notes : str
    """

    name: str
    title: str
    kind: ModelKind
    file_name: str
    licence: str
    page: str
    url: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    by_hand: str = ""
    notes: str = ""


KNOWN_MODELS: tuple[KnownModel, ...] = (
    KnownModel(
        name=EMBEDDED,
        title="SlideSamLite",
        kind=ModelKind.LITE,
        file_name="slidesam_lite.safetensors",
        licence="BSD-3-Clause",
        page="",
        notes="Ships with the package.",
    ),
    KnownModel(
        name="sam-vit-b",
        title="Segment Anything, ViT-B",
        kind=ModelKind.SAM,
        file_name="sam_vit_b_01ec64.pth",
        licence="Apache-2.0",
        page=_SAM_PAGE,
        url=f"{_SAM_FILES}/sam_vit_b_01ec64.pth",
        size_bytes=375_042_383,
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        notes="Natural images; a start for training.",
    ),
    KnownModel(
        name="sam-vit-l",
        title="Segment Anything, ViT-L",
        kind=ModelKind.SAM,
        file_name="sam_vit_l_0b3195.pth",
        licence="Apache-2.0",
        page=_SAM_PAGE,
        url=f"{_SAM_FILES}/sam_vit_l_0b3195.pth",
        size_bytes=1_249_524_607,
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        notes="Natural images; a start for training.",
    ),
    KnownModel(
        name="sam-vit-h",
        title="Segment Anything, ViT-H",
        kind=ModelKind.SAM,
        file_name="sam_vit_h_4b8939.pth",
        licence="Apache-2.0",
        page=_SAM_PAGE,
        url=f"{_SAM_FILES}/sam_vit_h_4b8939.pth",
        size_bytes=2_564_550_879,
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        notes="Natural images; a start for training.",
    ),
    KnownModel(
        name="medsam",
        title="MedSAM, ViT-B",
        kind=ModelKind.MEDSAM,
        file_name="medsam_vit_b.pth",
        licence="Apache-2.0 (code), CC-BY-4.0 (Zenodo record)",
        page="https://github.com/bowang-lab/MedSAM",
        url="https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
        size_bytes=375_049_145,
        sha256="34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74",
        notes="Medical images, boxes only. The authors' own copy is on Google Drive.",
    ),
    KnownModel(
        name="slide-sam-b",
        title="Slide-SAM, ViT-B",
        kind=ModelKind.SLIDE_SAM,
        file_name="slide_sam_b.pth",
        licence=_SLIDE_SAM_LICENCE,
        page=_SLIDE_SAM_PAGE,
        by_hand="get Slide-SAM-B from https://pan.baidu.com/s/1jvJ2W4MK24JdpZLwPqMIfA "
        "(extraction code 7be9)",
        notes="The paper's network, as its authors trained it.",
    ),
    KnownModel(
        name="slide-sam-h",
        title="Slide-SAM, ViT-H",
        kind=ModelKind.SLIDE_SAM,
        file_name="slide_sam_h.pth",
        licence=_SLIDE_SAM_LICENCE,
        page=_SLIDE_SAM_PAGE,
        by_hand="get SlideSAM-H from https://pan.baidu.com/s/1jnOwyWd-M1fBIauNi3IA4w "
        "(extraction code 05dy)",
        notes="The paper's network, as its authors trained it.",
    ),
)
"""Every network with a name of its own, the shipped one first."""
