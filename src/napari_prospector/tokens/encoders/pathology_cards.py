"""Cards of encoders trained on slides.

Facts were read on the models' own pages and repositories where these could be read, else in the source of tools that
load the same weights strictly (TRIDENT, slide2vec, eva); a comment beside each card says where. An entry that neither
states is None and named in `unverified`. Widths of SwiGLU layers follow DINOv2's own rule, eight times the ceiling of
2/3 · 4 d / 8, twice (`dinov2/layers/swiglu_ffn.py`). Pages state a magnification rather than a pixel size: 20 × is
taken as 0.5 µm.
"""

from __future__ import annotations

from functools import partial

from napari_prospector.tokens.encoders.encodercard import EncoderCard

__all__ = ["PATHOLOGY_CARDS"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_OPTIMUS_MEAN = (0.707223, 0.578729, 0.703617)
_OPTIMUS_STD = (0.211883, 0.230117, 0.177517)
_HIBOU_MEAN = (0.7068, 0.5755, 0.722)
_HIBOU_STD = (0.195, 0.2316, 0.1816)
_HALF = (0.5, 0.5, 0.5)
# As stated for the ViTs on the releases page of lunit-io/benchmark-ssl-pathology, quoted in kaiko-ai/eva.
_LUNIT_MEAN = (0.70322989, 0.53606487, 0.66096631)
_LUNIT_STD = (0.21716536, 0.26081574, 0.20723464)
_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
_EITHER_FILE = ("model.safetensors", "pytorch_model.bin")

_card = partial(EncoderCard, loader="timm", tile_px=224, mpp=0.5, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)

# README and get_encoder.py of mahmoodlab/UNI, which load strictly; licence and gate: README on the hub.
_uni_card = partial(
    _card,
    licence="cc-by-nc-nd-4.0",
    gated=True,
    citation="Chen et al., Towards a general-purpose foundation model for computational pathology, Nat Med 2024",
    weight_files=("pytorch_model.bin",),
    unverified=("revision",),
)
# Licence and gate: model pages on the hub; architecture and head: TRIDENT and slide2vec.
_virchow_card = partial(
    _card,
    source="timm:vit_huge_patch14_224",
    n_dims=2560,
    patch_px=14,
    gated=True,
    pooling="class+mean",
    weight_files=_EITHER_FILE,
    unverified=("revision",),
)
_VIRCHOW_ARGS = {"img_size": 224, "init_values": 1e-5, "num_classes": 0, "mlp_ratio": 5.3375, **_SWIGLU}
# config.json of H-optimus-0 on the hub and the README of bioptimus/releases; those of H-optimus-1: TRIDENT, slide2vec.
_optimus_card = partial(
    _card,
    source="timm:vit_giant_patch14_reg4_dinov2",
    mean=_OPTIMUS_MEAN,
    std=_OPTIMUS_STD,
    n_dims=1536,
    patch_px=14,
    n_prefix=5,
    model_args={"img_size": 224, "init_values": 1e-5, "num_classes": 0, "global_pool": "token"},
    weight_files=("pytorch_model.bin",),
)
# build_model and example.ipynb of HistAI/hibou, config.json of hibou-b on the hub: 4 registers, SwiGLU.
_hibou_card = partial(
    _card,
    mean=_HIBOU_MEAN,
    std=_HIBOU_STD,
    patch_px=14,
    licence="apache-2.0",
    gated=False,
    citation="Nechaev et al., Hibou, arXiv 2406.05074",
    layout="transformers",
    n_prefix=5,
    weight_files=("model.safetensors",),
)
# hubconf.py and README of kaiko-ai/towards_large_pathology_fms; the repositories hold the same weights for timm.
_kaiko_card = partial(
    _card,
    mean=_HALF,
    std=_HALF,
    licence="kaiko-non-commercial",
    gated=False,
    citation="Aben et al., Towards large-scale training of pathology foundation models, arXiv 2404.15217",
    n_prefix=1,
    model_args={"num_classes": 0},
    weight_files=("model.safetensors",),
)
# README and LICENSE of lunit-io/benchmark-ssl-pathology; the repositories hold the same weights for timm.
_lunit_card = partial(
    _card,
    licence="lunit-non-commercial",
    gated=False,
    citation="Kang et al., Benchmarking self-supervised learning on diverse pathology datasets, CVPR 2023",
    model_args={"num_classes": 0},
    weight_files=("model.safetensors",),
)
_lunit_vit_card = partial(_lunit_card, mean=_LUNIT_MEAN, std=_LUNIT_STD, n_dims=384, n_prefix=1)
# The normalization of these is not on the page: it must be passed.
_lunit_resnet_card = partial(
    _lunit_card, source="timm:resnet50", mean=None, std=None, n_dims=2048, patch_px=32, n_prefix=0
)

PATHOLOGY_CARDS: tuple[EncoderCard, ...] = (
    _uni_card(
        name="uni",
        source="timm:vit_large_patch16_224",
        n_dims=1024,
        patch_px=16,
        hub="MahmoodLab/UNI",
        n_prefix=1,
        model_args={"img_size": 224, "init_values": 1e-5, "num_classes": 0},
    ),
    _uni_card(
        name="uni2-h",
        source="timm:vit_giant_patch14_224",
        n_dims=1536,
        patch_px=14,
        hub="MahmoodLab/UNI2-h",
        n_prefix=9,
        model_args={
            **{"img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24, "init_values": 1e-5, "embed_dim": 1536},
            **{"mlp_ratio": 2.66667 * 2, "num_classes": 0, "no_embed_class": True, "reg_tokens": 8, **_SWIGLU},
        },
    ),
    _virchow_card(
        name="virchow",
        licence="apache-2.0",
        citation="Vorontsov et al., Virchow: a million-slide digital pathology foundation model, arXiv 2309.07778",
        hub="paige-ai/Virchow",
        n_prefix=1,
        model_args=_VIRCHOW_ARGS,
    ),
    _virchow_card(
        name="virchow2",
        licence="cc-by-nc-nd-4.0",
        citation="Zimmermann et al., Virchow2, arXiv 2408.00738",
        hub="paige-ai/Virchow2",
        n_prefix=5,
        model_args={**_VIRCHOW_ARGS, "reg_tokens": 4},
    ),
    _optimus_card(
        name="h-optimus-0",
        licence="apache-2.0",
        # a note on another tool's page says that the terms must be accepted first; our copy of the page does not
        citation="Saillard et al., H-optimus-0, 2024, github.com/bioptimus/releases",
        hub="bioptimus/H-optimus-0",
        revision="7bb31657b49434acc78732d9e2f393b846619393",
        unverified=("gated",),
    ),
    _optimus_card(
        name="h-optimus-1",
        gated=True,
        citation="Bioptimus, H-Optimus-1, 2025, huggingface.co/bioptimus/H-optimus-1",
        hub="bioptimus/H-optimus-1",
        unverified=("revision", "licence"),
    ),
    # docs.bioptimus.com (0.5 µm, 1536 dims, class and mean patch); 261 tokens and SwiGLU: the page's own example.
    _card(
        name="h0-mini",
        source="timm:vit_base_patch14_reg4_dinov2",
        mean=_OPTIMUS_MEAN,
        std=_OPTIMUS_STD,
        n_dims=1536,
        patch_px=14,
        gated=True,
        citation="Bioptimus and Owkin, H0-mini, 2025, huggingface.co/bioptimus/H0-mini",
        hub="bioptimus/H0-mini",
        weight_files=_EITHER_FILE,
        pooling="class+mean",
        n_prefix=5,
        model_args={"img_size": 224, "init_values": 1e-5, "num_classes": 0, "mlp_ratio": 2.66667 * 2, **_SWIGLU},
        unverified=("revision", "licence"),
    ),
    # README and demo/1_slide_mpp_check.py of prov-gigapath/prov-gigapath; architecture: TRIDENT, which loads strictly.
    _card(
        name="prov-gigapath",
        source="timm:vit_giant_patch14_dinov2",
        n_dims=1536,
        patch_px=16,
        licence="apache-2.0",
        gated=True,
        citation="Xu et al., A whole-slide foundation model for digital pathology from real-world data, Nature 2024",
        hub="prov-gigapath/prov-gigapath",
        weight_files=("pytorch_model.bin",),
        n_prefix=1,
        model_args={
            **{"img_size": 224, "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24},
            **{"mlp_ratio": 5.33334, "init_values": 1e-5, "num_classes": 0},
        },
        unverified=("revision",),
    ),
    # README, LICENSE.txt and ibot_vit.py of owkin/HistoSSLscaling; file list on the hub.
    _card(
        name="phikon",
        source="timm:vit_base_patch16_224",
        n_dims=768,
        patch_px=16,
        licence="owkin-non-commercial",
        gated=False,
        citation="Filiot et al., Scaling self-supervised learning for histopathology, medRxiv 2023.07.21.23292757",
        hub="owkin/phikon",
        revision="51d48edc137856bcf3fc8ef74c571b49910523a3",
        weight_files=_EITHER_FILE,
        layout="transformers",
        n_prefix=1,
        model_args={"num_classes": 0},
    ),
    # Model page and file list on the hub (DINOv2, ViT-L/16, no registers); class token: TRIDENT and slide2vec.
    _card(
        name="phikon-v2",
        source="timm:vit_large_patch14_dinov2",
        n_dims=1024,
        patch_px=16,
        licence="other: LICENSE.pdf there",
        gated=False,
        citation="Filiot et al., Phikon-v2, arXiv 2409.09173",
        hub="owkin/phikon-v2",
        revision="419e8285b80eac3b60beca0d9b91942d48ad7b8e",
        weight_files=("model.safetensors",),
        layout="transformers",
        n_prefix=1,
        model_args={"img_size": 224, "patch_size": 16, "init_values": 1.0, "num_classes": 0},
    ),
    _hibou_card(
        name="hibou-b",
        source="timm:vit_base_patch14_reg4_dinov2",
        n_dims=768,
        hub="histai/hibou-b",
        revision="7fdc8cce365ebfd9e7e60ee6ee9a8d4d59388f3c",
        model_args={"img_size": 224, "num_classes": 0, "mlp_ratio": 4096 / 768, **_SWIGLU},
    ),
    _hibou_card(
        name="hibou-l",
        source="timm:vit_large_patch14_reg4_dinov2",
        n_dims=1024,
        hub="histai/hibou-L",
        model_args={"img_size": 224, "num_classes": 0, "mlp_ratio": 5472 / 1024, **_SWIGLU},
        unverified=("revision",),
    ),
    # Model page on the hub: DINOv2 giant without registers, class token and mean patch for classification.
    _card(
        name="midnight-12k",
        source="timm:vit_giant_patch14_dinov2",
        mean=_HALF,
        std=_HALF,
        n_dims=3072,
        patch_px=14,
        licence="mit",
        gated=False,
        citation="Karasikov et al., Training state-of-the-art pathology foundation models, arXiv 2504.05186",
        hub="kaiko-ai/midnight",
        weight_files=("model.safetensors",),
        layout="transformers",
        pooling="class+mean",
        n_prefix=1,
        model_args={"num_classes": 0},
        unverified=("revision",),
    ),
    _kaiko_card(
        name="kaiko-vits8",
        source="timm:vit_small_patch8_224",
        n_dims=384,
        patch_px=8,
        hub="1aurent/vit_small_patch8_224.kaiko_ai_towards_large_pathology_fms",
        revision="003775444da0119f90ca63e2b86e454fd06ba797",
    ),
    _kaiko_card(
        name="kaiko-vits16",
        source="timm:vit_small_patch16_224",
        n_dims=384,
        patch_px=16,
        hub="1aurent/vit_small_patch16_224.kaiko_ai_towards_large_pathology_fms",
        revision="48560ea39969fe44b7b2ab057de01484243a7d43",
    ),
    _kaiko_card(
        name="kaiko-vitb8",
        source="timm:vit_base_patch8_224",
        n_dims=768,
        patch_px=8,
        hub="1aurent/vit_base_patch8_224.kaiko_ai_towards_large_pathology_fms",
        revision="a4eb74de76274a5f3fe8260841a1b07a90930f43",
    ),
    _kaiko_card(
        name="kaiko-vitb16",
        source="timm:vit_base_patch16_224",
        n_dims=768,
        patch_px=16,
        hub="1aurent/vit_base_patch16_224.kaiko_ai_towards_large_pathology_fms",
        revision="797c524a94c7fdae8ea33064d0ac6966ed8956bb",
    ),
    _kaiko_card(
        name="kaiko-vitl14",
        source="timm:vit_large_patch14_reg4_dinov2",
        n_dims=1024,
        patch_px=14,
        hub="1aurent/vit_large_patch14_reg4_224.kaiko_ai_towards_large_pathology_fms",
        revision="d86df45eccdb957aa7869bab7d11f8e158dcbda2",
        # the authors' own file, from their releases
        layout="dinov2",
        n_prefix=5,
    ),
    _lunit_vit_card(
        name="lunit-vits8",
        source="timm:vit_small_patch8_224",
        patch_px=8,
        hub="1aurent/vit_small_patch8_224.lunit_dino",
        revision="c23bc01cfbe022bc1f2a8a9306125a07818e4eb4",
    ),
    _lunit_vit_card(
        name="lunit-vits16",
        source="timm:vit_small_patch16_224",
        patch_px=16,
        hub="1aurent/vit_small_patch16_224.lunit_dino",
        unverified=("revision",),
    ),
    _lunit_resnet_card(
        name="lunit-resnet50-bt", hub="1aurent/resnet50.lunit_bt", unverified=("revision", "mean", "std")
    ),
    _lunit_resnet_card(
        name="lunit-resnet50-swav",
        hub="1aurent/resnet50.lunit_swav",
        revision="3f4002f7007e656fa8f85c0e2caff2f23a585f85",
        unverified=("mean", "std"),
    ),
    _lunit_resnet_card(
        name="lunit-resnet50-mocov2",
        hub="1aurent/resnet50.lunit_mocov2",
        revision="296eea9131d9a2ff5ceff4e0947d48c773753b47",
        unverified=("mean", "std"),
    ),
    # README, ctran.py and get_features_CTransPath.py of Xiyue-Wang/TransPath. The file is on a drive that the README
    # links, not on the hub.
    _card(
        name="ctranspath",
        source="timm:swin_tiny_patch4_window7_224",
        mpp=1.0,
        n_dims=768,
        patch_px=32,
        licence="gpl-3.0",
        gated=False,
        citation="Wang et al., Transformer-based unsupervised contrastive learning, Med Image Anal 81, 2022",
        layout="swin",
        weight_files=("ctranspath.pth",),
        n_prefix=0,
        model_args={"num_classes": 0, "embed_layer": "ConvStem"},
    ),
)
