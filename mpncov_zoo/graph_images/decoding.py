"""What Pillow decodes, to the last bit, as the graph of artifacts that take encoded images: JPEG, PNG, WebP and GIF.

TensorFlow's decoders read pixels, and little of the file around them: they pass over the EXIF orientation, refuse WebP
with alpha or several frames, and paint black where a GIF is transparent. So the file is taken apart here, and the
decoder is given the one plain image in it.
"""

from functools import partial
from typing import Any

import tensorflow as tf

from mpncov_zoo.graph_images import binary, exif

_MAX_PIXELS = 178_956_970  # more Pillow refuses, too: such a file may be a decompression bomb

Decoded = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # pixels; where the EXIF block begins and ends, equal without one


@tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.string)])  # its many nodes are traced once
def decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """Decode the content of a JPEG, PNG, WebP or GIF file, a string scalar, to uint8 (height, width, 3).

    The orientation that an EXIF block states is applied. Alpha is dropped: what is transparent has the colour that the
    file hides there. 16 bits become their upper 8. Of an animation the first frame is taken, on the whole canvas. BMP
    is refused: TensorFlow decodes palettes to wrong colours.
    """
    magic = tf.strings.substr(encoded, 0, 2)
    message = "received a BMP image; allowed: JPEG, PNG, WebP or GIF"
    with tf.control_dependencies([tf.debugging.Assert(magic != b"BM", [message])]):
        data = binary.content(encoded)
    decoders = {b"\xff\xd8": _decode_jpeg, b"RI": _decode_webp, b"GI": _decode_gif}
    branches = [(magic == known, partial(decoder, encoded, data)) for known, decoder in decoders.items()]
    rgb, start, end = tf.case(branches, partial(_decode_png, encoded, data))
    return exif.upright(tf.ensure_shape(rgb, (None, None, 3)), exif.orientation_of(data, start, end))


def _decode_jpeg(encoded: tf.Tensor, data: tf.Tensor) -> Decoded:
    # TensorFlow's default method, the fast inaccurate one, is up to 3 levels from Pillow.
    height, width, _ = tf.unstack(tf.cast(tf.io.extract_jpeg_shape(encoded), tf.int64))
    with _bounded(height, width):
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"), *exif.jpeg_block(data)


def _decode_png(encoded: tf.Tensor, data: tf.Tensor) -> Decoded:
    is_png = binary.is_named(data, 0, b"\x89PNG")  # another file than those is for the decoder to refuse
    with _bounded(binary.number(data, 20, 4), binary.number(data, 16, 4), where=is_png):
        return _decode_plain(encoded), *exif.png_block(encoded, data)


def _decode_webp(encoded: tf.Tensor, data: tf.Tensor) -> Decoded:
    """Decode the first image of the chunks, as a file of its own, and put it on the canvas."""
    number = partial(binary.number, data, little_endian=True)
    whole = tf.debugging.Assert(8 + number(4, 4) <= binary.end(data), ["a WebP file that is cut off"])
    with tf.control_dependencies([whole]):
        image, frame, metadata = _webp_chunks(data)
    is_extended, is_lossless = binary.is_named(data, 12, b"VP8X"), binary.is_named(data, image, b"VP8L")
    size = binary.padded(number(image + 4, 4))
    # A lossless image begins with a byte, its width and height less 1, and a bit that says whether there is alpha.
    start = binary.masked(number(image + 8, 5), binary.where(is_lossless, ~(16 << 32), -1))
    rest = binary.part(encoded, image + 13, size - 5)
    chunk = tf.strings.join([binary.part(encoded, image, 8), binary.text(start, 5), rest])
    bits = number(image + 9, 4)  # a lossless image has 14 for its width less 1, then as many for its height
    image_width, image_height = (
        binary.where(is_lossless, 1 + _size_bits(lossless), _size_bits(number(image + at, 2)))
        for lossless, at in ((bits, 14), (tf.bitwise.right_shift(bits, 14), 16))
    )
    canvas_height = binary.where(is_extended, 1 + number(27, 3), image_height)
    canvas_width = binary.where(is_extended, 1 + number(24, 3), image_width)
    with _bounded(canvas_height, canvas_width), _bounded(image_height, image_width):
        rgb = _decode_plain(tf.strings.join([b"RIFF", binary.text(12 + size, 4), b"WEBP", chunk]))
    frame_height, frame_width = _size(rgb)
    is_placed = is_extended & (frame > 0)
    height = binary.where(is_placed, canvas_height, frame_height)
    width = binary.where(is_placed, canvas_width, frame_width)
    top, left = (binary.where(frame > 0, 2 * number(frame + at, 3), 0) for at in (11, 8))
    has_block = (metadata > 0) & is_extended & (binary.masked(number(20, 1), 8) > 0)
    block = metadata + 8
    end = binary.where(has_block, block + number(metadata + 4, 4), block)
    return _on_canvas(rgb, top, left, height, width, [0, 0, 0]), block, end


def _size_bits(number: tf.Tensor) -> tf.Tensor:
    return binary.masked(number, 2**14 - 1)


def _webp_chunks(data: tf.Tensor) -> list[tf.Tensor]:
    """Return where a WebP file's first image, its frame and the EXIF block are: int64 scalars, 0 for none.

    The file is a row of chunks: name (4 bytes), size (4), content, and one byte more if the size is odd. A plain file
    has one chunk, VP8 or VP8L. Others begin with VP8X: flags and canvas. The frames of an animation are ANMF chunks: a
    place (16 bytes), then chunks of their own, in which the walk goes on.
    """
    names = ((b"VP8 ", b"VP8L"), (b"ANMF",), (b"EXIF",))
    end = tf.minimum(8 + binary.number(data, 4, 4, little_endian=True), binary.end(data))

    def inside(at: tf.Tensor, *found: tf.Tensor) -> tf.Tensor:
        return at + 8 <= end

    def step(at: tf.Tensor, *found: tf.Tensor) -> list[tf.Tensor]:
        size = binary.number(data, at + 4, 4, little_endian=True)
        following = at + 8 + binary.where(binary.is_named(data, at, b"ANMF"), 16, binary.padded(size))
        first = [
            binary.where((place == 0) & binary.is_named(data, at, *name), at, place)
            for place, name in zip(found, names, strict=True)
        ]
        return [following, *first]

    start = [tf.constant(place, tf.int64) for place in (12, 0, 0, 0)]
    return tf.while_loop(inside, step, start, maximum_iterations=binary.MAX_STEPS)[1:]


def _decode_gif(encoded: tf.Tensor, data: tf.Tensor) -> Decoded:
    """Decode the first frame as a file of its own, opaque and with 256 colours, and put it on the canvas."""
    number = partial(binary.number, data, little_endian=True)
    frame, transparent = _gif_frame(data)
    left, top, width, height = (number(frame + at, 2) for at in (1, 3, 5, 7))
    flags = number(frame + 9, 1)
    shared, count_shared = _gif_colours(data, 10, 3)
    own, count_own = _gif_colours(data, frame + 9, 1)
    table, count = binary.where(count_own > 0, own, shared), binary.where(count_own > 0, count_own, count_shared)
    index = tf.range(256 * 3, dtype=tf.int64)
    stated = number(table + index, 1)
    is_grey = tf.reduce_all((stated == index // 3) | (index >= count))
    colours = binary.where(index < count, stated, binary.where(is_grey, index // 3, 0))  # as Pillow goes on with them
    size = binary.part(encoded, frame + 5, 4)
    descriptor = [b",\0\0\0\0", size, binary.text(128 + 7 + binary.masked(flags, 64), 1), binary.text(colours, 1)]
    pixels = binary.part(encoded, own + count_own, binary.end(data))
    canvas_height = tf.maximum(number(8, 2), top + height)
    canvas_width = tf.maximum(number(6, 2), left + width)
    with _bounded(canvas_height, canvas_width):
        rgb = _decode_plain(tf.strings.join([b"GIF89a", size, bytes(3), *descriptor, pixels]))
    fill = tf.gather(tf.reshape(colours, (256, 3)), transparent)
    nowhere = tf.constant(0, tf.int64)
    return _on_canvas(rgb, top, left, canvas_height, canvas_width, fill), nowhere, nowhere


def _gif_colours(data: tf.Tensor, flags: tf.Tensor | int, skip: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where a colour table begins, `skip` bytes behind its flags, and how many bytes it has, 0 without one."""
    stated = binary.number(data, flags, 1)
    count = 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), binary.masked(stated, 7))
    return tf.cast(flags + skip, tf.int64), binary.where(stated >= 128, count, 0)


def _gif_frame(data: tf.Tensor) -> list[tf.Tensor]:
    """Return where a GIF file's first frame is described, and the index that is transparent in it, 0 for none.

    Before a frame (",") stand extensions ("!"): their kind, then blocks of a size and as many bytes, until a size of 0.
    """
    table, count = _gif_colours(data, 10, 3)

    def before(at: tf.Tensor, in_extension: tf.Tensor, transparent: tf.Tensor) -> tf.Tensor:
        return (at < binary.end(data)) & (in_extension | (binary.number(data, at, 1) != ord(",")))

    def step(at: tf.Tensor, in_extension: tf.Tensor, transparent: tf.Tensor) -> list[tf.Tensor]:
        value = binary.number(data, at, 1)
        begins = tf.logical_not(in_extension) & (value == ord("!"))
        states = (
            begins & (binary.number(data, at + 1, 1) == 0xF9) & (binary.masked(binary.number(data, at + 3, 1), 1) == 1)
        )
        transparent = binary.where(states, binary.number(data, at + 6, 1), transparent)
        following = at + binary.where(begins, 2, binary.where(in_extension, 1 + value, 1))
        return [following, begins | (in_extension & (value > 0)), transparent]

    start = [table + count, tf.constant(False), tf.constant(0, tf.int64)]
    at, _, transparent = tf.while_loop(before, step, start, maximum_iterations=binary.MAX_STEPS)
    return [at, transparent]


def _bounded(height: tf.Tensor, width: tf.Tensor, where: tf.Tensor | bool = True) -> Any:
    """A context in which an image of more pixels than Pillow decodes is refused."""
    message = [f"an image of more than {_MAX_PIXELS} pixels, perhaps a decompression bomb"]
    return tf.control_dependencies(
        [tf.debugging.Assert(tf.logical_not(where) | (height * width <= _MAX_PIXELS), message)]
    )


def _decode_plain(encoded: tf.Tensor) -> tf.Tensor:
    """Decode what TensorFlow decodes as Pillow does: uint8 (height, width, 3)."""
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _on_canvas(
    rgb: tf.Tensor, top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor, fill: tf.Tensor | list[int]
) -> tf.Tensor:
    """Put a frame on a canvas (height, width) of the colour `fill`."""
    frame_height, frame_width = _size(rgb)
    margins = [[top, height - top - frame_height], [left, width - left - frame_width], [0, 0]]
    inside = tf.pad(tf.ones_like(rgb, tf.bool), margins)
    return tf.where(inside, tf.pad(rgb, margins), tf.cast(fill, tf.uint8))


def _size(rgb: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    shape = tf.shape(rgb, tf.int64)
    return shape[0], shape[1]
