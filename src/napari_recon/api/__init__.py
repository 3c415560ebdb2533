"""The verbs. Each is a plain function of an image; it runs on any thread and knows no GUI."""

from napari_recon.api.attention import attention_map, attention_model
from napari_recon.api.completing import complete
from napari_recon.api.compression import Encoded, decode, encode
from napari_recon.api.denoising import denoise, measure_noise
from napari_recon.api.exploring import interpolate, latent_factors, traverse
from napari_recon.api.lazily import lazily
from napari_recon.api.models import load_model, save_model
from napari_recon.api.sampling import Samples, generate, sample
from napari_recon.api.training import train, training_estimate
from napari_recon.api.upscaling import shipped_upscaler, upscale
from napari_recon.io import read_image, write_image
from napari_recon.library import list_models
from napari_recon.quality.metrics import evaluate

__all__ = [
    "Encoded",
    "Samples",
    "attention_map",
    "attention_model",
    "complete",
    "decode",
    "denoise",
    "encode",
    "evaluate",
    "generate",
    "interpolate",
    "latent_factors",
    "lazily",
    "list_models",
    "load_model",
    "measure_noise",
    "read_image",
    "sample",
    "save_model",
    "shipped_upscaler",
    "train",
    "training_estimate",
    "traverse",
    "upscale",
    "write_image",
]
