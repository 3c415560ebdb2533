"""What a family computes in one training step: the registry of steps."""

from napari_recon.training.steps._base import Step
from napari_recon.training.steps.autoencoder import AutoencoderStep
from napari_recon.training.steps.completion import CompletionStep
from napari_recon.training.steps.gan import GANStep
from napari_recon.training.steps.texture import TextureStep
from napari_recon.training.steps.vae import VAEStep

STEPS: dict[str, type[Step]] = {
    "autoencoder": AutoencoderStep,
    "vae": VAEStep,
    "gan": GANStep,
    "texture": TextureStep,
    "completion": CompletionStep,
}

__all__ = ["STEPS", "Step"]
