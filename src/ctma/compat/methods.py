"""The released methods: their names, their arguments, and the matching ctma networks."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Keys(BaseModel):
    """Keys of a configuration file; other keys are refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class P2VModel(Keys):
    """Arguments of CTMA: input bands and video length."""

    in_ch: int = Field(3, ge=1)
    video_len: int = Field(8, ge=2)


class BITModel(Keys):
    """Arguments of BIT; keys with a single allowed value cannot be changed."""

    in_ch: int = Field(3, ge=1)
    out_ch: Literal[2] = 2
    backbone: Literal["resnet18"] = "resnet18"
    n_stages: Literal[4] = 4
    token_len: int = Field(4, ge=1)
    enc_with_pos: Literal[True] = True
    enc_depth: Literal[1] = 1
    dec_depth: int = Field(8, ge=1)
    dec_head_dim: Literal[8] = 8


class STANetModel(Keys):
    """Arguments of STANet."""

    in_ch: int = Field(3, ge=1)
    width: int = Field(64, ge=8)
    att_type: Literal["PAM"] = "PAM"
    ds: Literal[1] = 1


class DSAMNetModel(Keys):
    """Arguments of DSAMNet."""

    in_ch: int = Field(3, ge=1)
    out_ch: Literal[1] = 1
    width: int = Field(64, ge=8)
    backbone: Literal["resnet18"] = "resnet18"
    ca_ratio: Literal[8] = 8
    sa_kernel: Literal[7] = 7


class CDPModel(Keys):
    """Arguments of the U-Net of change_detection_pytorch."""

    arch: Literal["Unet"] = "Unet"
    encoder_name: str = "resnet18"
    encoder_weights: Literal["imagenet"] | None = "imagenet"
    in_channels: int = Field(3, ge=1)
    classes: Literal[2] = 2
    siam_encoder: Literal[True] = True
    fusion_form: Literal["concat"] = "concat"


class Method(NamedTuple):
    """A released model.

    Attributes:
        network: The name of the ctma network.
        criterion: The model's loss, by the released name.
        out_type: The type of the model's output, by the released name.
    """

    network: str
    criterion: str = "WNLL"
    out_type: str = "logits2"


METHODS = {
    "P2V": Method("ctma", "WBCE", "logits"),
    "UNet": Method("fc-ef"),
    "SiamUNet-conc": Method("fc-siam-conc"),
    "SiamUNet-diff": Method("fc-siam-diff"),
    "CDNet": Method("cdnet"),
    "LUNet": Method("lunet"),
    "SNUNet": Method("snunet"),
    "BIT": Method("bit"),
    "STANet": Method("stanet", "BC", "dist"),
    "DSAMNet": Method("dsamnet", "BC", "dist"),
    "IFN": Method("dsifn", "WBCE+Dice", "logits"),
    "CDP": Method("unet"),
}
"""Released models by their names."""
