"""A layout of labelled images of one's own."""

from evdistill_core.data.image_layouts import MaskImages, mask_reader
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.foundation.labels import ClassTable

NAMES = ("asphalt", "lorry")  # what the ids 0 and 1 in the label images mean
TO_SIX = {"asphalt": "flat", "lorry": "vehicle"}  # names that are left out are ignored


def side_by_side(config: ImagesConfig, classes: ClassTable) -> MaskImages:
    """Open root/<split>/*.jpg, each with its ids in a file of the same name, .ids.png."""
    images = sorted((config.root / config.split).glob("*.jpg"))
    pairs = [(path, path.with_suffix(".ids.png")) for path in images]
    return MaskImages(pairs, mask_reader(config, classes, NAMES, TO_SIX))
