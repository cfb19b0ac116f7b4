"""Every encoding of camera images against slow references that are written here, and OpenCV."""

import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.image_encodings import MAX_PIXELS
from evdistill_core.messages.images import (
    DEPTH_IMAGES,
    ENCODINGS,
    EightBits,
    ImageReader,
    check_image,
    decode_image,
    to_grey,
)
from evdistill_core.messages.standard import CompressedImage, Header, Image

BAYER = ("rggb", "bggr", "gbrg", "grbg")
PLANAR = ("nv12", "nv21", "nv24")
#: encoding -> bytes of a number and the place of red, green and blue (grey: one place)
ORDERS = {
    "mono8": (1, 1, [0]),
    "8UC1": (1, 1, [0]),
    "mono16": (2, 1, [0]),
    "16UC1": (2, 1, [0]),
    "rgb8": (1, 3, [0, 1, 2]),
    "rgb16": (2, 3, [0, 1, 2]),
    "bgr8": (1, 3, [2, 1, 0]),
    "bgr16": (2, 3, [2, 1, 0]),
    "8UC3": (1, 3, [2, 1, 0]),
    "16UC3": (2, 3, [2, 1, 0]),
    "rgba8": (1, 4, [0, 1, 2]),
    "rgba16": (2, 4, [0, 1, 2]),
    "bgra8": (1, 4, [2, 1, 0]),
    "bgra16": (2, 4, [2, 1, 0]),
    "8UC4": (1, 4, [2, 1, 0]),
    "16UC4": (2, 4, [2, 1, 0]),
}
UYVY, YUYV = ("yuv422", "uyvy"), ("yuv422_yuy2", "yuyv")


def number(image, at, size):
    order = "big" if image.is_bigendian else "little"
    return int.from_bytes(bytes(image.data[at : at + size]), order)


def slow_colors(image):
    """Pick every number out of the bytes, one by one."""
    size, channels, places = ORDERS[image.encoding]
    found = [
        [
            [
                number(image, y * image.step + (x * channels + place) * size, size)
                for place in places
            ]
            for x in range(image.width)
        ]
        for y in range(image.height)
    ]
    pixels = np.array(found, f"u{size}")
    return pixels[:, :, 0] if len(places) == 1 else pixels


def mirrored(at, size):
    return abs(at) if at < size else 2 * (size - 1) - at


def slow_mosaic(image):
    """Give each pixel its own colour, and of the others the mean of the nearest with that colour.

    Beyond the border lie the pixels mirrored at it.
    """
    order, bits = image.encoding[6:10], int(image.encoding[10:])
    size = bits // 8
    height, width = image.height, image.width

    def at(y, x):
        y, x = mirrored(y, height), mirrored(x, width)
        return number(image, y * image.step + x * size, size)

    def color(y, x):
        return order[(y % 2) * 2 + x % 2]

    found = np.zeros((height, width, 3), f"u{size}")
    for y in range(height):
        for x in range(width):
            for channel, letter in enumerate("rgb"):
                near = [(0, 0)]
                if color(y, x) != letter:
                    around = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
                    near = [(dy, dx) for dy, dx in around if color(y + dy, x + dx) == letter]
                    if letter == "g":
                        near = [(dy, dx) for dy, dx in near if not (dy and dx)]
                total = sum(at(y + dy, x + dx) for dy, dx in near)
                found[y, x, channel] = (2 * total + len(near)) // (2 * len(near))
    return found


def bt601(luma, u, v):
    """Return RGB of Y in 16..235 and chroma around 128, as ITU-R BT.601 has it."""
    y, u, v = 255 / 219 * (max(luma, 16) - 16), u - 128, v - 128
    rgb = (
        y + 1.402 * 255 / 224 * v,
        y - (0.114 * 1.772 * u + 0.299 * 1.402 * v) / 0.587 * 255 / 224,
        y + 1.772 * 255 / 224 * u,
    )
    return [min(max(value, 0), 255) for value in rgb]


def slow_yuv(image):
    """Look up Y, U and V of every pixel where V4L2's documentation has them."""
    data, step, height = bytes(image.data), image.step, image.height
    found = np.zeros((height, image.width, 3))
    for y in range(height):
        for x in range(image.width):
            pair = y * step + 4 * (x // 2)
            if image.encoding in UYVY:
                luma, u, v = data[pair + 1 + 2 * (x % 2)], data[pair], data[pair + 2]
            elif image.encoding in YUYV:
                luma, u, v = data[pair + 2 * (x % 2)], data[pair + 1], data[pair + 3]
            else:
                luma = data[y * step + x]
                full = image.encoding == "nv24"
                row, place = (y * 2 * step, 2 * x) if full else (y // 2 * step, x // 2 * 2)
                u, v = data[height * step + row + place :][:2]
                if image.encoding == "nv21":
                    u, v = v, u
            found[y, x] = bt601(luma, u, v)
    return found


def row_bytes(encoding, width):
    if encoding in ORDERS:
        size, channels, _ = ORDERS[encoding]
        return width * size * channels
    if encoding.startswith("bayer"):
        return width * int(encoding[10:]) // 8
    return width if encoding in PLANAR else 2 * (width + width % 2)


def noise(encoding, width, height, *, padding=0, big=0, seed=0):
    rows = {"nv12": height * 3 // 2, "nv21": height * 3 // 2, "nv24": height * 3}
    step = row_bytes(encoding, width) + padding
    size = step * rows.get(encoding, height)
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    return Image(Header(), height, width, encoding, big, step, data)


few = settings(max_examples=15, deadline=None)
sizes = st.integers(1, 9)
paddings = st.integers(0, 7)


@pytest.mark.parametrize("encoding", ORDERS)
@given(
    size=st.tuples(sizes, sizes), padding=paddings, big=st.integers(0, 1), seed=st.integers(0, 99)
)
@few
def test_grey_and_colors_are_the_numbers_of_the_message(encoding, size, padding, big, seed):
    image = noise(encoding, *size, padding=padding, big=big, seed=seed)
    found = decode_image(Image.parse(image.serialize()))
    expected = slow_colors(image)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype
    assert found.dtype.isnative
    assert not found.flags.writeable


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", BAYER)
@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)), padding=paddings, big=st.integers(0, 1)
)
@few
def test_mosaics_are_interpolated_bilinearly(order, bits, size, padding, big):
    image = noise(f"bayer_{order}{bits}", *size, padding=padding, big=big)
    np.testing.assert_array_equal(decode_image(image), slow_mosaic(image))


@pytest.mark.parametrize("order", BAYER)
def test_mosaics_are_those_of_opencv_but_for_the_border(order):
    image = noise(f"bayer_{order}8", 64, 48)
    code = getattr(cv2, f"COLOR_Bayer{order.upper()}2RGB")
    expected = cv2.cvtColor(np.array(image.to_array()), code)
    np.testing.assert_array_equal(decode_image(image)[1:-1, 1:-1], expected[1:-1, 1:-1])


@pytest.mark.parametrize(
    ("color", "letter"), [((9, 0, 0), "r"), ((0, 9, 0), "g"), ((0, 0, 9), "b")]
)
@pytest.mark.parametrize("order", BAYER)
def test_a_mosaic_of_one_color_is_that_color_up_to_the_border(order, color, letter):
    tile = np.array([9 * (c == letter) for c in order], np.uint8).reshape(2, 2)
    image = Image.from_array(Header(), np.tile(tile, (3, 4)), "mono8")
    found = decode_image(replace(image, encoding=f"bayer_{order}8"))
    np.testing.assert_array_equal(found, np.full((6, 8, 3), color))


@pytest.mark.parametrize("encoding", [*UYVY, *YUYV, "nv24"])
@given(width=sizes, height=sizes, padding=paddings, seed=st.integers(0, 99))
@few
def test_yuv_is_bt601_for_any_width(encoding, width, height, padding, seed):
    image = noise(encoding, width, height, padding=padding, seed=seed)
    found = decode_image(image)
    assert found.shape == (height, width, 3)
    assert np.abs(found - slow_yuv(image)).max() <= 1.01


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@given(width=st.integers(1, 5), height=st.integers(1, 5), padding=paddings)
@few
def test_planar_yuv_is_bt601(encoding, width, height, padding):
    image = noise(encoding, 2 * width, 2 * height, padding=padding)
    assert np.abs(decode_image(image) - slow_yuv(image)).max() <= 1.01


@pytest.mark.parametrize(
    ("encoding", "code"),
    [
        ("yuv422", cv2.COLOR_YUV2RGB_UYVY),
        ("uyvy", cv2.COLOR_YUV2RGB_UYVY),
        ("yuv422_yuy2", cv2.COLOR_YUV2RGB_YUYV),
        ("yuyv", cv2.COLOR_YUV2RGB_YUYV),
    ],
)
def test_packed_yuv_is_that_of_opencv(encoding, code):
    image = noise(encoding, 32, 24)
    np.testing.assert_array_equal(decode_image(image), cv2.cvtColor(image.to_array(), code))


@pytest.mark.parametrize("encoding", [*UYVY, *YUYV])
def test_the_last_pair_of_an_odd_row_may_be_cut_in_half(encoding):
    whole = noise(encoding, 4, 3)
    rows = np.frombuffer(whole.data, np.uint8).reshape(3, 8)[:, :6]
    cut = replace(whole, width=3, step=6, data=rows.tobytes())
    # The pixel that is left has its own Y and one chroma; the other is that of the pair before.
    last = 2 if encoding in UYVY else 3
    filled = np.array(np.frombuffer(whole.data, np.uint8).reshape(3, 8))
    filled[:, 4 + last] = filled[:, last]
    expected = slow_yuv(replace(whole, width=3, data=filled.tobytes()))
    assert np.abs(decode_image(cut) - expected).max() <= 1.01


@pytest.mark.parametrize("encoding", [*UYVY, *YUYV])
def test_a_single_pixel_of_yuv_has_neutral_second_chroma(encoding):
    pair = bytes([128, 81]) if encoding in UYVY else bytes([81, 128])
    found = decode_image(Image(Header(), 1, 1, encoding, 0, 2, pair))
    assert np.abs(found[0, 0] - bt601(81, 128, 128)).max() <= 1


def test_planes_without_padding_are_read_whatever_step_says():
    image = noise("nv24", 4, 2)
    np.testing.assert_array_equal(decode_image(replace(image, step=8)), decode_image(image))


def test_every_encoding_is_in_one_of_these_tests():
    mosaics = {f"bayer_{order}{bits}" for order in BAYER for bits in (8, 16)}
    assert set(ENCODINGS) == {*ORDERS, *mosaics, *UYVY, *YUYV, *PLANAR}


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(cut=st.integers(1, 40))
@few
def test_what_does_not_fit_is_refused(encoding, cut):
    image = noise(encoding, 6, 6)
    short = replace(image, data=image.data[:-cut])
    # Of planes, the step counts only where they are padded.
    padded = noise(encoding, 6, 6, padding=2)
    for broken in (short, replace(padded, step=cut % row_bytes(encoding, 6))):
        for read in (check_image, decode_image):
            with pytest.raises(MessageError, match="do not fit"):
                read(broken)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(width=st.integers(0, 6), height=st.integers(0, 6))
@few
def test_any_size_is_read_or_refused_by_name(encoding, width, height):
    image = replace(noise(encoding, 6, 6), width=width, height=height)
    is_odd = encoding in ("nv12", "nv21") and (width % 2 or height % 2)
    is_thin = encoding.startswith("bayer") and min(width, height) < 2
    if not (width and height) or is_odd or is_thin:
        with pytest.raises(MessageError, match=r"0x.*pixels|x0 pixels|even sides|at least 2x2"):
            decode_image(image)
    else:
        check_image(image)
        assert decode_image(image).shape[:2] == (height, width)


@pytest.mark.parametrize(
    "size",
    [(0, 0), (0, 5), (5, 0), (0, 2**32 - 1), (2**32 - 1, 0), (2**32 - 1, 2**32 - 1), (6000, 6000)],
)
@pytest.mark.parametrize("encoding", ["mono8", "nv12", "yuyv"])
def test_images_without_pixels_and_those_with_too_many_are_refused(encoding, size):
    image = Image(Header(), *size, encoding, 0, size[1], b"")
    for read in (check_image, decode_image):
        with pytest.raises(MessageError, match=r"image of \d+x\d+ pixels; expected 1"):
            read(image)


@pytest.mark.parametrize("encoding", ["h264", "", "RGB8", "32FC1", "16SC1", "8UC2", "x" * 5000])
def test_what_is_no_camera_image_is_refused_with_those_that_are(encoding):
    image = Image(Header(), 1, 1, encoding, 0, 8, bytes(8))
    for read in (check_image, decode_image):
        with pytest.raises(MessageError) as caught:
            read(image)
        assert repr(encoding[:40]) in str(caught.value)
        assert "mono8, mono16" in str(caught.value)
        assert "yuv422_yuy2" in str(caught.value)
        assert len(str(caught.value)) < 600


# --- 16 bits to 8


def test_8_bits_stay_as_they_are():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert EightBits()(pixels) is pixels


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_depth_is_that_of_the_converter(bits):
    levels = np.array([[0, 1, (1 << bits) // 2, (1 << bits) - 1]], np.uint16)
    expected = [[0, int(bits == 8), 128, 255]]
    assert EightBits()(levels).tolist() == expected


@pytest.mark.parametrize("bits", [10, 12])
def test_dark_images_that_are_shifted_to_the_top_stay_dark(bits):
    dark = np.array([[0, 1, 17, 40]], np.uint16) << (16 - bits)
    np.testing.assert_array_equal(EightBits()(dark), dark >> 8)


def test_the_depth_rises_at_once_and_falls_after_many_images():
    to_eight_bits = EightBits()
    low, high = np.array([[1023]], np.uint16), np.array([[4095]], np.uint16)
    assert to_eight_bits(low)[0, 0] == 255
    assert to_eight_bits(high)[0, 0] == 255
    found = [int(to_eight_bits(low)[0, 0]) for _ in range(DEPTH_IMAGES + 1)]
    assert found == [63] * (DEPTH_IMAGES - 1) + [255] * 2


def test_black_images_say_nothing_of_the_depth():
    to_eight_bits = EightBits()
    assert to_eight_bits(np.zeros((2, 2), np.uint16)).max() == 0
    assert to_eight_bits(np.array([[4095]], np.uint16))[0, 0] == 255


@few
@given(st.lists(st.lists(st.integers(0, 65535), min_size=1, max_size=6), min_size=1, max_size=8))
def test_order_of_brightness_is_kept_and_nothing_wraps(images):
    to_eight_bits = EightBits()
    for image in images:
        pixels = np.array([image], np.uint16)
        before = pixels.copy()
        found = to_eight_bits(pixels)
        np.testing.assert_array_equal(pixels, before)
        order = np.argsort(pixels[0], kind="stable")
        assert (np.diff(found[0][order].astype(int)) >= 0).all()


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint32])
def test_other_numbers_are_no_camera_image(dtype):
    with pytest.raises(MessageError, match=np.dtype(dtype).name):
        EightBits()(np.zeros((2, 2), dtype))


def test_grey_is_luma():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    assert to_grey(image).tolist() == [[76, 150, 29, 255]]
    np.testing.assert_array_equal(to_grey(image[:, :, 0]), image[:, :, 0])


# --- JPEG and PNG


def packed(pixels, suffix, text):
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return CompressedImage(Header(), text, data.tobytes())


SMOOTH = np.stack(np.meshgrid(np.arange(32) * 8, np.arange(24) * 10), -1).astype(np.uint8)
COLORS = np.concatenate([SMOOTH, np.full((24, 32, 1), 60, np.uint8)], -1)  # RGB


@pytest.mark.parametrize(
    "text", ["bgr8; jpeg compressed bgr8", "rgb8; jpeg compressed bgr8", "jpeg", ""]
)
def test_jpeg_of_colors(text):
    found = decode_image(packed(COLORS[:, :, ::-1], ".jpg", text))
    assert found.shape == COLORS.shape
    assert np.abs(found.astype(int) - COLORS).mean() < 3
    assert not found.flags.writeable


@pytest.mark.parametrize("text", ["mono8; jpeg compressed ", "jpg"])
def test_jpeg_of_grey(text):
    found = decode_image(packed(SMOOTH[:, :, 0], ".jpg", text))
    assert np.abs(found.astype(int) - SMOOTH[:, :, 0]).mean() < 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("text", ["rgb8; png compressed bgr8", "png"])
def test_png_keeps_the_pixels(text, dtype):
    colors = COLORS.astype(dtype) * np.iinfo(dtype).max // 255
    for stored, expected in (
        (colors[:, :, ::-1], colors),
        (colors[:, :, 0], colors[:, :, 0]),
        (np.dstack([colors[:, :, ::-1], colors[:, :, 0]]), colors),  # with alpha
    ):
        found = decode_image(packed(stored, ".png", text))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == dtype


@pytest.mark.parametrize("order", BAYER)
def test_a_mosaic_that_was_compressed_as_grey_becomes_colors(order):
    mosaic = noise(f"bayer_{order}8", 8, 6)
    file = packed(np.array(mosaic.to_array()), ".png", f"bayer_{order}8; png compressed ")
    np.testing.assert_array_equal(decode_image(file), decode_image(mosaic))


def test_depth_maps_and_other_files_are_refused_by_name():
    png = packed(COLORS, ".png", "16UC1; compressedDepth png")
    with pytest.raises(MessageError, match="depth map"):
        check_image(replace(png, data=bytes(12) + png.data))
    with pytest.raises(MessageError, match=r"'h264'.*neither JPEG nor PNG.*x00.x00.x00.x01"):
        check_image(CompressedImage(Header(), "h264", b"\0\0\0\1abc"))
    with pytest.raises(MessageError, match="neither JPEG nor PNG: it is empty"):
        check_image(CompressedImage(Header(), "jpeg", b""))
    with pytest.raises(MessageError, match="neither JPEG nor PNG"):
        check_image(packed(COLORS, ".bmp", "bmp"))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@given(st.data())
@few
def test_files_that_are_cut_off_are_refused(suffix, data):
    whole = packed(COLORS, suffix, suffix[1:])
    end = data.draw(st.integers(0, len(whole.data) - 8))
    for read in (check_image, decode_image):
        with pytest.raises(MessageError):
            read(replace(whole, data=whole.data[:end]))


@few
@given(places=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12))
def test_a_damaged_jpeg_is_refused_or_gives_an_image(places):
    data = bytearray(packed(COLORS, ".jpg", "").data)
    for at, value in places:
        data[at % len(data)] = value
    try:
        found = decode_image(CompressedImage(Header(), "", bytes(data)))
    except MessageError:
        return
    assert found.dtype in (np.uint8, np.uint16)
    assert found.shape[2:] in ((), (3,))


@few
@given(at=st.integers(0, 4000), change=st.integers(1, 255))
def test_a_png_with_any_wrong_byte_is_refused(at, change):
    whole = packed(COLORS[:, :, ::-1], ".png", "")
    data = bytearray(whole.data)
    data[at % len(data)] ^= change
    with pytest.raises(MessageError):
        check_image(replace(whole, data=bytes(data)))
    np.testing.assert_array_equal(decode_image(whole), COLORS)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("size", [(65535, 65535), (0, 4)])
def test_files_that_announce_too_much_or_nothing_are_not_unpacked(suffix, size):
    data = bytearray(packed(COLORS, suffix, "").data)
    width, height = size
    if suffix == ".png":
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    else:
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    with pytest.raises(MessageError, match=f"{width}x{height} pixels; expected 1 .. {MAX_PIXELS}"):
        decode_image(CompressedImage(Header(), "", bytes(data)))


# --- messages of one topic


def png_of_nothing():
    """Return a PNG whose checksums are right and whose pixels are missing."""
    chunks = [
        (b"IHDR", bytes([0, 0, 0, 4, 0, 0, 0, 3, 8, 2, 0, 0, 0])),
        (b"IDAT", b"?"),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        data += len(body).to_bytes(4, "big") + name + body
        data += zlib.crc32(name + body).to_bytes(4, "big")
    return CompressedImage(Header(), "png", data)


def test_a_reader_counts_what_it_leaves_out_by_reason():
    reader = ImageReader()
    good = noise("mono8", 4, 3)
    assert reader.parse(good.serialize()) == Image.parse(good.serialize())
    assert reader.parse(replace(good, encoding="h264").serialize()) is None
    assert reader.parse(replace(good, encoding="h264").serialize()) is None
    assert reader.parse(good.serialize()[:30]) is None
    damaged = png_of_nothing()
    message = reader.parse(damaged.serialize(), CompressedImage.TYPE)
    assert message is not None
    assert reader.decode(message) is None
    counts = reader.left_out.as_dict()
    assert sum(counts.values()) == reader.left_out.total == 4
    assert [n for reason, n in counts.items() if "'h264'" in reason] == [2]


def test_a_reader_gives_8_bits():
    reader = ImageReader()
    message = reader.parse(noise("mono16", 4, 3).serialize())
    assert message is not None
    np.testing.assert_array_equal(reader.decode(message), decode_image(message) >> 8)
