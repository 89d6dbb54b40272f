"""Pillow's work on images, to the last bit, as TensorFlow graphs: decoding (with exif and binary) and resampling."""

from mpncov_zoo.graph_images.decoding import decode_rgb
from mpncov_zoo.graph_images.resampling import luma, resample

__all__ = ["decode_rgb", "luma", "resample"]
